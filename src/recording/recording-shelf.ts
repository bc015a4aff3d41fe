/** The recordings that a daemon lets others read: those directly in its own folder, by name. No path comes from outside, and no link leads out. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MetronomeError } from '../core/errors.ts';
import { SEGMENT_NAME } from './format.ts';
import { startOfRecording } from './recording-folder.ts';

/** One of them. */
export interface ShelvedRecording {
  readonly name: string;
  /** Ms since 1970. */
  readonly startedAtMs: number;
  readonly bytes: number;
  /** It is being written: it ends where it is read. */
  readonly isRunning: boolean;
}

/** What stands there, newest first, and how many more there are. */
export interface Shelf {
  readonly recordings: readonly ShelvedRecording[];
  readonly leftOut: number;
}

/** Where to look. */
export interface ShelfOptions {
  /** '': there is none. */
  readonly dir: string;
  /** Name of the recording that is being written; '': none. */
  readonly running: string;
}

/** Recordings that are listed. */
const MAX_LISTED = 200;

/** Lists the newest ones. A folder that does not exist holds none; one that goes meanwhile is left out. */
export async function listRecordings({ dir, running }: ShelfOptions): Promise<Shelf> {
  const entries = dir === '' ? [] : await readdir(dir, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new MetronomeError('STATE_CORRUPT', `The folder ${dir} (recording.dir) cannot be read: ${error.message}.`, { cause: error });
  });
  // A link is no directory here.
  const names = entries.filter((entry) => entry.isDirectory() && startOfRecording(entry.name) !== undefined).map(({ name }) => name).sort().reverse();
  const recordings: ShelvedRecording[] = [];
  for (const name of names.slice(0, MAX_LISTED)) {
    const bytes = await bytesOf(dir, name).catch(() => undefined); // it was removed, or what is in it is no recording
    if (bytes !== undefined) recordings.push({ name, startedAtMs: startOfRecording(name) as number, bytes, isRunning: name === running }); // names were chosen by it
  }
  return { recordings, leftOut: Math.max(0, names.length - MAX_LISTED) };
}

/** The folder of the recording of this name. Throws INVALID_REQUEST. */
export async function takeRecording({ dir, running }: ShelfOptions, name: string): Promise<ShelvedRecording & { readonly folder: string }> {
  const startedAtMs = startOfRecording(name);
  if (startedAtMs === undefined) throw refused(name, 'it must be the name of one, as GET /inspect/api/recordings lists them');
  if (dir === '') throw refused(name, 'the daemon has no folder of recordings (recording.dir)');
  const folder = join(dir, name);
  try {
    if (!(await lstat(folder)).isDirectory()) throw refused(name, 'it is no folder');
    return { name, startedAtMs, bytes: await bytesOf(dir, name), isRunning: name === running, folder };
  } catch (error) {
    throw error instanceof MetronomeError ? error : refused(name, 'it is not there any more');
  }
}

/** Bytes of its segments. Throws when there are none, or one is not a file of its own. */
async function bytesOf(dir: string, recording: string): Promise<number> {
  let bytes = 0, segments = 0;
  for (const name of await readdir(join(dir, recording))) {
    if (!SEGMENT_NAME.test(name)) continue;
    const found = await lstat(join(dir, recording, name));
    if (!found.isFile()) throw refused(recording, `${name} in it is not a file; links are not followed`);
    bytes += found.size;
    segments++;
  }
  if (segments === 0) throw refused(recording, 'it holds no segment (000001.mrec)');
  return bytes;
}

function refused(name: string, why: string): MetronomeError {
  return new MetronomeError('INVALID_REQUEST', `The recording ${JSON.stringify(name)} cannot be played: ${why}.`, { violations: [{ field: 'recording', description: why }] });
}
