/** What-if on recordings of simulations, where the truth is known: the same simulator made them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ALONE } from '../../src/core/invocation.ts';
import type { MetronomeError } from '../../src/core/errors.ts';
import { readHistory } from '../../src/recording/history.ts';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import { startReplicas } from '../../src/what-if/replicas.ts';
import { simulateWork } from '../../src/what-if/simulate-work.ts';
import { tune } from '../../src/what-if/tune.ts';
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
  nodes: [{ name: 'a', slots: 2, memoryMb: 4_096 }, { name: 'b', slots: 2, memoryMb: 4_096 }],
  functions: [{ settings: SETTINGS, profile: { ...PLAIN_PROFILE, processMs: 0, importMs: 0, warmMs: 0, noise: 0 }, isInstalled: true }],
  requests: [...new Set(arrivals.map(({ request }) => request))].map(() => ({ name: 'f', isWorkflow: false, atMs: 100, slaMs: 1_000, recordedMs: 50 })),
  arrivals, scheduler: { policy: 'round-robin', staleAfterMs: 150, lostAfterMs: 3_000 }, bytesPerMs: 100, latencyMs: 0, messageMs: 1, keepAliveMs: 60_000, zygoteShare: 0, ...more,
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
    expect(out).toMatch(/Distance from reality, over the \d+ requests that completed: recorded mean .*; control in simulation .* \([+−][\d.]+%\)/);
  }, 60_000);

  it('tunes, and says what to write into the configuration', async () => {
    const { code, out } = await run(['what-if', dir, '--policy', 'lookahead', '--tune', 'gamma', '--target', 'mean', '--seeds', '1', '--threads', '2'], { columns: 240 });
    expect(code).toBe(0);
    expect(out).toMatch(/To use it \(metronome\.config\.yaml\):\n\nscheduler:\n {2}policy: lookahead/);
  }, 60_000);

  it.each([
    [[], 'Say what is to be different'],
    [['--policy', 'lookahed'], 'Did you mean "lookahead"?'],
    [['--alpha', '1.5'], 'It must be a number above 0 and below 1.'],
    [['--tune', 'delta'], 'It must name some of alpha, beta and gamma'],
    [['--tune', 'alpha', '--alpha', '0.5'], '--tune searches alpha, beta and gamma'],
  ])('says what is wrong with %j', async (args, message) => {
    const { code, err } = await run(['what-if', dir, ...args]);
    expect(code).toBe(2);
    expect(err).toContain(message);
  });
});
