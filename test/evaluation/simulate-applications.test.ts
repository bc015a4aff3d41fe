import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadApplicationModel, PROFILES_FILE, SPLITS } from '../../src/evaluation/application-models.ts';
import { EMULATED_CLUSTER, PAPER_CLUSTER } from '../../src/evaluation/cluster-preset.ts';
import { parseRecord } from '../../src/evaluation/execution-record.ts';
import { simulateApplications } from '../../src/evaluation/simulate-applications.ts';
import { FIGURE_VARIANTS, SWEEP_VARIANTS } from '../../src/evaluation/variant.ts';
import { createOnlineModel } from '../../src/predictor/model/online-model.ts';
import type { ApplicationModel } from '../../src/sim/applications.ts';
import { readProfiles } from '../../src/sim/profile-file.ts';
import { outputSizes } from '../../src/sim/profiles.ts';
import { APPLICATIONS, loadApplication } from '../../src/workload/applications.ts';

const APPS = fileURLToPath(new URL('../../apps', import.meta.url));
const models = new Map<string, ApplicationModel>();
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-models-'));
  const profiles = await readProfiles(join(APPS, PROFILES_FILE));
  for (const name of APPLICATIONS) models.set(name, await loadApplicationModel(name, APPS, profiles));
});
afterAll(() => rm(dir, { recursive: true }));

describe('the applications in simulation', () => {
  it.each(APPLICATIONS)('%s gives records of the evaluation under every variant', (name) => {
    for (const variant of [...FIGURE_VARIANTS, ...SWEEP_VARIANTS]) {
      const { records, slotUtilisation } = simulateApplications({ preset: EMULATED_CLUSTER, application: models.get(name)!, variant, seed: 2, concurrency: 2, executions: 6, warmUp: 2, predictor: 'moving-average' });
      expect(records).toHaveLength(6);
      for (const record of records) {
        expect(parseRecord(JSON.stringify(record))).toEqual(record);
        expect(record).toMatchObject({ application: name, variant: variant.name, concurrency: 2, seed: 2, simulated: true, ok: true });
        expect(new Set(record.steps.map(({ function: step }) => step))).toEqual(new Set(models.get(name)!.functions.map((each) => each.name)));
      }
      expect(records.map(({ index }) => index).sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5]);
      expect(slotUtilisation).toBeGreaterThan(0);
    }
  }, 60_000);

  it('repeat themselves with the forest too, at a rate, on the cluster of the paper', () => {
    const run = (seed: number): string => simulateApplications({ preset: PAPER_CLUSTER, application: models.get('document')!, variant: FIGURE_VARIANTS.at(-1)!, seed, concurrency: 0, ratePerS: 20, executions: 300, warmUp: 20 }).digest;
    const first = run(1);
    expect(run(1)).toBe(first);
    expect(run(2)).not.toBe(first);
  }, 120_000);

  it('obey overrides of the configuration, and refuse those that are none', () => {
    const run = (overrides: Record<string, string>): number => simulateApplications({ preset: EMULATED_CLUSTER, application: models.get('log')!, variant: { name: 'x', policy: 'rule-delay', overrides }, seed: 2, concurrency: 4, executions: 40, warmUp: 2, predictor: 'moving-average' }).records.flatMap(({ steps }) => steps).reduce((sum, { delayedMs }) => sum + delayedMs, 0);
    expect(run({ 'policies.ruleDelayWait': '5s' })).toBeGreaterThan(run({ 'policies.ruleDelayWait': '1ms' }));
    expect(() => run({ 'policies.ruleDelayWaits': '5s' })).toThrow(/ruleDelayWaits/);
  }, 60_000);

  it('cut inputs into as many parts as the requests of the real ones ask for', async () => {
    const log = await loadApplication('log', APPS);
    for (const sizeBytes of [500_000, 5_000_000, 11_000_000, 40_000_000]) {
      const { payload, sizeBytes: made } = await log.makeInput({ seed: 1, sizeBytes, dir });
      expect(outputSizes({ share: 1, bytes: 0, ...SPLITS['log-split']! }, made)).toHaveLength((payload as { parts: number }).parts);
    }
  }, 60_000);

  it('do not cut a video of a second', () => {
    // In the evaluation on real nodes, inputs of 30 and 34 kB were transcoded by two calls, one of them for the sound, larger ones by at least three.
    const parts = (bytes: number): number => outputSizes({ share: 1, bytes: 0, ...SPLITS['video-split']! }, bytes).length;
    expect([30_462, 34_473, 527_797, 2_419_353, 4_000_000].map(parts)).toEqual([2, 2, 3, 3, 4]);
  });

  it('teach one model, which knows the functions of all of them where all are deployed in one order', () => {
    const deployed = [models.get('log')!, models.get('document')!];
    const model = createOnlineModel({ seed: 1 });
    const observed = (): number[] => model.status().functions.filter(({ name }) => /^(log-merge|any2md-process)-0$/.test(name)).map(({ observations }) => observations);
    for (const application of deployed) simulateApplications({ preset: { ...EMULATED_CLUSTER, copies: 1 }, application, deployed, variant: FIGURE_VARIANTS[0]!, seed: 3, concurrency: 2, executions: 6, warmUp: 0 }, model);
    expect(observed()).toEqual([6, 6]);
  });

  it('say which function has no profile', async () => {
    await expect(loadApplicationModel('log', APPS, { note: 'mine', functions: {} })).rejects.toThrow('The profiles (mine) say nothing about "log-split"');
  });
});
