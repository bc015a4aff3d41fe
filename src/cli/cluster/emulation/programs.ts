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

/** What helpers carry in their environment: when their owner is killed, they are found by it and do not go on behind its back. */
export const HELPER_MARKER = 'METRONOME_EMULATION';

/** Runs a helper for the cluster `id`; UNAVAILABLE with its own words when it fails. */
export async function run(id: string, program: string, args: readonly string[], input: string): Promise<void> {
  const child = spawn(program, [...args], { stdio: ['pipe', 'ignore', 'pipe'], timeout: TIMEOUT_MS, env: { PATH: process.env['PATH'] ?? '', [HELPER_MARKER]: `${id}.` } });
  let err = '';
  child.stderr.on('data', (chunk: Buffer) => void (err += chunk.toString('utf8')));
  child.stdin.on('error', () => {}); // it ended before it read all; its status says so
  child.stdin.end(input);
  const status = await new Promise<number | Error | null>((done) => {
    child.once('error', done);
    child.once('close', done);
  });
  if (status === 0) return;
  throw new MetronomeError('UNAVAILABLE', `"${[program, ...args].join(' ')}" failed: ${status instanceof Error ? status.message : oneLine(err) || `it ended with ${status}`}\n  input:\n  ${input.trim().replaceAll('\n', '\n  ')}`);
}

function oneLine(text: string): string {
  return text.trim().split('\n').filter((line) => line !== '').slice(0, 3).join('; ');
}
