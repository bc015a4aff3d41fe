/**
 * One process per data directory. The lock is SQLite's own file lock on `metronome.lock` (an empty database, held in an
 * exclusive transaction that is never committed): the kernel drops it when the holder dies, however it dies, so nothing has
 * to be cleaned up, and taking it over has no race as a file with a pid in it would. `metronome.owner.json` only tells
 * people who the holder is. Never open the lock file by other means: closing any handle on it drops the process's locks.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { MetronomeError } from '../core/errors.ts';
import { fromSqlite } from './sqlite-errors.ts';

/** A held lock. */
export interface DirectoryLock {
  release(): void;
}

/** Takes the lock of `dir`, waiting at most `waitMs` for a holder that is about to end. STATE_LOCKED names the holder. */
export function lockDirectory(dir: string, waitMs: number): DirectoryLock {
  const file = join(dir, 'metronome.lock');
  const ownerFile = join(dir, 'metronome.owner.json');
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: waitMs });
    database.exec('BEGIN EXCLUSIVE');
  } catch (thrown) {
    database?.close();
    const error = fromSqlite(thrown, file);
    throw error.code === 'STATE_LOCKED' ? locked(dir, ownerFile) : error;
  }
  const held = database;
  // Renamed into place: whoever reads it sees a whole file.
  writeFileSync(`${ownerFile}.new`, JSON.stringify({ pid: process.pid, host: hostname() }));
  renameSync(`${ownerFile}.new`, ownerFile);
  return {
    release() {
      rmSync(ownerFile, { force: true });
      held.close();
    },
  };
}

function locked(dir: string, ownerFile: string): MetronomeError {
  const owner = readOwner(ownerFile);
  const who = owner === undefined ? 'another process' : `process ${owner.pid} on ${owner.host}`;
  return new MetronomeError('STATE_LOCKED', `The data directory "${dir}" is in use by ${who}. End it first, or use another data directory.`);
}

function readOwner(ownerFile: string): { readonly pid: number; readonly host: string } | undefined {
  try {
    const owner: unknown = JSON.parse(readFileSync(ownerFile, 'utf8'));
    if (typeof owner !== 'object' || owner === null || !('pid' in owner) || !('host' in owner)) return undefined;
    return typeof owner.pid === 'number' && typeof owner.host === 'string' ? { pid: owner.pid, host: owner.host } : undefined;
  } catch {
    // The holder is between taking the lock and writing its name; that somebody holds it is certain all the same.
    return undefined;
  }
}
