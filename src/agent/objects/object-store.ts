/**
 * The objects of one node: immutable files with a digest. Bounded by a quota: the least recently used object that nobody holds
 * goes first; with a time to live also what was not used for so long. Every way in ends in a rename, so that a crash leaves whole
 * objects and temporary files, nothing between. This is the index; bytes are moved and hashed in the data thread.
 *
 * On disk: data/<id>, meta/<id>.json, tmp/ (emptied at the start: a transfer that was cut off begins again, for its hash is gone).
 */
import { createHash, randomBytes } from 'node:crypto';
import { statSync, type Stats } from 'node:fs';
import { constants, lstat, mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import type { ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';
import { bootId } from '../boot-id.ts';
import type { FileDigest, StoreListing } from './data-protocol.ts';
import { storeError } from './file-sink.ts';
import type { HandOvers } from './hand-over.ts';
import { Leases } from './leases.ts';
import type { StoredObject } from './stored-object.ts';

/** Options of a store. */
export interface ObjectStoreOptions {
  readonly dir: string;
  /** Name of this node, for the holders of references. */
  readonly node: string;
  readonly quotaBytes: number;
  /** An object that was not used for so long goes, ms. 0: it stays until the quota needs its room. */
  readonly ttlMs: number;
  /** Hashes a file of any size without holding up the caller. */
  readonly digestOf: (path: string) => Promise<FileDigest>;
  readonly onAdded: (object: ObjectRef) => void;
  readonly onRemoved: (id: string) => void;
}

/** Objects in one store, so that its index and its snapshots stay small. */
const MAX_OBJECTS = 100_000;
const MAX_LISTED = 1_000;
/** A file up to this size is hashed where it is adopted: asking the thread takes longer. */
const HASHED_HERE_BYTES = 256 * 1024;
const COPY_CHUNK_BYTES = 1024 * 1024;
/** Of so many that were used least recently, copies go before what was made here, for the maker's may be the last one. */
const EVICTION_WINDOW = 8;
/** How often leases and times to live are looked at, ms. */
const SWEEP_MS = 1_000;
/** A copy that was found sound is not hashed again within this time, ms. */
const TRUST_MS = 10_000;

interface Entry extends StoredObject {
  /** Of the file, when it was entered. Another one makes it suspect. */
  mtimeMs: number;
  /** It was written before another boot: it may have been on its way to the disk when the power went. */
  isFromOtherBoot: boolean;
  /** It came from another node. */
  readonly isCopy: boolean;
  usedAtMs: number;
  /** When it was verified last, at somebody's complaint. */
  verifiedAtMs: number;
}

/** A pipe in the place of a file must not hold up the opener. */
const READ_NO_LINKS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const isRoot = process.getuid?.() === 0;

/** What enters the store. */
export interface ObjectMeta extends FileDigest {
  readonly id: string;
  readonly name: string;
  /** It came from another node. @default false */
  readonly isCopy?: boolean;
  /** Of the file before it was hashed; another one now: it was written to meanwhile. */
  readonly mtimeMs?: number;
}

/** Room and a place for bytes on their way in. Exactly one of commit and abort must be called. */
export interface IncomingObject {
  /** Where the file shall be written. */
  readonly path: string;
  readonly reservedBytes: number;
  /** Takes room beyond what was expected. Throws STORE_FULL; abort it then. */
  reserve(bytes: number): void;
  /** Makes the file an object. Rejects with STORE_FULL; abort it then. */
  commit(meta: ObjectMeta): Promise<StoredObject>;
  abort(): Promise<void>;
}

export class ObjectStore {
  readonly handOvers: HandOvers = { linked: 0, copied: 0 };
  readonly #options: ObjectStoreOptions;
  readonly #data: string;
  readonly #meta: string;
  readonly #tmp: string;
  /** In order of use, the least recent first. */
  readonly #objects = new Map<string, Entry>();
  /** Pins and leases by id, whether the object is here or not: an object that is replaced stays held. */
  readonly #holds = new Map<string, number>();
  readonly #pins = new Map<string, number>();
  readonly #boot = bootId();
  readonly #leases = new Leases((id) => this.#hold(id), (id) => this.#letGo(id));
  readonly #sweeper: NodeJS.Timeout;
  /** Number of the file system that the store is on. */
  #device = 0;
  #usedBytes = 0;
  /** Of them, bytes of objects that are held. */
  #heldBytes = 0;
  /** Bytes that are on their way in. */
  #reservedBytes = 0;
  /** Files that are being removed, by id. */
  readonly #removals = new Map<string, Promise<void>>();
  readonly #verifications = new Map<string, Promise<boolean | undefined>>();
  #lastVerification: Promise<unknown> = Promise.resolve();

  private constructor(options: ObjectStoreOptions) {
    this.#options = options;
    this.#data = join(options.dir, 'data');
    this.#meta = join(options.dir, 'meta');
    this.#tmp = join(options.dir, 'tmp');
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
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
    this.#device = (await stat(this.#tmp)).dev;
    const found: { readonly entry: Entry; readonly madeAtMs: number }[] = [];
    for (const file of await readdir(this.#meta)) {
      const id = file.replace(/\.json$/, '');
      const entry = await this.#read(id).catch(() => undefined);
      if (entry === undefined) await rm(join(this.#meta, file), { force: true });
      else found.push(entry);
    }
    found.sort((a, b) => a.madeAtMs - b.madeAtMs);
    for (const { entry } of found) {
      this.#objects.set(entry.id, entry);
      this.#usedBytes += entry.sizeBytes;
    }
    for (const file of await readdir(this.#data)) if (!this.#objects.has(file)) await rm(join(this.#data, file), { force: true });
    // The quota may be smaller than last time.
    this.#makeRoom(0);
  }

  async #read(id: string): Promise<{ entry: Entry; madeAtMs: number } | undefined> {
    const path = join(this.#data, id);
    const [text, file] = await Promise.all([readFile(join(this.#meta, `${id}.json`), 'utf8'), stat(path)]);
    const meta: unknown = JSON.parse(text);
    if (typeof meta !== 'object' || meta === null || !('name' in meta) || !('sizeBytes' in meta) || !('digest' in meta)) return undefined;
    const { name, sizeBytes, digest } = meta;
    if (typeof name !== 'string' || typeof digest !== 'string' || sizeBytes !== file.size) return undefined;
    const isFromOtherBoot = !('boot' in meta) || meta.boot !== this.#boot;
    const isCopy = 'isCopy' in meta && meta.isCopy === true;
    // One that was written to while nobody watched is hashed before it is used.
    const mtimeMs = 'mtimeMs' in meta && typeof meta.mtimeMs === 'number' ? meta.mtimeMs : file.mtimeMs;
    // Times to live begin anew: when it was used last is not written down.
    return { entry: { id, name, sizeBytes: file.size, digest, path, mtimeMs, isFromOtherBoot, isCopy, usedAtMs: performance.now(), verifiedAtMs: -Infinity }, madeAtMs: file.mtimeMs };
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Bytes of objects that nothing may push out now. */
  get heldBytes(): number {
    return this.#heldBytes;
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
    entry.usedAtMs = performance.now();
    return entry;
  }

  /** An object whose file is as it was entered; one that was touched, or written before another boot, is hashed first, and gone if it is another one now. */
  async use(id: string): Promise<StoredObject | undefined> {
    if (!this.looksSound(id) && (await this.verify(id)) !== true) return undefined;
    return this.get(id);
  }

  /** False for an object that is not here, whose file was touched since it was entered, or that was not looked at since the machine started. */
  looksSound(id: string): boolean {
    const entry = this.#objects.get(id);
    if (entry === undefined || entry.isFromOtherBoot) return false;
    // Synchronous: the inode is in memory as a rule, a trip to the thread pool takes ten times as long.
    const file = statSync(entry.path, { throwIfNoEntry: false });
    return file !== undefined && file.size === entry.sizeBytes && file.mtimeMs === entry.mtimeMs;
  }

  /** Hashes an object again and drops it if it is not what it was, whoever holds it. False: dropped; undefined: not here. */
  verify(id: string): Promise<boolean | undefined> {
    const known = this.#verifications.get(id);
    if (known !== undefined) return known;
    const entry = this.#objects.get(id);
    if (entry === undefined) return Promise.resolve(undefined);
    // Whoever asks again and again does not keep the disk busy; neither does who asks for many, one after the other.
    if (performance.now() - entry.verifiedAtMs < TRUST_MS && this.looksSound(id)) return Promise.resolve(true);
    const verification = this.#lastVerification.then(() => this.#verify(id)).finally(() => this.#verifications.delete(id));
    this.#lastVerification = verification.catch(() => {}); // told to who asked
    this.#verifications.set(id, verification);
    return verification;
  }

  async #verify(id: string): Promise<boolean | undefined> {
    const entry = this.#objects.get(id);
    if (entry === undefined) return undefined;
    const before = statSync(entry.path, { throwIfNoEntry: false });
    const found = before === undefined ? undefined : await this.#options.digestOf(entry.path).catch(() => undefined);
    // Another one of the same id may have come meanwhile.
    if (this.#objects.get(id) !== entry) return undefined;
    if (before !== undefined && found?.sizeBytes === entry.sizeBytes && found.digest === entry.digest) {
      entry.mtimeMs = before.mtimeMs;
      if (entry.isFromOtherBoot) {
        entry.isFromOtherBoot = false;
        await this.#describe(entry).catch(() => {}); // then it is hashed once more after the next start
      }
      entry.verifiedAtMs = performance.now();
      return true;
    }
    this.#drop(entry);
    return false;
  }

  has(id: string): boolean {
    return this.#objects.has(id);
  }

  /** References to all objects. */
  list(): ObjectRef[] {
    return Array.from(this.#objects.values(), (entry) => this.reference(entry));
  }

  /** For people: the most recently used objects and what holds them. */
  listing(): StoreListing {
    const owners = this.#leases.owners();
    const objects = [...this.#objects.values()].slice(-MAX_LISTED).reverse();
    return {
      node: this.#options.node,
      usedBytes: this.#usedBytes,
      quotaBytes: this.#options.quotaBytes,
      heldBytes: this.#heldBytes,
      handOvers: this.handOvers,
      count: this.#objects.size,
      objects: objects.map(({ id, name, sizeBytes, digest }) => ({ id, name, sizeBytes, digest, pins: this.#pins.get(id) ?? 0, owners: owners.get(id) ?? [] })),
    };
  }

  reference(object: StoredObject): ObjectRef {
    const { id, name, sizeBytes, digest } = object;
    return { id, name, sizeBytes, digest, holders: [this.#options.node] };
  }

  /** Keeps an object from being dropped until as many unpins. False if it is not here. */
  pin(id: string): boolean {
    if (!this.#objects.has(id)) return false;
    this.#pins.set(id, (this.#pins.get(id) ?? 0) + 1);
    this.#hold(id);
    return true;
  }

  unpin(id: string): void {
    const pins = this.#pins.get(id);
    if (pins === undefined) return;
    if (pins === 1) this.#pins.delete(id);
    else this.#pins.set(id, pins - 1);
    this.#letGo(id);
  }

  /** Keeps objects, here or still to come, for an owner until they are released or `ttlMs` pass without another call. */
  retain(owner: string, ids: readonly string[], ttlMs: number): boolean {
    return this.#leases.retain(owner, ids, performance.now() + ttlMs);
  }

  /** Ends what `retain` began; of no ids: all that the owner has. */
  release(owner: string, ids: readonly string[] = []): void {
    this.#leases.release(owner, ids);
  }

  #hold(id: string): void {
    const holds = this.#holds.get(id) ?? 0;
    this.#holds.set(id, holds + 1);
    if (holds === 0) this.#heldBytes += this.#objects.get(id)?.sizeBytes ?? 0;
  }

  #letGo(id: string): void {
    const holds = this.#holds.get(id) ?? 0;
    if (holds > 1) return void this.#holds.set(id, holds - 1);
    if (this.#holds.delete(id)) this.#heldBytes -= this.#objects.get(id)?.sizeBytes ?? 0;
  }

  /** A fresh id. */
  newId(): string {
    return `obj-${randomBytes(10).toString('hex')}`;
  }

  /** Drops an object. False if it is not here; IN_USE if it is held. */
  delete(id: string): boolean {
    const entry = this.#objects.get(id);
    if (entry === undefined) return false;
    if (this.#holds.has(id)) throw new MetronomeError('IN_USE', `The object "${id}" is in use by ${this.#pins.get(id) ?? 0} running invocations and ${(this.#holds.get(id) ?? 0) - (this.#pins.get(id) ?? 0)} workflow runs.`, { component: 'agent' });
    this.#drop(entry);
    return true;
  }

  /** Room for an object of `expectedBytes`, so that one that cannot fit drives nothing out. Throws STORE_FULL. */
  begin(expectedBytes: number): IncomingObject {
    this.#reserve(expectedBytes);
    const path = join(this.#tmp, randomBytes(8).toString('hex'));
    let reservedBytes = expectedBytes;
    return {
      path,
      get reservedBytes() {
        return reservedBytes;
      },
      reserve: (bytes) => {
        this.#reserve(bytes);
        reservedBytes += bytes;
      },
      commit: async (meta) => {
        const object = await this.#enter(path, meta);
        this.#reservedBytes -= reservedBytes;
        return object;
      },
      abort: async () => {
        this.#reservedBytes -= reservedBytes;
        await rm(path, { force: true });
      },
    };
  }

  /** Moves a file in, by rename where the file system allows. It is gone from its place afterwards, unless this rejects (STORE_FULL). */
  async adopt(path: string, name: string): Promise<StoredObject> {
    const found = await lstat(path);
    if (!found.isFile()) throw new MetronomeError('OBJECT_CORRUPT', `${JSON.stringify(name)} is no regular file.`, { component: 'agent' });
    const { size, mtimeMs } = found;
    this.#reserve(size);
    try {
      if (found.dev !== this.#device) return await this.#adoptForeign(path, name, found);
      return await this.#enter(path, { id: this.newId(), name, mtimeMs, ...(await this.#hash(path, size)) });
    } catch (error) {
      if (error instanceof MetronomeError && error.code === 'STORE_FULL') this.relieve(size);
      throw error;
    } finally {
      this.#reservedBytes -= size;
    }
  }

  /** A file of another file system: what is hashed and entered is a copy that only the agent can write to. */
  async #adoptForeign(path: string, name: string, found: Stats): Promise<StoredObject> {
    const copy = join(this.#tmp, randomBytes(8).toString('hex'));
    try {
      await copyFound(path, copy, name, found);
      const object = await this.#enter(copy, { id: this.newId(), name, ...(await this.#hash(copy, found.size)) });
      this.handOvers.copied++;
      await rm(path, { force: true }).catch(() => {}); // goes with the folder of the outputs
      return object;
    } catch (error) {
      await rm(copy, { force: true });
      throw storeError(error);
    }
  }

  #hash(path: string, sizeBytes: number): Promise<FileDigest> {
    return sizeBytes <= HASHED_HERE_BYTES ? digestOfSmall(path) : this.#options.digestOf(path);
  }

  /** The disk was full: drops objects that nobody holds, the least recently used first, until `bytes` are free again for the next attempt. */
  relieve(bytes: number): void {
    let freed = 0;
    for (const entry of this.#victims()) {
      if (freed >= bytes) break;
      if (entry.sizeBytes === 0) continue;
      freed += entry.sizeBytes;
      this.#drop(entry);
    }
  }

  /** Waits for files that are being removed. */
  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    await Promise.all(this.#removals.values());
  }

  #reserve(bytes: number): void {
    if (!this.#makeRoom(bytes)) {
      const { quotaBytes, node } = this.#options;
      const held = this.#heldBytes === 0 ? '' : ` (${formatBytes(this.#heldBytes)} held by running work)`;
      throw new MetronomeError('STORE_FULL', `The object store of node "${node}" is full: ${formatBytes(this.#usedBytes + this.#reservedBytes)} of ${formatBytes(quotaBytes)} are in use${held} or being written, and ${formatBytes(bytes)} more are needed. Raise agent.objectQuota or try again later.`, { component: 'agent' });
    }
    this.#reservedBytes += bytes;
  }

  /** Drops objects that nobody holds until `bytes` more fit. */
  #makeRoom(bytes: number): boolean {
    const { quotaBytes } = this.#options;
    const hasPlace = (): boolean => this.#objects.size < MAX_OBJECTS;
    const fits = (): boolean => this.#usedBytes + this.#reservedBytes + bytes <= quotaBytes && hasPlace();
    if (fits()) return true;
    // What can be dropped is not enough: then nothing is dropped.
    if (this.#heldBytes + this.#reservedBytes + bytes > quotaBytes) return false;
    for (const entry of this.#victims()) {
      // An empty one makes no room for bytes.
      if (entry.sizeBytes === 0 && hasPlace()) continue;
      this.#drop(entry);
      if (fits()) return true;
    }
    return fits();
  }

  /** Objects in the order in which they may go. */
  *#victims(): Generator<Entry> {
    const candidates = this.#objects.values();
    const window: Entry[] = [];
    for (;;) {
      while (window.length < EVICTION_WINDOW) {
        const next = candidates.next();
        if (next.done === true) break;
        if (!this.#holds.has(next.value.id)) window.push(next.value);
      }
      const copyAt = window.findIndex(({ isCopy }) => isCopy);
      const [victim] = window.splice(Math.max(0, copyAt), 1);
      if (victim === undefined) return;
      yield victim;
    }
  }

  #sweep(): void {
    const now = performance.now();
    this.#leases.expire(now);
    const { ttlMs } = this.#options;
    if (ttlMs <= 0) return;
    for (const entry of this.#objects.values()) {
      // In order of use: what follows was used later.
      if (now - entry.usedAtMs < ttlMs) break;
      if (!this.#holds.has(entry.id)) this.#drop(entry);
    }
  }

  async #enter(path: string, meta: ObjectMeta): Promise<StoredObject> {
    const { id, name, sizeBytes, digest, isCopy = false } = meta;
    const target = join(this.#data, id);
    const sidecar = join(this.#meta, `${id}.json`);
    // An object that was dropped and comes again must not lose its file to its own removal.
    await this.#removals.get(id);
    try {
      const made = await lstat(path);
      if (!made.isFile()) throw new MetronomeError('OBJECT_CORRUPT', `The file of the object "${id}" is no regular file any more.`, { component: 'agent' });
      if (made.size !== sizeBytes || (meta.mtimeMs ?? made.mtimeMs) !== made.mtimeMs) throw new MetronomeError('OBJECT_CORRUPT', `The file of the object "${id}" changed while it was taken in (${made.size} bytes, hashed ${sizeBytes}). Close outputs before the handler returns.`, { component: 'agent' });
      const { mtimeMs } = made;
      // Inputs are hard links to this file; nobody should write to it by mistake, and every sandbox must be able to read it.
      await makeReadOnly(path);
      // The description first: a data file without one is dropped at the next start, the other way round as well.
      await this.#describe({ id, name, sizeBytes, digest, isCopy, mtimeMs });
      await rename(path, target);
      // Whoever made it may still live, and may have put something else in its place.
      const placed = await lstat(target);
      if (placed.ino !== made.ino || !placed.isFile()) {
        await rm(target, { force: true });
        throw new MetronomeError('OBJECT_CORRUPT', `The file of the object "${id}" was replaced while it was taken in.`, { component: 'agent' });
      }
      const entry: Entry = { id, name, sizeBytes, digest, path: target, mtimeMs, isFromOtherBoot: false, isCopy, usedAtMs: performance.now(), verifiedAtMs: -Infinity };
      const former = this.#objects.get(id);
      if (former !== undefined) this.#forget(former);
      this.#objects.set(id, entry);
      this.#usedBytes += sizeBytes;
      if (this.#holds.has(id)) this.#heldBytes += sizeBytes;
      this.#options.onAdded(this.reference(entry));
      return entry;
    } catch (error) {
      if (!this.#objects.has(id)) await rm(sidecar, { force: true });
      throw storeError(error);
    }
  }

  async #describe({ id, name, sizeBytes, digest, isCopy, mtimeMs }: Pick<Entry, 'id' | 'name' | 'sizeBytes' | 'digest' | 'isCopy' | 'mtimeMs'>): Promise<void> {
    const temporary = join(this.#tmp, randomBytes(8).toString('hex'));
    try {
      await writeFile(temporary, JSON.stringify({ name, sizeBytes, digest, isCopy, mtimeMs, boot: this.#boot }));
      await rename(temporary, join(this.#meta, `${id}.json`));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  #forget(entry: Entry): void {
    this.#objects.delete(entry.id);
    this.#usedBytes -= entry.sizeBytes;
    if (this.#holds.has(entry.id)) this.#heldBytes -= entry.sizeBytes;
  }

  #drop(entry: Entry): void {
    this.#forget(entry);
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

/** By a handle that follows no link: the path lies where a function may still write. */
async function makeReadOnly(path: string): Promise<void> {
  const file = await open(path, READ_NO_LINKS);
  try {
    await file.chmod(0o444);
    if (isRoot && (await file.stat()).uid !== 0) await file.chown(0, 0);
  } finally {
    await file.close();
  }
}

/** Copies the file that was found at this path and no other, as long as it is what it was. */
async function copyFound(path: string, copy: string, name: string, found: Stats): Promise<void> {
  const changed = (): MetronomeError => new MetronomeError('OBJECT_CORRUPT', `The output ${JSON.stringify(name)} was replaced or written to while it was taken in. Close outputs before the handler returns.`, { component: 'agent' });
  const isSame = ({ dev, ino, size, mtimeMs }: Stats): boolean => dev === found.dev && ino === found.ino && size === found.size && mtimeMs === found.mtimeMs;
  const from = await open(path, READ_NO_LINKS).catch(() => {
    throw changed();
  });
  try {
    if (!isSame(await from.stat())) throw changed();
    const to = await open(copy, 'wx');
    try {
      const chunk = Buffer.allocUnsafe(Math.min(found.size, COPY_CHUNK_BYTES));
      for (let copied = 0; copied < found.size;) {
        const { bytesRead } = await from.read(chunk, 0, Math.min(chunk.length, found.size - copied), copied);
        if (bytesRead === 0) throw changed();
        for (let done = 0; done < bytesRead;) done += (await to.write(chunk, done, bytesRead - done, copied + done)).bytesWritten;
        copied += bytesRead;
      }
    } finally {
      await to.close();
    }
    if (!isSame(await from.stat())) throw changed();
  } finally {
    await from.close();
  }
}

async function digestOfSmall(path: string): Promise<FileDigest> {
  const file = await open(path, READ_NO_LINKS);
  try {
    const content = await file.readFile();
    return { sizeBytes: content.length, digest: createHash('sha256').update(content).digest('hex') };
  } finally {
    await file.close();
  }
}
