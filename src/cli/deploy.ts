/** Deploys a manifest: functions first, then the workflows that name them. */
import type { SchedulerClient } from '../rpc/client.ts';
import { MetronomeError } from '../core/errors.ts';
import { formatBytes } from '../core/units.ts';
import { packFunction } from '../config/bundle.ts';
import { countPackages } from '../config/lockfile.ts';
import type { Manifest } from '../config/manifest.ts';
import { resolvePackages } from '../config/packages.ts';
import { packageCacheDir } from './project.ts';

/** What became of one document. */
export interface Deployed {
  readonly kind: 'Function' | 'Workflow';
  readonly name: string;
  readonly version: string;
  readonly result: 'changed' | 'unchanged' | 'valid';
}

/** How to deploy. */
export interface DeployOptions {
  readonly client: SchedulerClient;
  readonly manifest: Manifest;
  /** Checks everything and changes nothing. */
  readonly dryRun?: boolean;
  /** Leaves the functions of the manifest alone. */
  readonly workflowsOnly?: boolean;
  readonly signal?: AbortSignal;
  readonly progress: (line: string) => void;
}

/** Packs and applies, one after the other, in the order of the manifest. Stops at the first error. */
export async function deploy(options: DeployOptions): Promise<Deployed[]> {
  const { client, manifest, progress, dryRun = false } = options;
  const call = options.signal === undefined ? {} : { signal: options.signal };
  const done: Deployed[] = [];
  const cacheDir = await packageCacheDir();
  for (const { spec, codeDir } of options.workflowsOnly === true ? [] : manifest.functions) {
    const { lock, files } = await resolvePackages({ codeDir, ...spec }, {
      nowMs: Date.now(),
      onRun: (program) => progress(`function ${spec.name}: ${program} resolves its packages …`),
      ...(cacheDir === undefined ? {} : { cacheDir }),
    });
    const dependencyCount = lock === undefined ? 0 : countPackages(lock);
    const bundle = await packFunction(codeDir, { files });
    const size = `${formatBytes(bundle.byteLength)} of code${lock === undefined ? '' : `, ${dependencyCount} ${dependencyCount === 1 ? 'package' : 'packages'} locked`}`;
    const { function: stored, changed } = await client.applyFunction({ spec: { ...spec, dependencyCount }, bundle: Buffer.from(bundle.buffer, bundle.byteOffset, bundle.byteLength), dryRun, ...(lock === undefined ? {} : { lock }) }, call);
    const result = dryRun ? 'valid' : changed ? 'changed' : 'unchanged';
    progress(`function ${spec.name}: ${result} (${size})`);
    done.push({ kind: 'Function', name: spec.name, version: stored?.version ?? '', result });
  }
  const ownFunctions = new Set(manifest.functions.map(({ spec }) => spec.name));
  for (const { spec } of manifest.workflows) {
    const applied = await client.applyWorkflow({ spec, dryRun }, call).catch((error: unknown) => {
      // A dry run stored none of the functions that this workflow names, so the scheduler cannot know them.
      if (dryRun && error instanceof MetronomeError && error.code === 'FUNCTION_NOT_FOUND' && spec.steps.every((step) => ownFunctions.has(step.function))) return undefined;
      throw error;
    });
    const result = dryRun ? 'valid' : applied?.changed === true ? 'changed' : 'unchanged';
    progress(`workflow ${spec.name}: ${result}`);
    done.push({ kind: 'Workflow', name: spec.name, version: applied?.workflow?.version ?? '', result });
  }
  return done;
}
