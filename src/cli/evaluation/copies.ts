/**
 * The functions of several owners: an application deployed again and again under names of its own. What owners deploy has the same code here, but not the
 * same package set: each lock has a digest of its own, as the sets of different people have, so that a zygote of one does not serve the others.
 */
import { packFunction } from '../../config/bundle.ts';
import { countPackages } from '../../config/lockfile.ts';
import { loadManifest } from '../../config/manifest.ts';
import { sealLock } from '../../config/package-lock.ts';
import { resolvePackages } from '../../config/packages.ts';
import type { SchedulerClient } from '../../rpc/client.ts';
import type { PackageLock } from '../../rpc/gen/metronome/v1/function.ts';
import { packageCacheDir } from '../project.ts';

/** "video-split" of owner 2 → "video-split-o2". */
export function copyName(name: string, copy: number): string {
  return `${name}-o${copy}`;
}

/** "video-split-o2" → "video-split". */
export function originalName(name: string): string {
  return name.replace(/-o\d+$/, '');
}

/** Deploys the application of a folder for the owners 0 to `copies` − 1. Returns the names of all functions. */
export async function deployCopies(client: SchedulerClient, folder: string, copies: number, keepAliveMs: number, signal: AbortSignal): Promise<string[]> {
  const manifest = await loadManifest(folder);
  const cacheDir = await packageCacheDir();
  const names: string[] = [];
  for (const { spec, codeDir } of manifest.functions) {
    const { lock, files } = await resolvePackages({ codeDir, ...spec }, cacheDir === undefined ? {} : { cacheDir });
    const bundle = Buffer.from(await packFunction(codeDir, { files }));
    for (let copy = 0; copy < copies; copy++) {
      const name = copyName(spec.name, copy);
      const own = lock === undefined ? undefined : lockOf(lock, copy);
      await client.applyFunction({ spec: { ...spec, name, keepAliveMs, dependencyCount: lock === undefined ? 0 : countPackages(lock) }, bundle, ...(own === undefined ? {} : { lock: own }) }, { signal });
      names.push(name);
    }
  }
  for (const { spec } of manifest.workflows) {
    for (let copy = 0; copy < copies; copy++) {
      const steps = spec.steps.map((step) => ({ ...step, function: copyName(step.function, copy) }));
      await client.applyWorkflow({ spec: { ...spec, name: copyName(spec.name, copy), steps } }, { signal });
    }
  }
  return names;
}

/** The same packages under a digest of its own: the first one is said to depend on its owner, which nobody installs. */
function lockOf(lock: PackageLock, copy: number): PackageLock {
  return sealLock({ ...lock, packages: lock.packages.map((one, i) => (i === 0 ? { ...one, dependencies: [...one.dependencies, `metronome-owner-${copy}`] } : one)) });
}
