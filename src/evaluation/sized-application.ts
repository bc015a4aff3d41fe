/**
 * An application with other sizes of its functions, in simulation: what Aquatope's resource manager tunes there. A function whose sandbox has fewer cores than it can use
 * runs slower in proportion, its start too; with less than half of the memory that its manifest asks for it does not end. Sizes beyond what it can use cost only money.
 */
import type { StageSize } from '../policy/resource-manager/resource-manager.ts';
import type { ApplicationModel } from '../sim/applications.ts';

/** Share of a manifest's memory below which the function does not end. */
const LEAST_MEMORY = 0.5;

/** The application with these sizes, one per function in order; undefined: it would not end. */
export function sizedApplication(application: ApplicationModel, sizes: readonly StageSize[]): ApplicationModel | undefined {
  if (application.functions.some(({ memoryMb }, i) => (sizes[i]?.memoryMb ?? memoryMb) < LEAST_MEMORY * memoryMb)) return undefined;
  return {
    ...application,
    functions: application.functions.map((each, i) => {
      const { cpu, memoryMb } = sizes[i] ?? { cpu: each.profile.cores, memoryMb: each.memoryMb };
      const { profile } = each;
      // Starts use one core, runs as many as they can.
      const startFactor = 1 / Math.min(1, cpu), runFactor = profile.cores / Math.min(cpu, profile.cores);
      return {
        ...each, memoryMb,
        profile: {
          ...profile, installMs: profile.installMs * startFactor, processMs: profile.processMs * startFactor, importMs: profile.importMs * startFactor, zygoteMs: profile.zygoteMs * startFactor,
          runMs: profile.runMs * runFactor, runMsPerMib: profile.runMsPerMib * runFactor, cores: Math.min(cpu, profile.cores),
        },
      };
    }),
  };
}
