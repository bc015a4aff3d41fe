/**
 * The code of functions on this node: each bundle (tar.gz) is fetched once, verified by its digest, unpacked beside its place
 * and renamed into it, so that a folder under its digest is always whole. Bounded; unused bundles go least recently used first.
 * A bundle lies here once for each package set that it is used with, because its node_modules is a link to that set's layer.
 */
import { createHash, randomBytes } from 'node:crypto';
import { renameSync, rmSync } from 'node:fs';
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, join, normalize } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { extract, list, type ReadEntry } from 'tar';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import type { ProgramLease } from '../program.ts';
import { isDiskFull, orDiskFull } from './disk-full.ts';

/** Options of the cache. */
export interface BundleCacheOptions {
  readonly dir: string;
  readonly fetch: (digest: string) => Promise<Uint8Array>;
  readonly onAdded: (digest: string) => void;
  readonly onRemoved: (digest: string) => void;
  /** Unpacked bytes of all bundles. @default 4 GiB */
  readonly maxBytes?: number;
}

const MAX_UNPACKED_BYTES = 512 * 1024 ** 2;
const MAX_ENTRIES = 20_000;
/** Compressed bytes unpacked in one turn of the event loop, so that other invocations go on. */
const FEED_BYTES = 64 * 1024;
const DIGEST_PATTERN = /^[0-9a-f]{64}$/;
/** Of a bundle, or of a bundle and a package set. */
const NAME_PATTERN = /^[0-9a-f]{64}(?:-[0-9a-f]{32})?$/;

interface Entry {
  readonly name: string;
  readonly sizeBytes: number;
  users: number;
}

export class BundleCache {
  readonly #options: BundleCacheOptions;
  readonly #maxBytes: number;
  /** In order of use, the least recent first. */
  readonly #bundles = new Map<string, Entry>();
  readonly #coming = new Map<string, Promise<Entry>>();
  #bytes = 0;
  #removals: Promise<void> = Promise.resolve();

  private constructor(options: BundleCacheOptions) {
    this.#options = options;
    this.#maxBytes = options.maxBytes ?? 4 * 1024 ** 3;
  }

  /** Opens the cache with the whole bundles that a former agent left; halves are removed. */
  static async open(options: BundleCacheOptions): Promise<BundleCache> {
    const cache = new BundleCache(options);
    await mkdir(options.dir, { recursive: true });
    const names = await readdir(options.dir);
    for (const name of names) {
      const bundle = name.replace(/\.json$/, '');
      if (NAME_PATTERN.test(name) && names.includes(`${name}.json`)) {
        const size = Number(await readFile(cache.#sidecar(name), 'utf8'));
        if (Number.isFinite(size)) {
          cache.#bundles.set(name, { name, sizeBytes: size, users: 0 });
          cache.#bytes += size;
          continue;
        }
      }
      if (!(name.endsWith('.json') && names.includes(bundle) && NAME_PATTERN.test(bundle))) await rm(join(options.dir, name), { recursive: true, force: true });
    }
    return cache;
  }

  /** Digests of the bundles that are here and need no packages. */
  list(): string[] {
    return [...this.#bundles.keys()].filter(isAlone);
  }

  /** The bundle at once if it is here, else undefined. */
  tryAcquire(digest: string, packageSet = ''): ProgramLease | undefined {
    const entry = this.#bundles.get(nameOf(digest, packageSet));
    return entry === undefined ? undefined : this.#lease(entry, true);
  }

  /** The bundle, fetched if need be. Rejects with what the fetch rejects with, OBJECT_CORRUPT, or FUNCTION_LOAD_FAILED for an unsafe or broken archive. */
  async acquire(digest: string, packageSet = ''): Promise<ProgramLease> {
    const here = this.tryAcquire(digest, packageSet);
    if (here !== undefined) return here;
    const name = nameOf(digest, packageSet);
    let coming = this.#coming.get(name);
    if (coming === undefined) {
      coming = this.#bring(digest, name);
      this.#coming.set(name, coming);
      const forget = (): void => void this.#coming.delete(name);
      coming.then(forget, forget);
    }
    return this.#lease(await coming, false);
  }

  /** Waits for removals that are under way. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#coming.values());
    await this.#removals;
  }

  #lease(entry: Entry, wasHere: boolean): ProgramLease {
    entry.users++;
    this.#bundles.delete(entry.name);
    this.#bundles.set(entry.name, entry);
    let held = true;
    return {
      dir: join(this.#options.dir, entry.name),
      layer: undefined,
      wasHere,
      release: () => {
        if (held) entry.users--;
        held = false;
      },
    };
  }

  async #bring(digest: string, name: string): Promise<Entry> {
    if (!DIGEST_PATTERN.test(digest)) throw new MetronomeError('INVALID_REQUEST', `${JSON.stringify(digest.slice(0, 80))} is not the digest of a bundle.`, { component: 'agent' });
    const bytes = await this.#options.fetch(digest);
    const actual = createHash('sha256').update(bytes).digest('hex');
    if (actual !== digest) throw new MetronomeError('OBJECT_CORRUPT', `The function code came with the digest ${actual}, not ${digest}.`, { component: 'agent' });
    const { dir } = this.#options;
    const temporary = join(dir, `tmp-${randomBytes(6).toString('hex')}`);
    try {
      await mkdir(temporary);
      const sizeBytes = await unpackBundle(bytes, temporary);
      await writeFile(this.#sidecar(name), String(sizeBytes));
      await rm(join(dir, name), { recursive: true, force: true });
      await rename(temporary, join(dir, name));
      const entry: Entry = { name, sizeBytes, users: 0 };
      this.#bundles.set(name, entry);
      this.#bytes += sizeBytes;
      this.#makeRoom(entry);
      if (isAlone(name)) this.#options.onAdded(name);
      return entry;
    } catch (error) {
      // tar may still write for a moment.
      await rm(temporary, { recursive: true, force: true, maxRetries: 10 });
      throw orDiskFull(error, 'The code of the function');
    }
  }

  #makeRoom(fresh: Entry): void {
    for (const entry of this.#bundles.values()) {
      if (this.#bytes <= this.#maxBytes) return;
      if (entry.users > 0 || entry === fresh) continue;
      this.#bundles.delete(entry.name);
      this.#bytes -= entry.sizeBytes;
      if (isAlone(entry.name)) this.#options.onRemoved(entry.name);
      const { dir } = this.#options;
      const gone = join(dir, `tmp-${randomBytes(6).toString('hex')}`);
      try {
        // At once: the bundle may come again before the removals that wait. The description first: a folder without one is no bundle.
        rmSync(this.#sidecar(entry.name), { force: true });
        renameSync(join(dir, entry.name), gone);
      } catch {
        continue; // removed at the next start, or replaced when it comes again
      }
      this.#removals = this.#removals.then(() => rm(gone, { recursive: true, force: true })).catch(() => {}); // removed at the next start
    }
  }

  #sidecar(name: string): string {
    return join(this.#options.dir, `${name}.json`);
  }
}

function nameOf(digest: string, packageSet: string): string {
  return packageSet === '' ? digest : `${digest}-${packageSet.slice(0, 32)}`;
}

function isAlone(name: string): boolean {
  return name.length === 64;
}

/**
 * Unpacks a tar.gz into an empty folder; returns the unpacked bytes. The whole archive is looked through first: absolute paths,
 * "..", links that lead outside, devices, and too many or too large files are FUNCTION_LOAD_FAILED before anything is written.
 */
export async function unpackBundle(bytes: Uint8Array, dir: string): Promise<number> {
  let entries = 0;
  let sizeBytes = 0;
  let problem: string | undefined;
  const check = (entry: ReadEntry): void => {
    problem ??= entryProblem(entry);
    if (++entries > MAX_ENTRIES) problem ??= `it has more than ${MAX_ENTRIES} files`;
    sizeBytes += entry.size;
    if (sizeBytes > MAX_UNPACKED_BYTES) problem ??= `it has more than ${formatBytes(MAX_UNPACKED_BYTES)} unpacked`;
    entry.resume();
  };
  const fail = (what: string, cause?: unknown): MetronomeError => new MetronomeError('FUNCTION_LOAD_FAILED', `The bundle of the function cannot be unpacked: ${what}. Pack and apply the function again.`, { component: 'agent', cause });
  try {
    await feed(list({ strict: true, onReadEntry: check }), bytes, () => problem !== undefined);
    if (problem !== undefined) throw fail(problem);
    if (entries === 0) throw fail('it is empty or no gzipped tar');
    await feed(extract({ cwd: dir, strict: true, preserveOwner: false, noMtime: true }), bytes, () => false);
  } catch (error) {
    throw error instanceof MetronomeError || isDiskFull(error) ? error : fail(error instanceof Error ? error.message : String(error), error);
  }
  return sizeBytes;
}

function entryProblem(entry: ReadEntry): string | undefined {
  const { path, type } = entry;
  if (escapes(path)) return `"${path}" would lie outside of the function's folder`;
  if (type === 'File' || type === 'OldFile' || type === 'ContiguousFile' || type === 'Directory' || type === 'GNUDumpDir') return undefined;
  const target = String(entry.linkpath ?? '');
  // A hard link's target counts from the root of the archive, a symbolic link's from its own folder.
  if (type === 'Link') return escapes(target) ? `"${path}" is a link to "${target}" outside of the function's folder` : undefined;
  if (type === 'SymbolicLink') return isAbsolute(target) || escapes(join(dirname(path), target)) ? `"${path}" is a link to "${target}" outside of the function's folder` : undefined;
  return `"${path}" is neither file nor folder nor link (${type})`;
}

function escapes(path: string): boolean {
  if (isAbsolute(path) || path.includes('\\') || path.includes('\0')) return true;
  const way = normalize(path);
  return way === '..' || way.startsWith('../');
}

interface Sink {
  on(event: 'drain' | 'end' | 'close' | 'error', listener: (error?: unknown) => void): unknown;
  write(chunk: Buffer): boolean;
  end(): unknown;
}

/** Feeds in small pieces, with a turn of the event loop between them, and no faster than they are taken. */
async function feed(sink: unknown, bytes: Uint8Array, enough: () => boolean): Promise<void> {
  const target = sink as Sink; // tar's parser and unpacker share this part; their own types differ in overloads only
  let failure: { readonly error: unknown } | undefined;
  const ended = new Promise<void>((resolve) => {
    target.on('error', (error) => {
      failure ??= { error };
      resolve();
    });
    target.on('end', () => resolve());
    target.on('close', () => resolve());
  });
  let drained = (): void => {};
  target.on('drain', () => drained());
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < buffer.length && failure === undefined && !enough(); at += FEED_BYTES) {
    const room = new Promise<void>((resolve) => (drained = resolve));
    if (!target.write(buffer.subarray(at, at + FEED_BYTES))) await Promise.race([room, ended]);
    await nextTurn();
  }
  if (enough()) return;
  if (failure === undefined) target.end();
  await ended;
  if (failure !== undefined) throw (failure as { readonly error: unknown }).error;
}
