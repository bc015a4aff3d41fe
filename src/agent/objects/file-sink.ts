/**
 * A file that is written and hashed at once, for bytes from a socket. Synchronous, because the caller's buffer is read into again
 * as soon as it returns: no byte is ever queued in memory, and a slow disk holds up the socket, not the heap. Only for the data thread.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { MetronomeError } from '../../core/errors.ts';

/** True for an error of the file system that says that there is no room. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}

/** What the file system said as an error of the store. */
export function storeError(cause: unknown): MetronomeError {
  if (cause instanceof MetronomeError) return cause;
  const text = cause instanceof Error ? cause.message : String(cause);
  return isDiskFull(cause)
    ? new MetronomeError('STORE_FULL', `The disk under the object store is full (${text}). Free space there, or lower agent.objectQuota to what it has.`, { component: 'agent', cause })
    : new MetronomeError('INTERNAL', `The object store cannot write: ${text}`, { component: 'agent', cause });
}

export class FileSink {
  writtenBytes = 0;
  readonly #fd: number;
  #hash: Hash = createHash('sha256');
  #digest: string | undefined;
  #isOpen = true;

  /** Makes or empties the file. */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'w');
    } catch (error) {
      throw storeError(error);
    }
  }

  /** Appends. Throws STORE_FULL when the disk is full. */
  write(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done, bytes.length - done, this.writtenBytes + done);
    } catch (error) {
      throw storeError(error);
    }
    this.writtenBytes += bytes.length;
  }

  /** Begins again from nothing. */
  restart(): void {
    ftruncateSync(this.#fd, 0);
    this.writtenBytes = 0;
    this.#hash = createHash('sha256');
    this.#digest = undefined;
  }

  /** SHA-256 of what was written, hex; write nothing after it. */
  digest(): string {
    return (this.#digest ??= this.#hash.digest('hex'));
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#fd);
  }
}
