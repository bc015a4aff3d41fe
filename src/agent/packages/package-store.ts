/**
 * The packages of one node, by content: each is installed once, whatever function needs it, and found by its integrity. A package
 * that is pinned never goes; the others go least recently used first, when the layers tell (layer-cache.ts).
 *
 * On disk as install-protocol.ts says. What a crash left half is removed at the start.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import type { LockedPackage } from '../../rpc/gen/metronome/v1/function.ts';
import { packageId, resolvedProblem } from '../../config/package-lock.ts';
import { bootId } from '../boot-id.ts';
import type { Installer } from './installer.ts';
import type { InstallOrder, PackageRecord } from './install-protocol.ts';

/** A package that cannot go until it is released. */
export interface PackagePin {
  readonly key: string;
  /** It had to be installed. */
  readonly installed: boolean;
  release(): void;
}

/** Options of the store. */
export interface PackageStoreOptions {
  readonly dir: string;
  readonly installer: Installer;
  readonly onAdded: (id: string, bytes: number) => void;
  readonly onRemoved: (id: string) => void;
}

/** What an installation needs beside the package itself. */
export type InstallContext = Pick<InstallOrder, 'npm' | 'python' | 'maxBytes'> & {
  /** Folder of the bundle, for packages that it carries. */
  readonly bundleDir: string | undefined;
};

interface Entry {
  record: PackageRecord;
  pins: number;
  /** Grows with every use. */
  usedAt: number;
}

export class PackageStore {
  readonly dir: string;
  readonly #options: PackageStoreOptions;
  readonly #packages = new Map<string, Entry>();
  readonly #coming = new Map<string, Promise<void>>();
  readonly #boot = bootId();
  #bytes = 0;
  #uses = 0;
  #removals: Promise<void> = Promise.resolve();

  private constructor(options: PackageStoreOptions) {
    this.#options = options;
    this.dir = options.dir;
  }

  /** Opens the store with the whole packages that a former agent left. */
  static async open(options: PackageStoreOptions): Promise<PackageStore> {
    const store = new PackageStore(options);
    await mkdir(store.dir, { recursive: true });
    const names = new Set(await readdir(store.dir));
    const found: { key: string; record: PackageRecord; usedAtMs: number }[] = [];
    for (const name of names) {
      if (!name.endsWith('.json')) continue;
      const key = name.slice(0, -'.json'.length);
      const record = names.has(key) && names.has(`${key}.files`) ? await readRecord(join(store.dir, name)) : undefined;
      if (record !== undefined) found.push({ key, record, usedAtMs: (await stat(join(store.dir, name))).mtimeMs });
    }
    for (const { key, record } of found.sort((a, b) => a.usedAtMs - b.usedAtMs)) {
      store.#packages.set(key, { record, pins: 0, usedAt: ++store.#uses });
      store.#bytes += record.bytes;
    }
    for (const name of names) if (!store.#packages.has(name.replace(/\.(json|files)$/, ''))) await rm(join(store.dir, name), { recursive: true, force: true });
    return store;
  }

  get usedBytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#packages.size;
  }

  /** Ids and sizes of all that is here. */
  list(): { readonly id: string; readonly unpackedBytes: number }[] {
    return Array.from(this.#packages.values(), ({ record }) => ({ id: record.id, unpackedBytes: record.bytes }));
  }

  /** Folder of a package. */
  folder(key: string): string {
    return join(this.dir, key);
  }

  /** Pins a package that is here, if it is. */
  tryPin(key: string, installed = false): PackagePin | undefined {
    const entry = this.#packages.get(key);
    if (entry === undefined) return undefined;
    entry.pins++;
    entry.usedAt = ++this.#uses;
    let held = true;
    return {
      key,
      installed,
      release: () => {
        if (held) entry.pins--;
        held = false;
      },
    };
  }

  /** Pins a package, installed if need be. Several that want it at once wait for one installation. */
  async pin(runtime: string, one: LockedPackage, context: InstallContext): Promise<PackagePin> {
    const key = keyOf(one);
    let installed = false;
    // It may be evicted between its arrival and our turn; that cannot go on for ever.
    for (let turn = 0; turn < 100; turn++) {
      const pin = this.tryPin(key, installed);
      if (pin !== undefined) return pin;
      let coming = this.#coming.get(key);
      if (coming === undefined) {
        coming = this.#install(key, runtime, one, context);
        this.#coming.set(key, coming);
        const forget = (): void => void this.#coming.delete(key);
        coming.then(forget, forget);
      }
      installed = true;
      await coming;
    }
    throw new MetronomeError('STORE_FULL', `The package ${one.name} ${one.version} is evicted again and again before it can be used. Raise agent.packageQuota.`, { component: 'agent' });
  }

  /** When the least recently used package that nobody pins was used; undefined: there is none. */
  oldestUse(): { readonly key: string; readonly usedAt: number } | undefined {
    let oldest: { key: string; usedAt: number } | undefined;
    for (const [key, { pins, usedAt }] of this.#packages) if (pins === 0 && (oldest === undefined || usedAt < oldest.usedAt)) oldest = { key, usedAt };
    return oldest;
  }

  /** A number that orders uses; for layers, which are ordered with packages. */
  nextUse(): number {
    return ++this.#uses;
  }

  /** Takes a package out, pinned or not (then it was found damaged; whoever has its files open keeps them). */
  remove(key: string): void {
    const entry = this.#packages.get(key);
    if (entry === undefined) return;
    this.#packages.delete(key);
    this.#bytes -= entry.record.bytes;
    this.#options.onRemoved(entry.record.id);
    const home = this.folder(key);
    // The record first: without it the rest is nothing.
    this.#removals = this.#removals.then(() => rm(`${home}.json`, { force: true })).then(() => rm(home, { recursive: true, force: true })).then(() => rm(`${home}.files`, { force: true })).catch(() => {}); // removed at the next start
  }

  /**
   * Which of these packages are not what was installed. Sizes and times are compared; digests too, if told or if the machine was started
   * since they were last known to be whole: what was written shortly before a power cut may be gone.
   */
  async findDamaged(keys: readonly string[], digests: boolean): Promise<readonly { readonly key: string; readonly id: string; readonly problem: string }[]> {
    const { installer } = this.#options;
    const here = keys.filter((key) => this.#packages.has(key));
    const old = digests ? here : this.ofFormerBoots(here);
    const damaged = [...(await installer.verify(this.dir, old, true)), ...(await installer.verify(this.dir, here.filter((key) => !old.includes(key)), false))];
    const bad = new Set(damaged.map(({ key }) => key));
    for (const key of old) if (!bad.has(key)) await this.#noteBoot(key);
    return damaged.map(({ key, problem }) => ({ key, id: this.#packages.get(key)?.record.id ?? key, problem }));
  }

  /** Those of the packages that were not known to be whole since the machine was started. */
  ofFormerBoots(keys: readonly string[]): string[] {
    return keys.filter((key) => this.#packages.get(key)?.record.boot !== this.#boot);
  }

  /** Resolves when the space of what was removed is free. */
  whenRemoved(): Promise<void> {
    return this.#removals;
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#coming.values());
    await this.#removals;
  }

  async #install(key: string, runtime: string, one: LockedPackage, { bundleDir, ...context }: InstallContext): Promise<void> {
    // What was removed under this key is gone before it comes again.
    await this.#removals;
    const id = packageId(one);
    const isFile = one.resolved.startsWith('file:');
    // The scheduler asked too; whoever can speak to an agent without it gets no further.
    const problem = resolvedProblem(one.resolved, runtime);
    if (problem !== undefined) throw new MetronomeError('PACKAGES_FAILED', `The package ${id} cannot be installed: its address ${problem}.`, { component: 'agent' });
    if (isFile && bundleDir === undefined) throw new MetronomeError('INTERNAL', `The bundle with ${id} was not brought before its packages.`, { component: 'agent' });
    const order: InstallOrder = {
      store: this.dir, key, work: join(this.dir, `tmp-${randomBytes(6).toString('hex')}`), runtime: runtime === 'python3' ? 'python3' : 'node', id, name: one.name, version: one.version, integrity: one.integrity, ...context,
      ...(isFile ? { file: join(bundleDir ?? '', one.resolved.slice('file:'.length)) } : one.resolved === '' ? {} : { url: one.resolved }),
    };
    const { bytes } = await this.#options.installer.install(order).catch(async (error: unknown) => {
      // The thread does it itself unless it died.
      await rm(order.work, { recursive: true, force: true, maxRetries: 10 });
      throw error;
    });
    this.#packages.set(key, { record: { id, name: one.name, version: one.version, integrity: one.integrity, bytes, boot: this.#boot }, pins: 0, usedAt: ++this.#uses });
    this.#bytes += bytes;
    this.#options.onAdded(id, bytes);
  }

  async #noteBoot(key: string): Promise<void> {
    const entry = this.#packages.get(key);
    if (entry === undefined || entry.record.boot === this.#boot) return;
    entry.record = { ...entry.record, boot: this.#boot };
    const path = `${this.folder(key)}.json`;
    // Best effort: at worst it is verified once more.
    await writeFile(`${path}.new`, JSON.stringify(entry.record)).then(() => rename(`${path}.new`, path)).catch(() => {});
  }
}

/** Where a package lies in the store: readable for people, unique by its digest. */
export function keyOf({ name, version, integrity }: Pick<LockedPackage, 'name' | 'version' | 'integrity'>): string {
  return `${name.replace('/', '+').slice(0, 100)}@${version.slice(0, 40)}-${createHash('sha256').update(JSON.stringify([name, version, integrity])).digest('hex').slice(0, 32)}`;
}

async function readRecord(path: string): Promise<PackageRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(path, 'utf8')) as Partial<PackageRecord>; // checked below
    const { id, name, version, integrity, bytes, boot } = record;
    const isWhole = typeof id === 'string' && typeof name === 'string' && typeof version === 'string' && typeof integrity === 'string' && Number.isFinite(bytes) && typeof boot === 'string';
    return isWhole ? (record as PackageRecord) : undefined;
  } catch {
    return undefined; // torn by a power cut: removed with the rest
  }
}
