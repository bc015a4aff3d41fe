/** Sizes of the inputs of an evaluation: the same on real nodes and in simulation, for the same preset and seed. */
import type { ApplicationName } from '../workload/applications.ts';
import { createInputSizes } from '../workload/input-sizes.ts';
import type { ClusterPreset } from './cluster-preset.ts';

/** One after the other as one owner uploads them, each like the one before it, bytes. Input i begins on node i modulo the nodes. */
export function evaluationInputSizes(preset: ClusterPreset, application: ApplicationName, seed: number, count: number): number[] {
  const sizes = createInputSizes({ application, seed, scale: preset.inputScale, factor: preset.inputFactor[application] });
  return Array.from({ length: count }, () => sizes.next(0));
}
