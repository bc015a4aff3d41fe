/** Where recordings lie: each in a folder of its own, named by the time at which it began, under one that is configured. The oldest go. */
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MetronomeError } from '../core/errors.ts';
import { SEGMENT_NAME } from './format.ts';

/** "20261125T190838123Z-4711": time and process. */
const FOLDER_NAME = /^\d{8}T\d{9}Z-\d+$/;

/** Makes the folder of a new recording and removes the oldest ones, so that `keep` are left with it. */
export function openRecordingFolder(dir: string, atMs: number, keep: number): string {
  const stamp = new Date(atMs).toISOString().replaceAll(/[-:.]/g, '');
  const folder = join(dir, `${stamp}-${process.pid}`);
  try {
    mkdirSync(dir, { recursive: true });
    const older = recordingsIn(dir);
    for (const name of older.slice(0, Math.max(0, older.length - (keep - 1)))) rmSync(join(dir, name), { recursive: true, force: true });
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    throw new MetronomeError('INVALID_REQUEST', `No recording can be made in ${dir} (recording.dir): ${error instanceof Error ? error.message : String(error)}. Choose another folder.`, { cause: error });
  }
  return folder;
}

/** When the recording of this name began, ms since 1970; undefined: no recording is called so. */
export function startOfRecording(name: string): number | undefined {
  if (!FOLDER_NAME.test(name)) return undefined;
  const [, year, month, day, hours, minutes, seconds, ms] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z/.exec(name) ?? [];
  const atMs = Date.parse(`${year}-${month}-${day}T${hours}:${minutes}:${seconds}.${ms}Z`);
  return Number.isNaN(atMs) ? undefined : atMs;
}

/** Names of the recordings in a folder, the oldest first. */
export function recordingsIn(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory() && FOLDER_NAME.test(entry.name)).map(({ name }) => name).sort();
}

/** The folder of one recording: `path` itself, or the newest recording in it. */
export function findRecording(path: string): { readonly folder: string; readonly others: number } {
  if (!existsSync(path) || !statSync(path).isDirectory()) throw new MetronomeError('INVALID_REQUEST', `There is no folder ${path}; a recording is one, made by \`metronome up --record <dir>\`.`);
  if (readdirSync(path).some((name) => SEGMENT_NAME.test(name))) return { folder: path, others: 0 };
  const names = recordingsIn(path);
  const newest = names.at(-1);
  if (newest === undefined) throw new MetronomeError('INVALID_REQUEST', `${path} holds no recording: no segment (000001.mrec) and no folder of one.`);
  return { folder: join(path, newest), others: names.length - 1 };
}

/** Paths of the segments of a recording, in order. */
export function segmentsOf(folder: string): string[] {
  return readdirSync(folder).filter((name) => SEGMENT_NAME.test(name)).sort().map((name) => join(folder, name));
}
