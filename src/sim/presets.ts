/** Scenarios by name, for whoever wants to look at a simulation without writing one. */
import { PLAIN_PROFILE } from './profiles.ts';
import type { Scenario, ScenarioFunction } from './scenario.ts';

/** A scenario with what it shows. */
export interface Preset {
  readonly description: string;
  readonly scenario: Scenario;
}

const MIB = 1024 ** 2;
const plain = { slaMs: 2_000, memoryMb: 256, critical: false, idempotent: true, inputBytes: 0, inputSigma: 0 } as const;
const node = { slots: 4, cores: 4, memoryMb: 4_096, keepAliveMs: 30_000, zygoteMb: 512, objectQuotaBytes: 10e9 } as const;

function functions(count: number, make: (rank: number) => Partial<ScenarioFunction>): ScenarioFunction[] {
  return Array.from({ length: count }, (_, rank) => ({ ...plain, name: `f${rank}`, packageSet: `packages-${rank % 4}`, profile: PLAIN_PROFILE, ...make(rank) }));
}

export const PRESETS: Readonly<Record<string, Preset>> = {
  'large-inputs': {
    description: 'Eight functions that read tens of MiB which lie on one node each: waiting for that node is often worth it.',
    scenario: {
      nodes: 8, node, bytesPerMs: 60_000, mostPerS: 14, leastPerS: 2, durationMs: 30_000, warmUpMs: 3_000, faults: {}, scheduler: {},
      functions: functions(8, (rank) => ({ inputBytes: (8 + 6 * rank) * MIB, inputSigma: 0.6, profile: { ...PLAIN_PROFILE, installMs: 400, importMs: 120, runMs: 60 + 30 * rank, runMsPerMib: 4, noise: 0.15 } })),
    },
  },
  'cold-starts': {
    description: 'Twenty functions with heavy packages on six nodes: warm sandboxes are rare and worth waiting for.',
    scenario: {
      nodes: 6, node: { ...node, keepAliveMs: 8_000 }, bytesPerMs: 125_000, mostPerS: 20, leastPerS: 0.5, durationMs: 30_000, warmUpMs: 3_000, faults: {}, scheduler: {},
      functions: functions(20, (rank) => ({ profile: { ...PLAIN_PROFILE, installMs: 1_500, processMs: 60, importMs: 500 + 40 * rank, zygoteMs: 40, runMs: 40 + 10 * rank, noise: 0.2 } })),
    },
  },
  'node-failures': {
    description: 'Six nodes of which some die, hang or are drained now and then; idempotent work is tried again.',
    scenario: {
      nodes: 6, node, bytesPerMs: 60_000, mostPerS: 16, leastPerS: 1, durationMs: 40_000, warmUpMs: 2_000, faults: { kill: 6, hang: 3, drain: 4, disconnect: 6 }, scheduler: {},
      functions: functions(8, (rank) => ({ idempotent: rank !== 3, inputBytes: rank % 2 === 1 ? 4 * MIB : 0, inputSigma: 0.8, profile: { ...PLAIN_PROFILE, installMs: 300, importMs: 100, runMs: 40 + 20 * rank, noise: 0.2 } })),
    },
  },
};
