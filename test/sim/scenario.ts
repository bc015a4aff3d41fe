/** A small cluster in which everything goes wrong now and then. */
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import type { Scenario } from '../../src/sim/scenario.ts';

export const ROUGH: Scenario = {
  nodes: 4, node: { slots: 3, cores: 3, memoryMb: 1_024, keepAliveMs: 5_000, zygoteMb: 256, objectQuotaBytes: 1e9 }, bytesPerMs: 50_000,
  functions: Array.from({ length: 8 }, (_, i) => ({
    name: `f${i}`, slaMs: 1_500, memoryMb: 128 + 64 * (i % 3), critical: i % 2 === 0, idempotent: i !== 3, packageSet: `p${i % 4}`, inputBytes: i % 2 === 1 ? 2e6 : 0, inputSigma: 1,
    profile: { ...PLAIN_PROFILE, installMs: 300, importMs: 100, runMs: 30 + 20 * i, noise: 0.2 },
  })),
  mostPerS: 20, leastPerS: 1, durationMs: 20_000, warmUpMs: 2_000,
  faults: { kill: 6, hang: 6, disconnect: 10, loseData: 4, slow: 6, drain: 6, forgetWarm: 20, lateMessages: 10, duplicateResults: 10 },
  scheduler: {},
};

/** The same with what lies, gets lost, comes in another order, or at another time. */
export const DECEITFUL: Scenario = {
  ...ROUGH,
  faults: { kill: 3, disconnect: 4, loseWarm: 12, claimWarm: 12, claimSlots: 10, loseMessages: 8, reorderMessages: 12, wrongPredictions: 10, latePredictions: 10, missingPredictions: 2, clockJump: 3 },
};

/** Without faults, shorter. */
export const SMOOTH: Scenario = { ...ROUGH, durationMs: 6_000, warmUpMs: 1_000, faults: {} };
