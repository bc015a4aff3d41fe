/**
 * What a sandbox is made from, as one lease: the unpacked code of a function and the layer with its packages. Both are brought
 * at once if need be, and neither goes while the lease is held. For Node the code's node_modules is a link to the layer's.
 */
import { readlinkSync } from 'node:fs';
import { lstat, mkdir, rename, symlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import type { FunctionMessage } from '../../rpc/gen/metronome/v1/function.ts';
import type { AgentLog } from '../agent-options.ts';
import type { PackageLayer, ProgramLease } from '../program.ts';
import { BundleCache } from './bundle-cache.ts';
import { Installer } from './installer.ts';
import { LayerCache, type LayerLease } from './layer-cache.ts';
import { readNpmSettings, type NpmSettings } from './npm-settings.ts';
import { PackageStore } from './package-store.ts';

/** The part of a deployed function that says what its program is. */
export type ProgramSource = Pick<FunctionMessage, 'bundleDigest' | 'lock'>;

/** Options of the cache. */
export interface ProgramCacheOptions {
  /** The agent's folder. Code comes into its "bundles", packages into "packages" and "layers". */
  readonly dataDir: string;
  /** Disk space for packages and layers. */
  readonly packageQuotaBytes: number;
  /** Registry instead of the one that npm is configured for; '': that one. */
  readonly npmRegistry: string;
  readonly python: () => Promise<string>;
  readonly fetchBundle: (digest: string) => Promise<Uint8Array>;
  /** A package set (digest of a lock, or of a bundle) appeared on this node. */
  readonly onSetAdded: (digest: string) => void;
  /** It went. */
  readonly onSetRemoved: (digest: string) => void;
  /** A package appeared in the store. */
  readonly onPackageAdded: (id: string, bytes: number) => void;
  /** It went. */
  readonly onPackageRemoved: (id: string) => void;
  readonly log: AgentLog;
}

/** How long npm's settings are remembered: asking npm takes a third of a second. */
const SETTINGS_MS = 10 * 60_000;

export class ProgramCache {
  readonly #bundles: BundleCache;
  readonly #layers: LayerCache;
  readonly #store: PackageStore;
  readonly #installer: Installer;

  private constructor(bundles: BundleCache, layers: LayerCache, store: PackageStore, installer: Installer) {
    this.#bundles = bundles;
    this.#layers = layers;
    this.#store = store;
    this.#installer = installer;
  }

  /** Opens it with what a former agent left whole. */
  static async open(options: ProgramCacheOptions): Promise<ProgramCache> {
    const { dataDir, onSetAdded, onSetRemoved } = options;
    const installer = new Installer();
    const store = await PackageStore.open({ dir: join(dataDir, 'packages'), installer, onAdded: options.onPackageAdded, onRemoved: options.onPackageRemoved });
    const layers = await LayerCache.open({
      dir: join(dataDir, 'layers'), store, installer, quotaBytes: options.packageQuotaBytes, npm: rememberSettings(options), python: options.python, onAdded: onSetAdded, onRemoved: onSetRemoved, log: options.log,
    });
    const bundles = await BundleCache.open({ dir: join(dataDir, 'bundles'), fetch: options.fetchBundle, onAdded: onSetAdded, onRemoved: onSetRemoved });
    return new ProgramCache(bundles, layers, store, installer);
  }

  /** Package sets that are here. */
  sets(): string[] {
    return [...this.#layers.list(), ...this.#bundles.list()];
  }

  /** Packages that are here. */
  packages(): { readonly id: string; readonly unpackedBytes: number }[] {
    return this.#store.list();
  }

  get packageCount(): number {
    return this.#store.count;
  }

  /** Bytes of packages and layers. */
  get packageBytes(): number {
    return this.#layers.usedBytes;
  }

  /** The program at once if all of it is here, else undefined. */
  tryAcquire({ bundleDigest, lock }: ProgramSource): ProgramLease | undefined {
    if (lock === undefined) return this.#bundles.tryAcquire(bundleDigest);
    const packages = this.#layers.tryAcquire(lock);
    if (packages === undefined) return undefined;
    const code = this.#bundles.tryAcquire(bundleDigest, lock.digest);
    if (code !== undefined && isLinked(code.dir, packages.layer)) return combine(code, packages);
    code?.release();
    packages.release();
    return undefined;
  }

  /** The program, fetched and installed if need be. Rejects like BundleCache.acquire and LayerCache.acquire. */
  async acquire({ bundleDigest, lock }: ProgramSource): Promise<ProgramLease> {
    if (lock === undefined) return this.#bundles.acquire(bundleDigest);
    // Packages that the bundle carries can only be installed after it came; others come at the same time.
    const carries = lock.packages.some(({ resolved }) => resolved.startsWith('file:'));
    const code = this.#bundles.acquire(bundleDigest, lock.digest);
    const packages = carries ? code.then((bundle) => this.#layers.acquire(lock, bundle.dir)) : this.#layers.acquire(lock);
    const [codeEnd, packagesEnd] = await Promise.allSettled([code, packages]);
    try {
      if (codeEnd.status === 'rejected') throw codeEnd.reason;
      if (packagesEnd.status === 'rejected') throw packagesEnd.reason;
      await linkPackages(codeEnd.value.dir, packagesEnd.value.layer);
      return combine(codeEnd.value, packagesEnd.value);
    } catch (error) {
      if (codeEnd.status === 'fulfilled') codeEnd.value.release();
      if (packagesEnd.status === 'fulfilled') packagesEnd.value.release();
      throw error;
    }
  }

  /**
   * A function could not be loaded: reads every file of its packages, unless that was done lately, and takes out what is damaged.
   * Returns what was, for people; never rejects.
   */
  async suspect({ lock }: ProgramSource): Promise<readonly string[]> {
    if (lock === undefined) return [];
    try {
      return await this.#layers.suspect(lock.digest);
    } catch {
      return []; // the suspicion is not confirmed; the error that raised it is told
    }
  }

  /** Breaks off what is under way; it leaves temporary files at most, which the next start removes. */
  async close(): Promise<void> {
    await this.#installer.close();
    await this.#layers.close();
    await this.#store.close();
    await this.#bundles.close();
  }
}

function combine(code: ProgramLease, packages: LayerLease): ProgramLease {
  return {
    dir: code.dir,
    layer: packages.layer,
    wasHere: code.wasHere && packages.wasHere,
    release() {
      code.release();
      packages.release();
    },
  };
}

const MODULES = 'node_modules';

function isLinked(codeDir: string, layer: PackageLayer): boolean {
  if (layer.runtime !== 'node') return true;
  try {
    return readlinkSync(join(codeDir, MODULES)) === join(layer.dir, MODULES);
  } catch {
    return false;
  }
}

/** Points the code's node_modules at a layer, in one step. FUNCTION_LOAD_FAILED when the code has one of its own. */
async function linkPackages(codeDir: string, layer: PackageLayer): Promise<void> {
  if (isLinked(codeDir, layer)) return;
  const place = join(codeDir, MODULES);
  const found = await lstat(place).catch(() => undefined);
  if (found !== undefined && !found.isSymbolicLink()) throw new MetronomeError('FUNCTION_LOAD_FAILED', 'The bundle of the function has a folder node_modules of its own, and the function has locked packages. Leave out one of them.', { component: 'agent' });
  // A layer may be empty when all of its packages are for other platforms.
  await mkdir(join(layer.dir, MODULES), { recursive: true });
  const temporary = `${codeDir}.link-${process.hrtime.bigint()}`;
  await symlink(join(layer.dir, MODULES), temporary);
  await rename(temporary, place);
}

function rememberSettings({ npmRegistry }: ProgramCacheOptions): () => Promise<NpmSettings> {
  let settings: Promise<NpmSettings> | undefined;
  let untilMs = 0;
  return () => {
    if (settings === undefined || performance.now() > untilMs) {
      // The user's home is no project whose settings would count.
      settings = readNpmSettings({ registry: npmRegistry, cwd: homedir() });
      untilMs = performance.now() + SETTINGS_MS;
    }
    return settings;
  };
}
