/** The one mapping of SQLite's result codes to the error table. */
import { MetronomeError } from '../core/errors.ts';

// Primary result codes, https://www.sqlite.org/rescode.html
const PERM = 3;
const BUSY = 5;
const LOCKED = 6;
const READONLY = 8;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANTOPEN = 14;
const TOOBIG = 18;
const AUTH = 23;
const NOTADB = 26;

/** What was thrown while `file` was used, as a MetronomeError; those pass unchanged. */
export function fromSqlite(thrown: unknown, file: string): MetronomeError {
  if (thrown instanceof MetronomeError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  switch (primaryCode(thrown)) {
    case BUSY: case LOCKED:
      return new MetronomeError('STATE_LOCKED', `"${file}" is locked by another program (${text}). End that program, or use another data directory.`, { cause: thrown });
    case PERM: case READONLY: case CANTOPEN: case AUTH:
      return new MetronomeError('PERMISSION_DENIED', `"${file}" cannot be opened for writing (${text}). Check the permissions of the data directory and its files.`, { cause: thrown });
    case CORRUPT: case NOTADB:
      return new MetronomeError('STATE_CORRUPT', `"${file}" is damaged or not a database of Metronome (${text}). Restore it from a backup, or move it away to start empty.`, { cause: thrown });
    case IOERR:
      return new MetronomeError('STATE_CORRUPT', `The disk failed to read or write "${file}" (${text}). Check the disk and the system log, then start again.`, { cause: thrown });
    case FULL:
      return new MetronomeError('STORE_FULL', `"${file}" cannot grow (${text}): the disk is full or the store's limit is reached. Free space, prune ended invocations, or raise the limit.`, { cause: thrown });
    case TOOBIG:
      return new MetronomeError('PAYLOAD_TOO_LARGE', `A value is too large for "${file}" (${text}).`, { cause: thrown });
    default:
      return MetronomeError.from(thrown);
  }
}

/** SQLite's primary result code of what node:sqlite threw; undefined for anything else. */
function primaryCode(thrown: unknown): number | undefined {
  if (!(thrown instanceof Error) || !('errcode' in thrown) || typeof thrown.errcode !== 'number') return undefined;
  return thrown.errcode & 0xff;
}
