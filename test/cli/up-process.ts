/** Real `metronome up` processes for tests, and what they leave behind. */
import { mkdtemp, readFile, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, vi } from 'vitest';
import { isAlive, start, type RunningProcess } from './run.ts';

const SLOW_START_MS = 60_000;

/** What `up -o json` says. */
export interface Addresses {
  readonly grpcAddress: string;
  readonly httpUrl: string;
  readonly nodes: readonly string[];
  readonly dataDir: string;
  readonly emulated?: Readonly<Record<string, string>>;
  readonly pids: readonly number[];
}

/** A temporary folder and `up` processes in it; all are gone after each test of the file that calls it. */
export function useUps(): { readonly dir: () => string; readonly follow: (up: RunningProcess) => void; readonly startUp: (...args: readonly string[]) => Promise<{ readonly up: RunningProcess; readonly addresses: Addresses }> } {
  let dir = '';
  const running: { up: RunningProcess; pids: readonly number[] }[] = [];
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'metronome-up-test-'));
  });
  afterEach(async () => {
    for (const { up, pids } of running.splice(0)) {
      for (const pid of [up.pid, ...pids]) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has ended, as it should.
        }
      }
      await up.ended;
    }
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));
  return {
    dir: () => dir,
    // For one that was started in another way: it is ended as well.
    follow: (up) => void running.push({ up, pids: [] }),
    // On free ports; resolves with its addresses.
    async startUp(...args) {
      const up = start(['up', '-o', 'json', '--grpc-port', '0', '--http-port', '0', '--memory', '512MiB', ...args], { cwd: dir });
      const entry = { up, pids: [] as readonly number[] };
      running.push(entry);
      const ended = up.ended.then(({ code, err }) => {
        throw new Error(`up ended with ${code}: ${err}`);
      });
      await Promise.race([ended, vi.waitFor(() => expect(up.out()).toContain('\n'), { timeout: SLOW_START_MS, interval: 50 })]);
      ended.catch(() => {});
      const addresses = JSON.parse(up.out()) as Addresses;
      entry.pids = addresses.pids;
      return { up, addresses };
    },
  };
}

/** Processes that have to do with a folder: by command line, working directory or environment. */
export async function processesOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid || !(await isAlive(Number(pid)))) continue;
    const texts = await Promise.all([readFile(`/proc/${pid}/cmdline`, 'utf8'), readFile(`/proc/${pid}/environ`, 'utf8'), readlink(`/proc/${pid}/cwd`)].map((text) => text.catch(() => ''))); // ended meanwhile
    if (texts.some((text) => text.includes(folder))) found.push(`${pid} ${texts[0]?.replaceAll('\0', ' ')}`);
  }
  return found;
}
