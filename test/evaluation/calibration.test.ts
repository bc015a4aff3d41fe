import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadApplicationModel, PROFILES_FILE } from '../../src/evaluation/application-models.ts';
import { WARM } from '../../src/predictor/predictor.ts';
import { runApplications, type ApplicationModel, type ApplicationsResult } from '../../src/sim/applications.ts';
import { calibrate } from '../../src/sim/calibrate.ts';
import type { CalibrationSample } from '../../src/sim/calibration-samples.ts';
import { readProfiles } from '../../src/sim/profile-file.ts';
import { createInputSizes } from '../../src/workload/input-sizes.ts';

const APPS = fileURLToPath(new URL('../../apps', import.meta.url));
const CORES = { nodeCores: 1, hostCores: 3 };
const sizes = createInputSizes({ application: 'log', seed: 3, factor: 0.3 });
const inputs = Array.from({ length: 16 }, (_, i) => ({ bytes: sizes.next(i), node: i % 6 }));

/** Six nodes with one slot on a machine with three cores and some contention: what runs at once disturbs each other. */
function run(model: ApplicationModel, policy: string, seed: number, warmUp = 10): ApplicationsResult {
  return runApplications({
    seed, policy, applications: [model], copies: 3, inputs, warmUp, concurrency: 4,
    cluster: { nodes: 6, node: { slots: 1, cores: CORES.nodeCores, memoryMb: 2_048, keepAliveMs: 60_000, zygoteMb: 0, objectQuotaBytes: 1e12 }, bytesPerMs: 25_000, installed: true, host: { cores: CORES.hostCores, contention: 0.3 } },
    requests: Array.from({ length: 160 }, (_, i) => ({ application: model.name, copy: (i * 7 + seed) % 3, input: (i * 5 + seed) % inputs.length })),
  });
}

const meanOf = ({ executions }: ApplicationsResult): number => executions.reduce((sum, { latencyMs }) => sum + latencyMs, 0) / executions.length;

describe('calibration from runs on nodes that disturb each other', () => {
  it('gives profiles that predict the mean latency of other runs, also under another policy', async () => {
    const truth = await loadApplicationModel('log', APPS, await readProfiles(join(APPS, PROFILES_FILE)));
    const samples = [1, 2, 3].flatMap((seed) => {
      const runs = new Map<string, number>();
      const calls = run(truth, 'round-robin', seed, 0).executions.flatMap(({ copy, steps }) => steps.flatMap((step) => (step.invocation.result === undefined ? [] : [{ ...step, copy, result: step.invocation.result }])));
      return calls.sort((a, b) => a.result.acceptedAtMs - b.result.acceptedAtMs).map(({ function: name, copy, nodeName, invocation, result }): CalibrationSample => {
        const { startState, fetchedMs, initialisedMs, ranMs, acceptedAtMs } = result;
        const sandbox = `${name} ${copy} ${nodeName}`;
        const earlierRuns = startState === WARM ? (runs.get(sandbox) ?? 1) : 0;
        runs.set(sandbox, earlierRuns + 1);
        // One run after the other on one clock.
        return { function: name, application: 'log', node: nodeName, startState, earlierRuns, inputBytes: invocation.inputBytes, movedBytes: result.fetchedBytes, fetchedMs, initialisedMs, ranMs, beganAtMs: acceptedAtMs + seed * 1e9 };
      });
    });
    const { functions, contention } = calibrate(samples, CORES);
    expect(Math.abs(contention - 0.3)).toBeLessThan(0.16);
    for (const { function: name, profile } of functions) {
      const real = truth.functions.find((each) => each.name === name)!.profile;
      const costOf = ({ runMs, runMsPerMib }: typeof real): number => runMs + runMsPerMib; // of one MiB
      expect(Math.abs(costOf(profile) / costOf(real) - 1), name).toBeLessThan(0.2);
    }
    const fitted: ApplicationModel = { ...truth, functions: truth.functions.map((each) => ({ ...each, profile: { ...each.profile, ...functions.find(({ function: name }) => name === each.name)!.profile, output: each.profile.output } })) };
    for (const policy of ['round-robin', 'naive-locality', 'metronome']) {
      const ratios = [11, 12, 13, 14, 15, 16].map((seed) => meanOf(run(fitted, policy, seed)) / meanOf(run(truth, policy, seed)));
      const ratio = ratios.reduce((a, b) => a + b, 0) / ratios.length;
      expect(Math.abs(ratio - 1), `${policy}: ${ratio.toFixed(3)}`).toBeLessThan(0.1);
    }
  }, 240_000);
});
