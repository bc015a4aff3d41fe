/**
 * The installed packages of package sets: for each lock one tree of hard links into the package store, made beside its place and
 * renamed into it. Layers and packages share one quota; what is in use never goes, the rest goes least recently used first, a layer
 * before the packages that it holds.
 *
 * On disk: <digest>-<random>/ and <digest>-<random>.json, which is written last. A layer that was found damaged is replaced by another
 * one under another name; sandboxes that still use it keep its files.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isForPlatform, packageId, platformHere } from '../../config/package-lock.ts';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import type { LockedPackage, PackageLock } from '../../rpc/gen/metronome/v1/function.ts';
import type { AgentLog } from '../agent-options.ts';
import type { LayerPackage, PackageLayer } from '../program.ts';
import { orDiskFull } from './disk-full.ts';
import type { Installer } from './installer.ts';
import type { NpmSettings } from './npm-settings.ts';
import { subtreeDigests } from './package-graph.ts';
import { keyOf, type PackagePin, type PackageStore } from './package-store.ts';

/** Options of the cache. */
export interface LayerCacheOptions {
  readonly dir: string;
  readonly store: PackageStore;
  readonly installer: Installer;
  /** For packages and layers together. */
  readonly quotaBytes: number;
  /** Asked at the first package that must be fetched, and again after a while. */
  readonly npm: () => Promise<NpmSettings>;
  /** Path of the Python interpreter. */
  readonly python: () => Promise<string>;
  readonly onAdded: (digest: string) => void;
  readonly onRemoved: (digest: string) => void;
  readonly log: AgentLog;
}

/** A layer in use. */
export interface LayerLease {
  readonly layer: PackageLayer;
  /** False when something had to be installed or linked. */
  readonly wasHere: boolean;
  release(): void;
}

/** What a folder costs on disk; the files in it are the store's. */
const FOLDER_BYTES = 4_096;
/** Packages whose files change while they are linked are installed anew so many times. */
const MAX_REPAIRS = 3;
/** Least time between two complete readings of one layer, ms. */
const READ_AGAIN_MS = 5 * 60_000;
/** Packages of one layer that are asked for at once; the installer bounds what is fetched. */
const PARALLEL_PINS = 32;
const NAME_PATTERN = /^([0-9a-f]{64})-[0-9a-f]{8}$/;

interface LayerRecord {
  readonly runtime: 'node' | 'python3';
  readonly keys: readonly string[];
  readonly folders: number;
}

interface Entry {
  readonly digest: string;
  readonly name: string;
  readonly record: LayerRecord;
  readonly pins: readonly PackagePin[];
  users: number;
  usedAt: number;
  /** Its files were compared with their lists since the agent started. */
  checked: boolean;
  /** When all of its files were read last. */
  readAt: number;
  /** Replaced or evicted: it goes with its last user. */
  retired: boolean;
  layer: PackageLayer | undefined;
}

export class LayerCache {
  readonly #options: LayerCacheOptions;
  readonly #layers = new Map<string, Entry>();
  readonly #coming = new Map<string, Promise<{ readonly entry: Entry; readonly wasHere: boolean }>>();
  #bytes = 0;
  #removals: Promise<void> = Promise.resolve();

  private constructor(options: LayerCacheOptions) {
    this.#options = options;
  }

  /** Opens it with the whole layers that a former agent left, as far as their packages are here. */
  static async open(options: LayerCacheOptions): Promise<LayerCache> {
    const cache = new LayerCache(options);
    const { dir, store } = options;
    await mkdir(dir, { recursive: true });
    const names = await readdir(dir);
    const found: { name: string; record: LayerRecord; usedAtMs: number }[] = [];
    for (const name of names) {
      if (!NAME_PATTERN.test(name) || !names.includes(`${name}.json`)) continue;
      const record = await readRecord(join(dir, `${name}.json`));
      if (record !== undefined) found.push({ name, record, usedAtMs: (await stat(join(dir, `${name}.json`))).mtimeMs });
    }
    for (const { name, record } of found.sort((a, b) => a.usedAtMs - b.usedAtMs)) {
      const pins = record.keys.map((key) => store.tryPin(key)).filter((pin) => pin !== undefined);
      const digest = NAME_PATTERN.exec(name)?.[1] ?? '';
      if (pins.length < record.keys.length || cache.#layers.has(digest)) {
        for (const pin of pins) pin.release();
        continue;
      }
      cache.#add({ digest, name, record, pins, users: 0, usedAt: store.nextUse(), checked: false, readAt: -Infinity, retired: false, layer: undefined });
    }
    const kept = new Set(Array.from(cache.#layers.values(), ({ name }) => name));
    for (const name of names) if (!kept.has(name.replace(/\.json$/, ''))) await rm(join(dir, name), { recursive: true, force: true });
    // The quota may have become smaller.
    cache.#makeRoom();
    return cache;
  }

  /** Bytes of packages and layers. */
  get usedBytes(): number {
    return this.#bytes + this.#options.store.usedBytes;
  }

  /** Digests of the layers that are here. */
  list(): string[] {
    return [...this.#layers.keys()];
  }

  /** The layer at once if it is here and known to be whole, else undefined. */
  tryAcquire(lock: PackageLock): LayerLease | undefined {
    const entry = this.#layers.get(lock.digest);
    return entry?.checked === true ? this.#lease(entry, lock, true) : undefined;
  }

  /**
   * The layer, made if need be. Rejects like installPackage, with STORE_FULL when what is in use leaves no room, and with PACKAGES_FAILED when a
   * package is not made for this machine. `bundleDir`: where packages lie that the bundle carries.
   */
  async acquire(lock: PackageLock, bundleDir?: string): Promise<LayerLease> {
    for (let turn = 0; turn < 100; turn++) {
      const here = this.tryAcquire(lock);
      if (here !== undefined) return here;
      let coming = this.#coming.get(lock.digest);
      if (coming === undefined) {
        coming = this.#bring(lock, bundleDir);
        this.#coming.set(lock.digest, coming);
        const forget = (): void => void this.#coming.delete(lock.digest);
        coming.then(forget, forget);
      }
      const { entry, wasHere } = await coming;
      if (!entry.retired) return this.#lease(entry, lock, wasHere);
    }
    throw new MetronomeError('STORE_FULL', 'The packages of the function are evicted again and again before they can be used. Raise agent.packageQuota.', { component: 'agent' });
  }

  /** Reads every file of a layer, unless that was done lately; damaged packages and the layers with them are taken out, to be made anew. Returns what was damaged, for people. */
  async suspect(digest: string): Promise<string[]> {
    const entry = this.#layers.get(digest);
    // A function that is broken itself fails at every start.
    if (entry === undefined || performance.now() - entry.readAt < READ_AGAIN_MS) return [];
    entry.readAt = performance.now();
    const damaged = await this.#options.store.findDamaged(entry.record.keys, true);
    this.#takeOut(damaged);
    return damaged.map(({ id, problem }) => `${id}: ${problem}`);
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#coming.values());
    await this.#removals;
  }

  async #bring(lock: PackageLock, bundleDir: string | undefined): Promise<{ entry: Entry; wasHere: boolean }> {
    const { store, dir } = this.#options;
    const found = this.#layers.get(lock.digest);
    if (found !== undefined) {
      // Left by a former agent: whole when it was made, but who knows what happened since.
      found.users++;
      try {
        const damaged = await store.findDamaged(found.record.keys, false);
        this.#takeOut(damaged);
        if (damaged.length === 0) {
          found.checked = true;
          utimes(join(dir, `${found.name}.json`), new Date(), new Date()).catch(() => {}); // only the order of eviction after a restart
          return { entry: found, wasHere: true };
        }
      } finally {
        this.#release(found);
      }
    }
    return { entry: await this.#make(lock, bundleDir), wasHere: false };
  }

  async #make(lock: PackageLock, bundleDir: string | undefined): Promise<Entry> {
    const { dir, store, installer } = this.#options;
    const packages = packagesHere(lock);
    const name = `${lock.digest}-${randomBytes(4).toString('hex')}`;
    const temporary = join(dir, `tmp-${name}`);
    let pins: PackagePin[] = [];
    try {
      for (let repairs = 0; ; repairs++) {
        pins = await this.#pinAll(lock, packages, bundleDir);
        // Sizes and times are compared while it is linked; what another boot of the machine left is read once.
        const damaged = [...(await store.findDamaged(store.ofFormerBoots(pins.map(({ key }) => key)), false))];
        if (damaged.length === 0) {
          const { damaged: broken, folders } = await installer.link({ store: store.dir, target: temporary, packages: packages.map((one) => ({ key: keyOf(one), path: lock.runtime === 'python3' ? SITE : one.path })) });
          if (broken.length === 0) return await this.#commit(lock, name, temporary, pins, folders);
          for (const { key, problem } of broken) damaged.push({ key, id: key, problem });
        }
        if (repairs >= MAX_REPAIRS) throw new MetronomeError('OBJECT_CORRUPT', `Packages of the function on this node are damaged again and again: ${damaged[0]?.id} (${damaged[0]?.problem}). Something else writes into the agent's folder.`, { component: 'agent' });
        this.#takeOut(damaged);
        for (const pin of pins.splice(0)) pin.release();
        await rm(temporary, { recursive: true, force: true });
      }
    } catch (error) {
      for (const pin of pins) pin.release();
      for (const path of [temporary, join(dir, name)]) await rm(path, { recursive: true, force: true });
      this.#makeRoom();
      throw orDiskFull(error, 'The layer with the packages of the function');
    }
  }

  async #commit(lock: PackageLock, name: string, temporary: string, pins: readonly PackagePin[], folders: number): Promise<Entry> {
    const { dir, store } = this.#options;
    const record: LayerRecord = { runtime: lock.runtime === 'python3' ? 'python3' : 'node', keys: pins.map(({ key }) => key), folders };
    await rename(temporary, join(dir, name));
    await writeFile(join(dir, `${name}.new`), JSON.stringify(record));
    await rename(join(dir, `${name}.new`), join(dir, `${name}.json`));
    const entry: Entry = { digest: lock.digest, name, record, pins, users: 0, usedAt: store.nextUse(), checked: true, readAt: -Infinity, retired: false, layer: undefined };
    this.#add(entry);
    this.#options.onAdded(lock.digest);
    return entry;
  }

  /** All packages of the layer, installed if need be; none stays pinned when one fails. */
  async #pinAll(lock: PackageLock, packages: readonly LockedPackage[], bundleDir: string | undefined): Promise<PackagePin[]> {
    const { store, quotaBytes } = this.#options;
    const pins: PackagePin[] = [];
    const missing: LockedPackage[] = [];
    for (const one of packages) {
      const pin = store.tryPin(keyOf(one));
      if (pin !== undefined) pins.push(pin);
      else missing.push(one);
    }
    if (missing.length === 0) return pins;
    let failure: { readonly error: unknown } | undefined;
    try {
      const isPython = lock.runtime === 'python3';
      const python = isPython ? await this.#options.python() : undefined;
      const npm = !isPython && missing.some(({ resolved }) => !resolved.startsWith('file:')) ? await this.#options.npm() : undefined;
      const context = { bundleDir, maxBytes: quotaBytes, ...(npm === undefined ? {} : { npm }), ...(python === undefined ? {} : { python }) };
      let next = 0;
      const work = async (): Promise<void> => {
        for (let one = missing[next++]; one !== undefined && failure === undefined; one = missing[next++]) {
          try {
            pins.push(await this.#pinOne(lock.runtime, one, context));
            this.#requireRoom();
          } catch (error) {
            failure ??= { error };
          }
        }
      };
      await Promise.all(Array.from({ length: Math.min(PARALLEL_PINS, missing.length) }, work));
    } catch (error) {
      failure ??= { error };
    }
    if (failure === undefined) return pins;
    for (const pin of pins) pin.release();
    throw failure.error;
  }

  /** A full disk is a reason to let go of what nobody uses. */
  async #pinOne(runtime: string, one: LockedPackage, context: Parameters<PackageStore['pin']>[2]): Promise<PackagePin> {
    const { store, log } = this.#options;
    try {
      return await store.pin(runtime, one, context);
    } catch (error) {
      if (MetronomeError.from(error).code !== 'STORE_FULL') throw error;
      const before = this.usedBytes;
      while (this.#evictOldest());
      if (this.usedBytes === before) throw error;
      await Promise.all([this.#removals, store.whenRemoved()]);
      log.warn({ package: packageId(one), freedBytes: before - this.usedBytes }, 'packages.evictedForRoom');
      return store.pin(runtime, one, context);
    }
  }

  #lease(entry: Entry, lock: PackageLock, wasHere: boolean): LayerLease {
    entry.users++;
    entry.usedAt = this.#options.store.nextUse();
    entry.layer ??= describe(join(this.#options.dir, entry.name), lock, this.#options.store);
    let held = true;
    return {
      layer: entry.layer,
      wasHere,
      release: () => {
        if (held) this.#release(entry);
        held = false;
      },
    };
  }

  #release(entry: Entry): void {
    entry.users--;
    if (entry.retired && entry.users === 0) this.#delete(entry);
  }

  #add(entry: Entry): void {
    this.#layers.set(entry.digest, entry);
    this.#bytes += entry.record.folders * FOLDER_BYTES;
  }

  /** Takes damaged packages out of the store, and all layers that were made from them. */
  #takeOut(damaged: readonly { readonly key: string; readonly id: string; readonly problem: string }[]): void {
    for (const { key, id, problem } of damaged) {
      this.#options.log.warn({ package: id, problem }, 'package.damaged');
      for (const entry of [...this.#layers.values()]) if (entry.record.keys.includes(key)) this.#retire(entry);
      this.#options.store.remove(key);
    }
  }

  #retire(entry: Entry): void {
    this.#layers.delete(entry.digest);
    entry.retired = true;
    this.#options.onRemoved(entry.digest);
    if (entry.users === 0) this.#delete(entry);
  }

  #delete(entry: Entry): void {
    this.#bytes -= entry.record.folders * FOLDER_BYTES;
    for (const pin of entry.pins) pin.release();
    const home = join(this.#options.dir, entry.name);
    // The record first: a folder without one is no layer.
    this.#removals = this.#removals.then(() => rm(`${home}.json`, { force: true })).then(() => rm(home, { recursive: true, force: true })).catch(() => {}); // removed at the next start
  }

  /** What came just now may push out others, but must itself fit. */
  #requireRoom(): void {
    this.#makeRoom();
    const { quotaBytes } = this.#options;
    if (this.usedBytes > quotaBytes) throw new MetronomeError('STORE_FULL', `The packages of the function need more room than the ${formatBytes(quotaBytes)} of agent.packageQuota leave beside the packages of running sandboxes. Raise it.`, { component: 'agent' });
  }

  #makeRoom(): void {
    while (this.usedBytes > this.#options.quotaBytes && this.#evictOldest());
  }

  /** Evicts the least recently used package or layer that nobody uses; false: there is none. */
  #evictOldest(): boolean {
    const { store } = this.#options;
    let layer: Entry | undefined;
    for (const entry of this.#layers.values()) if (entry.users === 0 && (layer === undefined || entry.usedAt < layer.usedAt)) layer = entry;
    const single = store.oldestUse();
    if (single !== undefined && (layer === undefined || single.usedAt < layer.usedAt)) store.remove(single.key);
    else if (layer !== undefined) this.#retire(layer);
    else return false;
    return true;
  }
}

/** Folder of a Python layer. */
const SITE = 'site-packages';

/** What of a lock belongs on this machine. PACKAGES_FAILED when it cannot do without something that does not. */
function packagesHere(lock: PackageLock): LockedPackage[] {
  const platform = platformHere();
  return lock.packages.filter((one) => {
    if (isForPlatform(one, platform)) return true;
    if (one.optional) return false;
    throw new MetronomeError('PACKAGES_FAILED', `The package ${packageId(one)} is made for ${[...one.os, ...one.cpu, ...one.libc].join(', ')}, not for this node (${[platform.os, platform.cpu, platform.libc].filter((word) => word !== '').join(', ')}).`, { component: 'agent' });
  });
}

function describe(dir: string, lock: PackageLock, store: PackageStore): PackageLayer {
  const here = packagesHere(lock);
  const subtrees = subtreeDigests(here);
  const isPython = lock.runtime === 'python3';
  return {
    digest: lock.digest,
    runtime: isPython ? 'python3' : 'node',
    dir,
    importPaths: isPython ? [join(dir, SITE)] : [],
    packages: here.map((one): LayerPackage => ({
      id: packageId(one), name: one.name, version: one.version, dir: isPython ? store.folder(keyOf(one)) : join(dir, one.path), isDirect: one.direct, subtree: subtrees.get(one.path) ?? '',
    })),
  };
}

async function readRecord(path: string): Promise<LayerRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(path, 'utf8')) as Partial<LayerRecord>; // checked below
    const isWhole = (record.runtime === 'node' || record.runtime === 'python3') && Array.isArray(record.keys) && record.keys.every((key) => typeof key === 'string') && Number.isFinite(record.folders);
    return isWhole ? (record as LayerRecord) : undefined;
  } catch {
    return undefined; // torn by a power cut: removed with the rest
  }
}
