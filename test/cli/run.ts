/** Runs command lines: in this process with captured output, or as real processes. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { runCli } from '../../src/cli/program.ts';

export const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: string | Uint8Array;
  readonly columns?: number;
  readonly colour?: boolean;
  readonly signal?: AbortSignal;
}

/** Runs a command line in this process. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const out: Uint8Array[] = [];
  let err = '';
  const code = await runCli(args, {
    io: {
      out: (text) => void out.push(Buffer.from(text)),
      err: (text) => void (err += text),
      env: options.env ?? {},
      cwd: options.cwd ?? process.cwd(),
      columns: options.columns,
      outColor: options.colour ?? false,
      errColor: options.colour ?? false,
      readStdin: async () => Buffer.from(options.stdin ?? ''),
    },
    signal: options.signal ?? new AbortController().signal,
    takeSignals: () => {},
  });
  return { code, out: Buffer.concat(out).toString('utf8'), err };
}

/** A command line as a process that runs on. */
export interface RunningProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** What it wrote so far. */
  readonly out: () => string;
  readonly err: () => string;
  /** Its end. */
  readonly ended: Promise<Ran & { readonly signal: NodeJS.Signals | null }>;
}

/** Starts main.ts as a person would. The environment is this one without what could change the outcome. */
export function start(args: readonly string[], options: RunOptions = {}): RunningProcess {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('METRONOME_') && name !== 'FORCE_COLOR'));
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: options.cwd ?? process.cwd(), env: { ...env, ...options.env }, stdio: ['pipe', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => void (out += chunk.toString('utf8')));
  child.stderr.on('data', (chunk: Buffer) => void (err += chunk.toString('utf8')));
  child.stdin.end(options.stdin ?? '');
  const ended = new Promise<Ran & { signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code: code ?? -1, out, err, signal }));
  });
  return { child, pid: child.pid ?? 0, out: () => out, err: () => err, ended };
}

/** Runs main.ts to its end. */
export function runAsProcess(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return start(args, options).ended;
}

/** True while a process lives; a zombie does not. */
export async function isAlive(pid: number): Promise<boolean> {
  const { readFile } = await import('node:fs/promises');
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined); // gone
  return stat !== undefined && !/^\d+ \(.*\) Z/.test(stat);
}
