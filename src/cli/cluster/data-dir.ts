/** The folder of an embedded cluster: a lasting one, or a temporary one that goes with the process that made it. */
import { lstat, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';

const PREFIX = 'metronome-up-';

/** A folder in use. */
export interface ClusterDir {
  readonly path: string;
  readonly isTemporary: boolean;
  /** Removes it if it is temporary. */
  dispose(): Promise<void>;
}

/** Opens the folder; '' makes a temporary one. What killed processes left behind is removed on the way. */
export async function openClusterDir(path: string): Promise<ClusterDir> {
  if (path !== '') {
    await mkdir(join(path, 'logs'), { recursive: true }).catch((cause: unknown) => {
      throw new MetronomeError('CONFIG_INVALID', `The data folder "${path}" cannot be made: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    });
    return { path, isTemporary: false, dispose: async () => {} };
  }
  await sweep();
  const made = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
  await mkdir(join(made, 'logs'));
  return { path: made, isTemporary: true, dispose: () => rm(made, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }) };
}

/** Removes the folders of processes that are gone. They carry the process id in their name. */
async function sweep(): Promise<void> {
  const uid = process.getuid?.();
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    const pid = Number(/^metronome-up-(\d+)-/.exec(name)?.[1] ?? 0);
    if (pid === 0 || isAlive(pid)) continue;
    const path = join(tmpdir(), name);
    const found = await lstat(path).catch(() => undefined); // somebody else swept faster
    if (found?.isDirectory() === true && (uid === undefined || found.uid === uid)) await rm(path, { recursive: true, force: true }).catch(() => {}); // left for the next time
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
