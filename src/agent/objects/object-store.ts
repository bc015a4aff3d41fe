/**
 * The objects of one node: immutable files with a digest. Bounded by a quota; the least recently used object that nobody
 * pins goes first. Every way in ends in a rename, so that a crash leaves whole objects and temporary files, nothing between.
 *
 * On disk: data/<id>, meta/<id>.json, tmp/ (emptied at the start).
 */
import { createHash, randomBytes, type Hash } from 'node:crypto';
import { chmod, mkdir, open, readFile, readdir, rename, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import type { ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';

/** An object that is here. */
export interface StoredObject {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** SHA-256, lower-case hex. */
  readonly digest: string;
  /** The file. Never write to it. */
  readonly path: string;
}

/** Options of a store. */
export interface ObjectStoreOptions {
  readonly dir: string;
  /** Name of this node, for the holders of references. */
  readonly node: string;
  readonly quotaBytes: number;
  readonly onAdded: (object: ObjectRef) => void;
  readonly onRemoved: (id: string) => void;
}

/** Objects in one store, so that its index and its snapshots stay small. */
const MAX_OBJECTS = 100_000;
/** Bytes that are collected before they are written. */
const BATCH_BYTES = 1024 * 1024;
const HASH_CHUNK_BYTES = 256 * 1024;
const ID_PATTERN = /^[A-Za-z0-9._-]{1,128}$/;

/** True for an id that may become a file name. */
export function isObjectId(id: string): boolean {
  return ID_PATTERN.test(id) && id !== '.' && id !== '..';
}

/** True for a name that an object may have. */
export function isObjectName(name: string): boolean {
  return name === '' || (Buffer.byteLength(name) <= 255 && !/[/\\\0]/.test(name) && name !== '.' && name !== '..');
}

interface Entry extends StoredObject {
  pins: number;
}

/** Bytes on their way into the store. Exactly one of commit and abort must be called. */
export interface ObjectWriter {
  /** Appends. Rejects with STORE_FULL when there is no room; abort it then. */
  write(chunk: Uint8Array): Promise<void>;
  readonly writtenBytes: number;
  /** Begins again from nothing. */
  restart(): Promise<void>;
  /** SHA-256 of what was written, hex; write nothing after it. */
  digest(): string;
  /** Makes it an object. */
  commit(meta: { readonly id: string; readonly name: string }): Promise<StoredObject>;
  abort(): Promise<void>;
}

export class ObjectStore {
  readonly #options: ObjectStoreOptions;
  readonly #data: string;
  readonly #meta: string;
  readonly #tmp: string;
  /** In order of use, the least recent first. */
  readonly #objects = new Map<string, Entry>();
  #usedBytes = 0;
  /** Of them, bytes of objects that are pinned. */
  #pinnedBytes = 0;
  /** Bytes that writers have taken. */
  #reservedBytes = 0;
  /** Files that are being removed, by id. */
  readonly #removals = new Map<string, Promise<void>>();

  private constructor(options: ObjectStoreOptions) {
    this.#options = options;
    this.#data = join(options.dir, 'data');
    this.#meta = join(options.dir, 'meta');
    this.#tmp = join(options.dir, 'tmp');
  }

  /** Opens a store with what a former agent left in it. */
  static async open(options: ObjectStoreOptions): Promise<ObjectStore> {
    const store = new ObjectStore(options);
    await store.#load();
    return store;
  }

  async #load(): Promise<void> {
    await rm(this.#tmp, { recursive: true, force: true });
    for (const dir of [this.#data, this.#meta, this.#tmp]) await mkdir(dir, { recursive: true });
    const found: { readonly entry: Entry; readonly usedAtMs: number }[] = [];
    for (const file of await readdir(this.#meta)) {
      const id = file.replace(/\.json$/, '');
      const entry = await this.#read(id).catch(() => undefined);
      if (entry === undefined) await rm(join(this.#meta, file), { force: true });
      else found.push(entry);
    }
    found.sort((a, b) => a.usedAtMs - b.usedAtMs);
    for (const { entry } of found) {
      this.#objects.set(entry.id, entry);
      this.#usedBytes += entry.sizeBytes;
    }
    for (const file of await readdir(this.#data)) if (!this.#objects.has(file)) await rm(join(this.#data, file), { force: true });
    // The quota may be smaller than last time.
    this.#makeRoom(0);
  }

  async #read(id: string): Promise<{ entry: Entry; usedAtMs: number } | undefined> {
    const path = join(this.#data, id);
    const [text, file] = await Promise.all([readFile(join(this.#meta, `${id}.json`), 'utf8'), stat(path)]);
    const meta: unknown = JSON.parse(text);
    if (typeof meta !== 'object' || meta === null || !('name' in meta) || !('sizeBytes' in meta) || !('digest' in meta)) return undefined;
    const { name, sizeBytes, digest } = meta;
    if (typeof name !== 'string' || typeof digest !== 'string' || sizeBytes !== file.size) return undefined;
    return { entry: { id, name, sizeBytes: file.size, digest, path, pins: 0 }, usedAtMs: file.mtimeMs };
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get count(): number {
    return this.#objects.size;
  }

  /** An object, which counts as a use of it. */
  get(id: string): StoredObject | undefined {
    const entry = this.#objects.get(id);
    if (entry === undefined) return undefined;
    this.#objects.delete(id);
    this.#objects.set(id, entry);
    return entry;
  }

  has(id: string): boolean {
    return this.#objects.has(id);
  }

  /** References to all objects. */
  list(): ObjectRef[] {
    return Array.from(this.#objects.values(), (entry) => this.reference(entry));
  }

  reference(object: StoredObject): ObjectRef {
    const { id, name, sizeBytes, digest } = object;
    return { id, name, sizeBytes, digest, holders: [this.#options.node] };
  }

  /** Keeps an object from being dropped until as many unpins. False if it is not here. */
  pin(id: string): boolean {
    const entry = this.#objects.get(id);
    if (entry === undefined) return false;
    if (entry.pins++ === 0) this.#pinnedBytes += entry.sizeBytes;
    return true;
  }

  unpin(id: string): void {
    const entry = this.#objects.get(id);
    if (entry !== undefined && entry.pins > 0 && --entry.pins === 0) this.#pinnedBytes -= entry.sizeBytes;
  }

  /** A fresh id. */
  newId(): string {
    return `obj-${randomBytes(10).toString('hex')}`;
  }

  /** Drops an object. False if it is not here; IN_USE if it is pinned. */
  delete(id: string): boolean {
    const entry = this.#objects.get(id);
    if (entry === undefined) return false;
    if (entry.pins > 0) throw new MetronomeError('IN_USE', `The object "${id}" is in use by ${entry.pins} running invocations.`, { component: 'agent' });
    this.#drop(entry);
    return true;
  }

  /** Takes a stream in; `sizeBytes` if it is known, so that one that cannot fit drives nothing out. Rejects with STORE_FULL, or OBJECT_CORRUPT when `expectedDigest` is given and does not match. */
  async put(source: AsyncIterable<Uint8Array>, meta: { readonly name: string; readonly expectedDigest?: string; readonly sizeBytes?: number }): Promise<StoredObject> {
    const writer = await this.beginWrite(meta.sizeBytes);
    try {
      for await (const chunk of source) await writer.write(chunk);
      const digest = writer.digest();
      if (meta.expectedDigest !== undefined && meta.expectedDigest !== digest) {
        throw new MetronomeError('OBJECT_CORRUPT', `The content has the digest ${digest}, not ${meta.expectedDigest} as announced. Send it again.`, { component: 'agent' });
      }
      return await writer.commit({ id: this.newId(), name: meta.name });
    } catch (error) {
      await writer.abort();
      throw error;
    }
  }

  /** Moves a file in, by rename; it must lie on the same file system. The file is gone from its place afterwards, unless this rejects (STORE_FULL). */
  async adopt(path: string, name: string): Promise<StoredObject> {
    const handle = await open(path, 'r');
    let sizeBytes = 0;
    let reserved = 0;
    try {
      const hash = createHash('sha256');
      const { size } = await handle.stat();
      this.#reserve(size);
      reserved = size;
      const buffer = Buffer.allocUnsafe(Math.min(Math.max(size, 1), HASH_CHUNK_BYTES));
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length);
        if (bytesRead === 0) break;
        hash.update(buffer.subarray(0, bytesRead));
        sizeBytes += bytesRead;
      }
      const id = this.newId();
      const entry = await this.#enter(path, { id, name, sizeBytes, digest: hash.digest('hex') });
      return entry;
    } finally {
      this.#reservedBytes -= reserved;
      await handle.close();
    }
  }

  /** Begins to write an object. Room for `expectedBytes` is taken at once (STORE_FULL), for what goes beyond as it comes. */
  async beginWrite(expectedBytes = 0): Promise<ObjectWriter> {
    this.#reserve(expectedBytes);
    const path = join(this.#tmp, randomBytes(8).toString('hex'));
    let handle: FileHandle;
    try {
      handle = await open(path, 'w');
    } catch (error) {
      this.#reservedBytes -= expectedBytes;
      throw error;
    }
    return new StoreWriter({
      handle,
      path,
      expectedBytes,
      reserve: (bytes) => this.#reserve(bytes),
      release: (bytes) => void (this.#reservedBytes -= bytes),
      enter: (meta) => this.#enter(path, meta),
    });
  }

  /** Waits for files that are being removed. */
  async close(): Promise<void> {
    await Promise.all(this.#removals.values());
  }

  #reserve(bytes: number): void {
    if (!this.#makeRoom(bytes)) {
      const { quotaBytes, node } = this.#options;
      throw new MetronomeError('STORE_FULL', `The object store of node "${node}" is full: ${formatBytes(this.#usedBytes + this.#reservedBytes)} of ${formatBytes(quotaBytes)} are in use or being written, and ${formatBytes(bytes)} more are needed. Raise agent.objectQuota or try again later.`, { component: 'agent' });
    }
    this.#reservedBytes += bytes;
  }

  /** Drops unpinned objects until `bytes` more fit. */
  #makeRoom(bytes: number): boolean {
    const { quotaBytes } = this.#options;
    const fits = (): boolean => this.#usedBytes + this.#reservedBytes + bytes <= quotaBytes && this.#objects.size < MAX_OBJECTS;
    if (fits()) return true;
    // What can be dropped is not enough: then nothing is dropped.
    if (this.#pinnedBytes + this.#reservedBytes + bytes > quotaBytes) return false;
    for (const entry of this.#objects.values()) {
      if (entry.pins > 0) continue;
      this.#drop(entry);
      if (fits()) return true;
    }
    return fits();
  }

  async #enter(path: string, meta: Omit<StoredObject, 'path'>): Promise<StoredObject> {
    const { id, name, sizeBytes, digest } = meta;
    const target = join(this.#data, id);
    const sidecar = join(this.#meta, `${id}.json`);
    const temporary = join(this.#tmp, `${id}.json`);
    // An object that was dropped and comes again must not lose its file to its own removal.
    await this.#removals.get(id);
    await writeFile(temporary, JSON.stringify({ name, sizeBytes, digest }));
    // The description first: a data file without one is dropped at the next start, the other way round as well.
    await rename(temporary, sidecar);
    // Inputs are hard links to this file; nobody should write to it by mistake.
    await chmod(path, 0o444);
    await rename(path, target);
    const entry: Entry = { id, name, sizeBytes, digest, path: target, pins: 0 };
    const former = this.#objects.get(id);
    if (former !== undefined) {
      this.#usedBytes -= former.sizeBytes;
      if (former.pins > 0) this.#pinnedBytes -= former.sizeBytes;
    }
    this.#objects.delete(id);
    this.#objects.set(id, entry);
    this.#usedBytes += sizeBytes;
    this.#options.onAdded(this.reference(entry));
    return entry;
  }

  #drop(entry: Entry): void {
    this.#objects.delete(entry.id);
    this.#usedBytes -= entry.sizeBytes;
    this.#options.onRemoved(entry.id);
    // Who reads it still has it open, or a link to it.
    const removal = Promise.all([rm(entry.path, { force: true }), rm(join(this.#meta, `${entry.id}.json`), { force: true })]).then(
      () => {},
      () => {}, // what stays is dropped at the next start
    );
    this.#removals.set(entry.id, removal);
    void removal.then(() => {
      if (this.#removals.get(entry.id) === removal) this.#removals.delete(entry.id);
    });
  }
}

interface WriterHost {
  readonly handle: FileHandle;
  readonly path: string;
  readonly expectedBytes: number;
  reserve(bytes: number): void;
  release(bytes: number): void;
  enter(meta: Omit<StoredObject, 'path'>): Promise<StoredObject>;
}

class StoreWriter implements ObjectWriter {
  writtenBytes = 0;
  readonly #host: WriterHost;
  #hash: Hash = createHash('sha256');
  #digest: string | undefined;
  #isOpen = true;
  #reservedBytes: number;
  /** Hashed, not yet given to the disk. */
  #batch: Uint8Array[] = [];
  #batchBytes = 0;
  #flushedBytes = 0;
  #flushing: Promise<void> = Promise.resolve();

  constructor(host: WriterHost) {
    this.#host = host;
    this.#reservedBytes = host.expectedBytes;
  }

  async write(chunk: Uint8Array): Promise<void> {
    const missing = this.writtenBytes + chunk.length - this.#reservedBytes;
    if (missing > 0) {
      this.#host.reserve(missing);
      this.#reservedBytes += missing;
    }
    this.writtenBytes += chunk.length;
    this.#hash.update(chunk);
    this.#batch.push(chunk);
    this.#batchBytes += chunk.length;
    if (this.#batchBytes < BATCH_BYTES) return;
    // One batch is on its way to the disk while the next one comes in: at most two are in memory.
    await this.#flushing;
    this.#flushing = this.#flush();
    // It is awaited at the next batch or at the end; until then nobody would listen.
    this.#flushing.catch(() => {});
  }

  /** Writes the batch in a few large pieces: one trip to the thread pool per network chunk would be the bottleneck. */
  async #flush(): Promise<void> {
    const batch = this.#batch;
    let position = this.#flushedBytes;
    this.#flushedBytes += this.#batchBytes;
    this.#batch = [];
    this.#batchBytes = 0;
    try {
      const { bytesWritten } = await this.#host.handle.writev(batch, position);
      let skipped = bytesWritten;
      position += bytesWritten;
      for (const chunk of batch) {
        if (skipped >= chunk.length) skipped -= chunk.length;
        else {
          // A short write, which a disk hardly ever does.
          await writeFully(this.#host.handle, chunk.subarray(skipped), position);
          position += chunk.length - skipped;
          skipped = 0;
        }
      }
    } catch (cause) {
      const isFull = cause instanceof Error && 'code' in cause && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT');
      throw new MetronomeError(isFull ? 'STORE_FULL' : 'INTERNAL', `The object store cannot write: ${cause instanceof Error ? cause.message : String(cause)}`, { component: 'agent', cause });
    }
  }

  async restart(): Promise<void> {
    await this.#flushing;
    this.#batch = [];
    this.writtenBytes = this.#batchBytes = this.#flushedBytes = 0;
    this.#hash = createHash('sha256');
    this.#digest = undefined;
    await this.#host.handle.truncate(0);
  }

  digest(): string {
    return (this.#digest ??= this.#hash.digest('hex'));
  }

  async commit(meta: { readonly id: string; readonly name: string }): Promise<StoredObject> {
    const digest = this.digest();
    await this.#flushing;
    if (this.#batchBytes > 0) await this.#flush();
    await this.#close();
    const object = await this.#host.enter({ ...meta, sizeBytes: this.writtenBytes, digest });
    this.#release();
    return object;
  }

  async abort(): Promise<void> {
    this.#release();
    await this.#flushing.catch(() => {}); // why it is aborted is known already
    await this.#close();
    await rm(this.#host.path, { force: true });
  }

  #release(): void {
    this.#host.release(this.#reservedBytes);
    this.#reservedBytes = 0;
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#host.handle.close();
  }
}

async function writeFully(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, position + done);
    done += bytesWritten;
  }
}
