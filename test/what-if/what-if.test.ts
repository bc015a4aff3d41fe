/** What-if on recordings of simulations, where the truth is known: the same simulator made them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ALONE } from '../../src/core/invocation.ts';
import type { MetronomeError } from '../../src/core/errors.ts';
import { createInlineForestPredictor } from '../../src/predictor/inline-forest-predictor.ts';
import { readHistory } from '../../src/recording/history.ts';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import { startReplicas } from '../../src/what-if/replicas.ts';
import { simulateWork, type Alternative } from '../../src/what-if/simulate-work.ts';
import { tune, type Tuned } from '../../src/what-if/tune.ts';
import { CONTROL, whatIf } from '../../src/what-if/what-if.ts';
import { workloadOf, type WhatIfWork, type WorkArrival } from '../../src/what-if/workload.ts';
import { run } from '../cli/run.ts';
import { recordSimulation, writeRecording } from '../recording/recorded-simulation.ts';

const recorded = recordSimulation({ durationMs: 20_000, perS: 25 });
const { work } = workloadOf(readHistory(recorded.reader()), { ...recorded.head, segment: 1 }, 'memory');
const SEEDS = [1, 2, 3];

const arrival = (more: Partial<WorkArrival>): WorkArrival => ({
  atMs: 100, function: 0, slaMs: 1_000, inputs: [], outputs: [], payloadBytes: 0, localityKey: '', policyName: '', expiresAfterMs: Infinity, runMs: 50, place: ALONE, after: [], lagMs: 0, request: 0, ...more,
});
const SETTINGS = { name: 'f', version: '1', packageSet: 'p', slaMs: 1_000, timeoutMs: 60_000, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 128, critical: false };
/** A workload by hand: one function, starts that cost nothing. */
const workOf = (arrivals: readonly WorkArrival[], more: Partial<WhatIfWork> = {}): WhatIfWork => ({
  nodes: ['a', 'b'].map((name) => ({ name, slots: 2, memoryMb: 4_096, keepAliveMs: 60_000, zygoteMb: 0, warm: [], packageSets: [], zygotes: [] })),
  functions: [{ settings: SETTINGS, profile: { ...PLAIN_PROFILE, processMs: 0, importMs: 0, warmMs: 0, noise: 0 }, isInstalled: true }],
  requests: [...new Set(arrivals.map(({ request }) => request))].map(() => ({ name: 'f', isWorkflow: false, atMs: 100, slaMs: 1_000, recordedMs: 50 })),
  arrivals, scheduler: { policy: 'round-robin', staleAfterMs: 150, lostAfterMs: 3_000 }, policyChanges: [], silences: [], bytesPerMs: 100, latencyMs: 0, messageMs: 1, ...more,
});

describe('the recorded arrivals in simulation', () => {
  it('take what they took, and messages there and back', () => {
    const { latencies, failed } = simulateWork(workOf([arrival({ runMs: 50 }), arrival({ runMs: 200, request: 1 })]), CONTROL, 1);
    expect(failed).toBe(0);
    expect(latencies[0]).toBeCloseTo(52, 3);
    expect(latencies[1]).toBeCloseTo(202, 3);
  });

  it('let a step begin when the steps before it have ended, not when it did', () => {
    const steps = [arrival({}), arrival({ runMs: 80 }), arrival({ after: [0, 1], lagMs: 5, runMs: 30 })];
    const { latencies, invocationMs } = simulateWork(workOf(steps), CONTROL, 1);
    expect(invocationMs[1]).toBeCloseTo(82, 3);
    expect(latencies[0]).toBeCloseTo(82 + 5 + 32, 3);
  });

  it('hand over objects where they were made: a step elsewhere fetches them', () => {
    const object = { id: 'made', sizeBytes: 20_000, nodes: [] };
    const steps = [arrival({ outputs: [object] }), arrival({ after: [0], inputs: [object], runMs: 10 })];
    // Round robin takes the other node: 20 000 bytes at 100 bytes per ms.
    const { invocationMs } = simulateWork(workOf(steps), CONTROL, 1);
    expect(invocationMs[1]).toBeCloseTo(2 + 200 + 10, 0);
    // The data are worth staying for.
    const { invocationMs: local } = simulateWork(workOf(steps), { policy: 'metronome' }, 1);
    expect(local[1]).toBeCloseTo(2 + 10, 0);
  });

  it('end a run whose step is refused, and no later step of it comes', () => {
    const steps = [arrival({ expiresAfterMs: 10 }), arrival({ after: [0] })];
    const result = simulateWork(workOf(steps), CONTROL, 1);
    expect(result.latencies[0]).toBeNaN();
    expect(result.invocationMs[1]).toBeNaN();
  });

  it('are the same in every thread and with any number of them', async () => {
    const digests: string[][] = [];
    for (const threads of [1, 3]) {
      const replicas = startReplicas(work, { threads });
      const results = await replicas.run([CONTROL, { policy: 'lookahead' }], SEEDS);
      digests.push(results.flat().map(({ digest }) => digest));
      await replicas.close();
    }
    expect(digests[0]).toEqual(digests[1]);
    expect(digests[0]).toEqual([CONTROL, { policy: 'lookahead' }].flatMap((alternative) => SEEDS.map((seed) => simulateWork(work, alternative, seed).digest)));
    expect(new Set(digests[0]).size).toBe(6);
  });
});

describe('what a simulation takes from the recording', () => {
  const MODEL = { seed: 1, trees: 10, window: 400, bootstrapAfter: 60, updateEvery: 20, replace: 2, updatePauseMs: 250 };
  const cut = { durationMs: 12_000, perS: 25 };

  it('is the forest that predicted: it learns in the simulation as it did, and again in the same way', () => {
    const learning = createInlineForestPredictor(MODEL);
    const { reader, head } = recordSimulation({ ...cut, predictor: () => learning, model: MODEL });
    const history = readHistory(reader());
    const { work: own, notes } = workloadOf(history, { ...head, segment: 1 }, 'memory');
    expect(own.forest).toEqual({ ...MODEL, beganTrained: false });
    expect(notes.assumed.join()).not.toContain('forest');
    const first = simulateWork(own, CONTROL, 1);
    expect(simulateWork(own, CONTROL, 1).digest).toBe(first.digest);
    const { forest: _forest, ...averages } = own;
    expect(simulateWork(averages, CONTROL, 1).digest).not.toBe(first.digest);
    // One that had learned before the recording began predicts from the first invocation on.
    const later = recordSimulation({ ...cut, seed: 2, predictor: () => createInlineForestPredictor(MODEL, learning.model), model: MODEL });
    const trained = workloadOf(readHistory(later.reader()), { ...later.head, segment: 1 }, 'memory');
    expect(trained.work.forest?.beganTrained).toBe(true);
    expect(trained.notes.assumed).toContain('what the forest knew before: what it learns from this traffic');
    const digest = simulateWork(trained.work, CONTROL, 1).digest;
    expect(simulateWork(structuredClone(trained.work), CONTROL, 1).digest).toBe(digest);
    expect(simulateWork({ ...trained.work, forest: { ...MODEL, beganTrained: false } }, CONTROL, 1).digest).not.toBe(digest);
  }, 120_000);

  it('is a forest with the defaults, and says so, where an older build did not describe its own', () => {
    const { work: own, notes } = workloadOf(readHistory(recorded.reader()), { ...recorded.head, segment: 1, predictor: 'forest' }, 'memory');
    expect(own.forest).toMatchObject({ trees: 100, window: 4_000, updatePauseMs: 250, beganTrained: false });
    expect(notes.assumed).toContain('a forest with the defaults of the configuration (the recording does not describe its own)');
  });

  it('is what nodes keep, as their agents said it; otherwise the default, which is said', () => {
    expect(work.nodes.map(({ keepAliveMs }) => keepAliveMs)).toEqual([3_000, 3_000, 3_000, 3_000]);
    const history = readHistory(recorded.reader());
    const older = workloadOf({ ...history, nodes: history.nodes.map(({ keeping: _keeping, ...info }) => info) }, { ...recorded.head, segment: 1 }, 'memory');
    expect(older.work.nodes[0]?.keepAliveMs).toBe(60_000);
    expect(older.notes.assumed).toContain('idle sandboxes are kept for 60 s (the recorded agents did not say how long)');
    const lru = workloadOf({ ...history, nodes: history.nodes.map((info) => ({ ...info, keeping: { policy: 'lru', keepAliveMs: 1, zygoteMemoryMb: 0 } })) }, { ...recorded.head, segment: 1 }, 'memory');
    expect(lru.work.nodes[0]).toMatchObject({ keepAliveMs: 1e12, zygoteMb: 0 });
  });

  it('is what was warm before the first invocation', () => {
    const profile = { ...PLAIN_PROFILE, processMs: 400, importMs: 0, warmMs: 0, noise: 0 };
    const cold = workOf([arrival({})], { functions: [{ settings: SETTINGS, profile, isInstalled: true }] });
    const warm = { ...cold, nodes: cold.nodes.map((node) => ({ ...node, warm: [{ function: 0, count: 1 }] })) };
    expect(simulateWork(cold, CONTROL, 1).latencies[0]).toBeCloseTo(452, 0);
    expect(simulateWork(warm, CONTROL, 1).latencies[0]).toBeCloseTo(52, 3);
  });

  it('is who waited for whom: a caller asks again when it has its answer, also when that is no good one', () => {
    const one = { nodes: [{ name: 'a', slots: 1, memoryMb: 4_096, keepAliveMs: 60_000, zygoteMb: 0, warm: [], packageSets: [], zygotes: [] }] };
    const two = [arrival({ runMs: 300 }), arrival({ runMs: 50, atMs: 160, request: 1 })];
    const requests = [100, 160].map((atMs) => ({ name: 'f', isWorkflow: false, atMs, slaMs: 1_000, recordedMs: 50 }));
    const followings = [undefined, { request: 0, lagMs: 10 }];
    // By itself, the second one comes while the first one runs.
    expect(simulateWork(workOf(two, { ...one, requests }), CONTROL, 1).latencies[1]).toBeGreaterThan(280);
    expect(simulateWork(workOf(two, { ...one, requests, followings }), CONTROL, 1).latencies[1]).toBeCloseTo(52, 3);
    const failing = [arrival({ runMs: 300, expiresAfterMs: 20 }), arrival({ runMs: 50, atMs: 160, request: 1 })];
    const { latencies } = simulateWork(workOf(failing, { ...one, requests, followings }), CONTROL, 1);
    expect(latencies[0]).toBeNaN();
    expect(latencies[1]).toBeGreaterThan(50);
    // In a search, who is too late is left out although the one before it is not.
    expect(simulateWork(workOf(two, { ...one, requests, followings }), CONTROL, 1, { untilMs: 150 }).latencies[1]).toBeNaN();
  });

  it('is the policy at each time; one for all replaces it', () => {
    // Round robin takes a new sandbox on the other node; metronome stays with the warm one.
    const functions = [{ settings: SETTINGS, profile: { ...PLAIN_PROFILE, processMs: 400, importMs: 0, warmMs: 0, noise: 0 }, isInstalled: true }];
    const three = [0, 1, 2].map((request) => arrival({ atMs: 100 + request * 1_000, request }));
    const requests = three.map(({ atMs }) => ({ name: 'f', isWorkflow: false, atMs, slaMs: 1_000, recordedMs: 50 }));
    const sent = (alternative: Alternative, policyChanges: WhatIfWork['policyChanges']): number[] => [...simulateWork(workOf(three, { functions, requests, policyChanges }), alternative, 1).latencies].map(Math.round);
    expect(sent(CONTROL, [])).toEqual([452, 452, 52]);
    expect(sent(CONTROL, [{ atMs: 600, policy: 'metronome' }])).toEqual([452, 52, 52]);
    expect(sent({ policy: 'round-robin' }, [{ atMs: 600, policy: 'metronome' }])).toEqual([452, 452, 52]);
  });

  it('are the other parameters of a policy when one of them is changed', () => {
    const steep = { ...work, scheduler: { ...work.scheduler, policy: 'lookahead', lookahead: { hysteresis: 0.7, price: 6 } } };
    expect(simulateWork(steep, { policy: '', hysteresis: 0.7 }, 1).digest).toBe(simulateWork(steep, CONTROL, 1).digest);
    expect(simulateWork(steep, { policy: '', price: 6 }, 1).digest).toBe(simulateWork(steep, CONTROL, 1).digest);
    expect(simulateWork(steep, { policy: '', price: 0 }, 1).digest).not.toBe(simulateWork(steep, CONTROL, 1).digest);
  });
});

describe('what-if', () => {
  it('has a control near what was recorded, and sees that round robin would be worse', async () => {
    const replicas = startReplicas(work, { threads: 2 });
    const answer = await whatIf(work, replicas, { policy: 'round-robin' }, SEEDS);
    await replicas.close();
    const { recorded: real, control } = answer.reality;
    expect(Math.abs(control.meanMs / real.meanMs - 1)).toBeLessThan(0.2);
    const all = answer.rows[0]?.comparison;
    expect(all?.requests).toBe(recorded.submitted - recorded.refused);
    expect(all?.difference.meanMs.low).toBeGreaterThan(0);
    expect(answer.rows.map(({ name }) => name)).toEqual(['(all)', 'f0', 'f1', 'f2', 'f3', 'f4', 'f5']);
    // Where the time went, on both sides.
    const { error, phases, functions } = answer.reality;
    expect(error.meanMs).toBeCloseTo(control.meanMs / real.meanMs - 1, 9);
    expect(phases.recorded.ranMs).toBeGreaterThan(50);
    expect(Math.abs(phases.control.ranMs / phases.recorded.ranMs - 1)).toBeLessThan(0.1);
    expect(phases.control.starts.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6);
    expect(functions.map(({ name }) => name).toSorted()).toEqual(['f0', 'f1', 'f2', 'f3', 'f4', 'f5']);
  }, 60_000);

  it('finds parameters, says what they are worth on other seeds, and refuses those that the policy does not look at', async () => {
    const replicas = startReplicas(work, { threads: 2 });
    const { tried, best, answer } = await tune(work, replicas, { what: ['alpha'], target: 'mean', policy: '', seeds: 1 });
    const failure: MetronomeError = await tune(work, replicas, { what: ['gamma'], target: 'mean', policy: '', seeds: 1 }).then(() => Promise.reject(new Error('it did not fail')), (error: MetronomeError) => error);
    await replicas.close();
    expect(failure.message).toBe('Policy "metronome" does not look at gamma: gamma is for lookahead.');
    expect(tried.length).toBeGreaterThanOrEqual(5);
    const least = Math.min(...tried.map(({ figures }) => figures.meanMs));
    expect(tried.find(({ alternative }) => alternative === best)?.figures.meanMs).toBe(least);
    expect(tried.filter(({ isOnFrontier }) => isOnFrontier).length).toBeGreaterThan(0);
    expect(answer.rows[0]?.comparison.difference.meanMs.low).toBeLessThanOrEqual(answer.rows[0]?.comparison.difference.meanMs.high ?? 0);
  }, 120_000);

  it('chooses on the first part of the requests and answers on the second, the same with any number of threads', async () => {
    const found = [];
    for (const threads of [1, 2]) {
      const replicas = startReplicas(work, { threads });
      found.push(await tune(work, replicas, { what: ['kappa'], target: 'mean', policy: 'lookahead', seeds: 1 }));
      await replicas.close();
    }
    const [{ tried, best, splitAtMs, answer }] = found as [Tuned, Tuned];
    expect(found[1]).toEqual(found[0]);
    expect(tried.every(({ alternative }) => alternative.policy === 'lookahead')).toBe(true);
    expect(best.price ?? 1).toBeGreaterThanOrEqual(0);
    expect(answer.rows[0]?.comparison.requests).toBe(work.requests.filter(({ atMs }) => atMs >= splitAtMs).length);
    expect(answer.rows[0]?.comparison.requests).toBeLessThanOrEqual(Math.ceil(work.requests.length / 2));
    // Later requests are not simulated in the search.
    const early = simulateWork(work, CONTROL, 1, { untilMs: splitAtMs });
    expect(work.requests.every(({ atMs }, place) => atMs < splitAtMs || Number.isNaN(early.latencies[place]))).toBe(true);
  }, 240_000);
});

describe('metronome what-if', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'metronome-rec-'));
    writeRecording(dir, recorded.head, recorded.sink.blocks);
  });
  afterEach(() => rm(dir, { recursive: true }));

  it('prints differences with intervals, and how far the control is from reality', async () => {
    const { code, out, err } = await run(['what-if', dir, '--policy', 'round-robin', '--seeds', '2', '--threads', '1'], { columns: 240 });
    expect({ code, err: err.includes('SIMULATION of') }).toEqual({ code: 0, err: true });
    expect(out).toMatch(/^SIMULATION against SIMULATION, 2 seeds/);
    expect(out).toMatch(/\(all\) +\d+ +[\d.]+ m?s +\+[\d.]+ m?s \([+−][\d.]+ m?s … [+−][\d.]+ m?s\)/);
    expect(out).toMatch(/Mean: worse\./);
    expect(out).toMatch(/Distance from reality, over the \d+ requests that completed: recorded mean .*; control in simulation .* \([+−][\d.]+%\)\. (?:The control is near|Believe the direction|The control is far)/);
    expect(out).toMatch(/Per invocation, recorded → control: waited [\d.]+ m?s → [\d.]+ m?s, fetched .*, initialised .*, ran .*, messages and loops .*; cold starts [\d.]+% → [\d.]+%\./);
  }, 60_000);

  it('tunes, and says what to write into the configuration', async () => {
    const { code, out } = await run(['what-if', dir, '--policy', 'lookahead', '--tune', 'gamma', '--target', 'mean', '--seeds', '1', '--threads', '2'], { columns: 240 });
    expect(code).toBe(0);
    expect(out).toMatch(/The best for mean, against the recorded parameters, on requests from [\d.]+ s on, which the search did not see \(it chose the best of \d+ on those before\)/);
    expect(out).toMatch(/To use it \(metronome\.config\.yaml\):\n\nscheduler:\n {2}policy: lookahead/);
  }, 60_000);

  it.each([
    [[], 'Say what is to be different'],
    [['--policy', 'lookahed'], 'Did you mean "lookahead"?'],
    [['--alpha', '1.5'], 'It must be a number above 0 and below 1.'],
    [['--tune', 'delta'], 'It must name some of alpha, beta, gamma and kappa'],
    [['--tune', 'alpha', '--alpha', '0.5'], '--tune searches alpha, beta, gamma and kappa'],
    [['--kappa', '-1'], 'It must be a number from 0 to 100.'],
  ])('says what is wrong with %j', async (args, message) => {
    const { code, err } = await run(['what-if', dir, ...args]);
    expect(code).toBe(2);
    expect(err).toContain(message);
  });
});
