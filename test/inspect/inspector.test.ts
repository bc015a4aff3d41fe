import { describe, expect, it } from 'vitest';
import type { Invocation } from '../../src/core/invocation.ts';
import { DECISIONS_EACH, TRANSITIONS_EACH } from '../../src/inspect/details.ts';
import { guardsOf } from '../../src/inspect/guards.ts';
import { Inspector, type InspectorOptions } from '../../src/inspect/inspector.ts';
import { bucketOf, quantileOf } from '../../src/inspect/latency-buckets.ts';
import { MAX_GROUPS, Traffic, mergeEnded } from '../../src/inspect/traffic.ts';
import { TransitionRing } from '../../src/inspect/transition-ring.ts';
import { Simulation } from '../../src/sim/simulation.ts';

const NODE = { slots: 1, cores: 1, memoryMb: 1_024, keepAliveMs: 60_000, zygoteMb: 0, objectQuotaBytes: 1e12 };

/** A simulation that the inspector looks at. */
function inspected(options: Partial<InspectorOptions> = {}, nodes = 1): { sim: Simulation; inspector: Inspector } {
  const inspector: Inspector = new Inspector({ transitions: 1_024, keep: 16, sampleEvery: 0, functions: [], decisions: () => sim.scheduler.decisions, ...options });
  const sim: Simulation = new Simulation({
    seed: 1, nodes: Array.from({ length: nodes }, () => NODE), rememberDecisions: 4, monitorIntervalMs: 10,
    onTransition: (invocation, from, to, event) => inspector.transitioned(invocation, from, to, event), onDecided: (invocation) => inspector.decided(invocation), onSettled: (invocation) => inspector.settled(invocation),
  });
  return { sim, inspector };
}

/** As the traffic sees it. */
function ended(more: Partial<Invocation> & { ranMs?: number }): Invocation {
  const { ranMs = 10, ...rest } = more;
  return {
    functionIndex: 0, functionName: 'f', decidedBy: 'metronome', arrivedAtMs: 1_000, endedAtMs: 1_100, slaMs: 150, delayedMs: 0, predictedRunMs: 20, passedOverMs: 0, localClass: 2, error: undefined,
    result: { startState: 1, fetchedMs: 0, initialisedMs: 0, ranMs }, ...rest,
  } as unknown as Invocation; // the fields that are read
}

describe('selected invocations', () => {
  it('are one in so many and all of some functions, and the others are counted', () => {
    const { sim, inspector } = inspected({ sampleEvery: 4, functions: ['chosen'] });
    sim.deploy({ name: 'f' });
    sim.deploy({ name: 'chosen' });
    const all = [...Array.from({ length: 8 }, () => sim.submit('f')), sim.submit('chosen'), sim.submit('chosen')];
    expect(all.map(({ id }) => inspector.details.get(id) !== undefined)).toEqual([true, false, false, false, true, false, false, false, true, true]);
    expect([inspector.details.selected, inspector.details.leftOut]).toEqual([4, 6]);
    sim.stop();
  });

  it('keep their decisions when the ring of all has gone round', () => {
    const { sim, inspector } = inspected({ sampleEvery: 1 });
    sim.deploy({ name: 'f' });
    const first = sim.submit('f');
    for (let i = 0; i < 10; i++) sim.submit('f');
    sim.settle(60_000);
    expect(sim.scheduler.decisions.of(first)).toEqual([]);
    const { decisions, transitions } = inspector.explain(first, false);
    expect(decisions).toHaveLength(1);
    expect(decisions[0]).toMatchObject({ action: 'dispatch', policy: 'metronome', node: 0 });
    expect(transitions.map(({ event }) => event)).toEqual(['PREDICTED', 'DISPATCH', 'STARTED', 'RESULT']);
    expect(first.detail).toBeUndefined();
    sim.stop();
  });

  it('have bounded rings that lose the oldest, counted, and are forgotten beyond the bound', () => {
    const { sim, inspector } = inspected({ keep: 2, sampleEvery: 1 });
    sim.deploy({ name: 'f' });
    const [gone, kept] = [sim.submit('f'), sim.submit('f'), sim.submit('f')];
    expect(inspector.details.get(gone!.id)).toBeUndefined();
    for (let i = 0; i < 2 * TRANSITIONS_EACH; i++) {
      inspector.transitioned(kept!, 3, 2, { type: 'CLASSIFY', reason: 'revised' });
      inspector.decided(kept!);
    }
    const detail = inspector.details.get(kept!.id);
    expect(detail?.transitions).toHaveLength(TRANSITIONS_EACH);
    expect(detail?.decisions).toHaveLength(DECISIONS_EACH);
    expect(detail?.lost).toBeGreaterThan(2 * TRANSITIONS_EACH);
    sim.stop();
  });

  it('are those that somebody asked about while they lived, with what was known before', () => {
    const { sim, inspector } = inspected();
    sim.deploy({ name: 'f' });
    const running = sim.submit('f');
    expect(inspector.details.get(running.id)).toBeUndefined();
    expect(inspector.explain(running, true).decisions).toHaveLength(1);
    sim.settle(10_000);
    expect(inspector.details.get(running.id)?.transitions.map(({ event }) => event)).toEqual(['PREDICTED', 'DISPATCH', 'STARTED', 'RESULT']);
    sim.stop();
  });
});

describe('the guards of a transition', () => {
  it('are those that were tested, with what they said', () => {
    expect(guardsOf('dispatched', 'RESULT', 'completed')).toEqual(['succeeded']);
    expect(guardsOf('dispatched', 'RESULT', 'classified')).toEqual(['!succeeded', '!endedByCancel', '!endedByTime', 'mayRunAgain']);
    expect(guardsOf('dispatched', 'RESULT', 'failed')).toEqual(['!succeeded', '!endedByCancel', '!endedByTime', '!mayRunAgain']);
    expect(guardsOf('delaying', 'SLACK_EXHAUSTED', 'delaying')).toEqual(['!namesNode']);
    expect(guardsOf('arriving', 'PREDICTED', 'classified')).toEqual([]);
    expect(guardsOf('nowhere', 'NOTHING', 'nowhere')).toEqual([]);
  });
});

describe('traffic', () => {
  it('adds up what ended by function and policy, and begins anew', () => {
    const traffic = new Traffic();
    traffic.ended(ended({ delayedMs: 30, passedOverMs: 50, localClass: 1 }));
    traffic.ended(ended({ endedAtMs: 1_200 }));
    traffic.ended(ended({ decidedBy: 'round-robin', error: { code: 'FUNCTION_FAILED', message: '' } }));
    const groups = traffic.take();
    expect(groups.map(({ policy, count, failed }) => [policy, count, failed])).toEqual([['metronome', 2, 0], ['round-robin', 1, 1]]);
    expect(groups[0]).toMatchObject({ function: 'f', slaMissed: 1, latencyMs: 300, delayedMs: 30, savedMs: 40, warm: 0, local: 1, error: 2, leastSlackMs: -50 });
    expect(groups[0]?.histogram[bucketOf(100)]).toBe(1);
    expect(traffic.take()).toEqual([]);
  });

  it('counts for ever what waiting took, and apart from each other what it saved and what it lost', () => {
    const traffic = new Traffic();
    traffic.ended(ended({ delayedMs: 30, passedOverMs: 50 }));
    traffic.ended(ended({ delayedMs: 5, passedOverMs: 50, ranMs: 70 }));
    // Of one that failed nobody knows what waiting would have brought.
    traffic.ended(ended({ delayedMs: 7, passedOverMs: 50, error: { code: 'FUNCTION_FAILED', message: '' } }));
    traffic.take();
    expect(traffic.delays).toEqual({ waitedMs: 42, savedMs: 40, lostMs: 20 });
  });

  it('sums what does not fit into its rows under no name', () => {
    const traffic = new Traffic();
    for (let functionIndex = 0; functionIndex < MAX_GROUPS + 10; functionIndex++) traffic.ended(ended({ functionIndex, functionName: `f${functionIndex}` }));
    const groups = traffic.take();
    expect(groups).toHaveLength(MAX_GROUPS + 1);
    expect(groups.at(-1)).toMatchObject({ function: '', policy: '', count: 10 });
  });

  it('of several ticks adds up to the same, whoever missed how many', () => {
    const traffic = new Traffic();
    const ticks = [10, 100, 1_000].map((latencyMs) => {
      traffic.ended(ended({ endedAtMs: 1_000 + latencyMs }));
      return traffic.take();
    });
    for (const latencyMs of [10, 100, 1_000]) traffic.ended(ended({ endedAtMs: 1_000 + latencyMs }));
    expect(ticks.reduce((sum, tick) => mergeEnded(sum, tick))).toEqual(traffic.take());
  });
});

describe('latency buckets', () => {
  it('give percentiles that are off by less than a tenth', () => {
    const histogram: number[] = [];
    const values = Array.from({ length: 1_000 }, (_, i) => 1.5 + i * 3.7);
    for (const value of values) histogram[bucketOf(value)] = (histogram[bucketOf(value)] ?? 0) + 1;
    for (const share of [0.1, 0.5, 0.9, 0.99]) {
      const exact = values[Math.floor(share * values.length)] as number;
      expect(Math.abs(quantileOf(Array.from(histogram, (count) => count ?? 0), share) - exact) / exact, String(share)).toBeLessThan(0.1);
    }
    expect(quantileOf([], 0.5)).toBe(0);
    expect([bucketOf(0), bucketOf(Number.NaN), bucketOf(1e12)]).toEqual([0, 0, 95]);
  });
});

describe('a sample of transitions', () => {
  it('shows whole invocations and counts the rest', () => {
    const ring = new TransitionRing(4_096);
    const record = (serial: number, to: number): void =>
      ring.record({ id: `inv-x-${serial.toString(36).padStart(6, '0')}`, functionName: 'f', delayingFor: '', node: 0, target: -1, host: { nowMs: 1 } } as unknown as Invocation, to - 1, to, { type: 'CLASSIFY', reason: 'revised' });
    for (let serial = 0; serial < 400; serial++) for (let to = 2; to < 6; to++) record(serial, to);
    const { records, next, missed } = ring.sample(0, 500);
    expect(next).toBe(1_600);
    expect(records.length).toBeGreaterThan(300);
    expect(records.length + missed).toBe(1_600);
    const byId = Map.groupBy(records, ({ id }) => id);
    expect([...byId.values()].every((each) => each.length === 4)).toBe(true);
    expect(ring.sample(1_590, 500)).toMatchObject({ missed: 0, next: 1_600 });
    expect(ring.sample(1_590, 500).records).toHaveLength(10);
  });

  it('counts what was overwritten', () => {
    const ring = new TransitionRing(16);
    for (let i = 0; i < 40; i++) ring.record({ id: 'a-0', functionName: 'f', delayingFor: '', node: 0, target: -1, host: { nowMs: i } } as unknown as Invocation, 1, 2, { type: 'CLASSIFY', reason: 'revised' });
    const { records, missed } = ring.sample(0, 500);
    expect(records.map(({ atMs }) => atMs)).toEqual(Array.from({ length: 16 }, (_, i) => i + 24));
    expect(missed).toBe(24);
  });
});
