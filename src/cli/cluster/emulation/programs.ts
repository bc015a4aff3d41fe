/** Runs ip, tc and their like, with an error that tells the command and what it said. */
import { spawn, spawnSync } from 'node:child_process';
import { MetronomeError } from '../../../core/errors.ts';

const TIMEOUT_MS = 30_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** What a program said. */
export interface Outcome {
  readonly ok: boolean;
  readonly out: string;
  /** Why it failed, one line. */
  readonly problem: string;
}

/** Runs it and waits, blocking: for probes and for what must not be interrupted. */
export function runNow(program: string, args: readonly string[], input = ''): Outcome {
  const { status, stdout, stderr, error } = spawnSync(program, [...args], { input, encoding: 'utf8', timeout: TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES });
  if (error !== undefined) return { ok: false, out: '', problem: `${program}: ${error.message}` };
  return { ok: status === 0, out: stdout, problem: status === 0 ? '' : oneLine(stderr) || `${program} ended with ${status}` };
}

/** Runs it; UNAVAILABLE with its own words when it fails. */
export async function run(program: string, args: readonly string[], input = ''): Promise<string> {
  const child = spawn(program, [...args], { stdio: ['pipe', 'pipe', 'pipe'], timeout: TIMEOUT_MS });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => void (out += chunk.toString('utf8')));
  child.stderr.on('data', (chunk: Buffer) => void (err += chunk.toString('utf8')));
  child.stdin.on('error', () => {}); // it ended before it read all; its status says so
  child.stdin.end(input);
  const status = await new Promise<number | Error | null>((done) => {
    child.once('error', done);
    child.once('close', done);
  });
  if (status === 0) return out;
  throw new MetronomeError('UNAVAILABLE', `"${[program, ...args].join(' ')}" failed: ${status instanceof Error ? status.message : oneLine(err) || `it ended with ${status}`}${input === '' ? '' : `\n  input:\n  ${input.trim().replaceAll('\n', '\n  ')}`}`);
}

function oneLine(text: string): string {
  return text.trim().split('\n').filter((line) => line !== '').slice(0, 3).join('; ');
}
