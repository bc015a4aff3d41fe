/** Cells in simulation, several at once in a Piscina pool: the scheduler's own code on virtual nodes, with costs that were fitted to real runs (apps/profiles.json). */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Piscina } from 'piscina';
import { rateText } from '../../config/fields.ts';
import { MetronomeError } from '../../core/errors.ts';
import { loadApplicationModel, PROFILES_FILE } from '../../evaluation/application-models.ts';
import type { Backend, CellResult } from '../../evaluation/backend.ts';
import type { ClusterPreset } from '../../evaluation/cluster-preset.ts';
import type { SimulatedCellTask } from '../../evaluation/simulate-cell.ts';
import { readProfiles } from '../../sim/profile-file.ts';
import type { ApplicationModel } from '../../sim/applications.ts';
import type { ApplicationName } from '../../workload/applications.ts';
import { PROJECT_ROOT } from '../project.ts';

/** What is simulated. */
export interface SimulatedBackendOptions {
  readonly preset: ClusterPreset;
  readonly applications: readonly ApplicationName[];
  readonly seed: number;
  readonly inputs: number;
  readonly training: number;
  /** File of what functions cost. @default apps/profiles.json */
  readonly profiles?: string;
  /** @default the number of cores */
  readonly threads?: number;
}

/** Reads the profiles and starts the pool. */
export async function openSimulatedBackend({ preset, applications, seed, inputs, training, profiles: file, threads = availableParallelism() }: SimulatedBackendOptions): Promise<Backend> {
  const appsDir = join(PROJECT_ROOT, 'apps');
  const profiles = await readProfiles(file ?? join(appsDir, PROFILES_FILE));
  const models = new Map<ApplicationName, ApplicationModel>();
  for (const name of applications) models.set(name, await loadApplicationModel(name, appsDir, profiles));
  const entry = new URL(`../../../workers/simulate${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href;
  // All stay: a thread that is ended between two cells has trained its models in vain.
  const pool = new Piscina<SimulatedCellTask, CellResult>({ filename: entry, minThreads: threads, maxThreads: threads, concurrentTasksPerWorker: 1, recordTiming: false });
  return {
    isSimulated: true,
    parallel: threads,
    describe: () => `${preset.nodes} nodes × ${preset.slots} ${preset.slots === 1 ? 'slot' : 'slots'}, ${preset.cpus} ${preset.cpus === 1 ? 'core' : 'cores'} each${preset.hostCpus === undefined ? '' : ` on ${preset.hostCpus} shared ones`}, links ${rateText(preset.linkBitsPerS)}`,
    parameters: () => ({ ...preset, profiles: profiles.note, inputs, training }),
    async run(cell, load, signal) {
      const application = models.get(cell.application);
      if (application === undefined) throw new MetronomeError('INVALID_REQUEST', `The application "${cell.application}" was not prepared.`);
      return pool.run({ preset, application, cell, load, inputs, seed, training, ...(profiles.cluster === undefined ? {} : { cluster: profiles.cluster }) }, { name: 'evaluate', signal });
    },
    close: () => pool.destroy(),
  };
}
