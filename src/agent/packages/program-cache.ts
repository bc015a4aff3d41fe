/**
 * What a sandbox is made from, as one lease: the unpacked code of a function and the layer with its packages. Both are brought
 * at once if need be, and neither goes while the lease is held.
 */
import type { FunctionMessage } from '../../rpc/gen/metronome/v1/function.ts';
import type { ProgramLease } from '../program.ts';
import { BundleCache } from './bundle-cache.ts';

/** The part of a deployed function that says what its program is. */
export type ProgramSource = Pick<FunctionMessage, 'bundleDigest' | 'lock'>;

/** Options of the cache. */
export interface ProgramCacheOptions {
  /** The agent's folder; code comes into its "bundles". */
  readonly bundlesDir: string;
  readonly fetchBundle: (digest: string) => Promise<Uint8Array>;
  /** A package set (digest of a lock, or of a bundle) appeared on this node. */
  readonly onSetAdded: (digest: string) => void;
  /** It went. */
  readonly onSetRemoved: (digest: string) => void;
}

export class ProgramCache {
  readonly #bundles: BundleCache;

  private constructor(bundles: BundleCache) {
    this.#bundles = bundles;
  }

  /** Opens it with what a former agent left whole. */
  static async open(options: ProgramCacheOptions): Promise<ProgramCache> {
    const { bundlesDir, fetchBundle, onSetAdded, onSetRemoved } = options;
    return new ProgramCache(await BundleCache.open({ dir: bundlesDir, fetch: fetchBundle, onAdded: onSetAdded, onRemoved: onSetRemoved }));
  }

  /** Package sets that are here. */
  sets(): string[] {
    return this.#bundles.list();
  }

  /** The program at once if all of it is here, else undefined. */
  tryAcquire(source: ProgramSource): ProgramLease | undefined {
    return this.#bundles.tryAcquire(source.bundleDigest);
  }

  /** The program, fetched and installed if need be. Rejects with what BundleCache.acquire rejects with. */
  acquire(source: ProgramSource): Promise<ProgramLease> {
    return this.#bundles.acquire(source.bundleDigest);
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await this.#bundles.close();
  }
}
