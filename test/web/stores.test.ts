/** What the page makes of the stream's numbers: rates, percentiles, sums over windows, rings. No browser is needed for that. */
import { describe, expect, it } from 'vitest';
import { machineCharts } from '../../src/inspect/charts.ts';
import { guardsOf as daemonsGuardsOf } from '../../src/inspect/guards.ts';
import { bucketOf } from '../../src/inspect/latency-buckets.ts';
import type { EndedGroup, Tick } from '../../src/inspect/page-api.ts';
import { guardsOf } from '../../web/src/guards.ts';
import { FEED_SIZE, feed } from '../../web/src/feed.ts';
import { flowRates } from '../../web/src/flow-rates.ts';
import { distribution, edgeMs, percentileMs } from '../../web/src/latencies.ts';
import { seconds } from '../../web/src/seconds.ts';
import { WINDOW_S, together, traffic } from '../../web/src/traffic-groups.ts';
import { pathOf, pointsAlong } from '../../web/src/parts/edge-path.ts';

const tickAt = (atMs: number, more: Partial<Tick> = {}): Tick => ({ atMs, machines: {}, live: 0, delayingForLocality: 0, delayingForCapacity: 0, counters: {}, ended: [], nodes: [], ...more });
const ended = (more: Partial<EndedGroup> = {}): EndedGroup => ({ function: 'f', policy: 'metronome', count: 1, failed: 0, slaMissed: 0, latencyMs: 10, delayedMs: 0, savedMs: 0, warm: 1, local: 1, error: 0.1, leastSlackMs: 990, histogram: [0, 1], ...more });

describe('latencies', () => {
  it('come out of the buckets that the daemon puts them into, to a quarter of a power of two', () => {
    const values = Array.from({ length: 1_000 }, (_, i) => 1 + i * 0.7);
    const histogram = new Array<number>(96).fill(0);
    for (const value of values) histogram[bucketOf(value)] = (histogram[bucketOf(value)] ?? 0) + 1;
    for (const share of [0.5, 0.95, 0.99]) {
      const exact = values[Math.floor(share * values.length)] ?? 0;
      expect(percentileMs(histogram, share) / exact).toBeGreaterThan(2 ** -0.25);
      expect(percentileMs(histogram, share) / exact).toBeLessThan(2 ** 0.25);
    }
    expect(percentileMs([], 0.5)).toBeNaN();
  });

  it('make a distribution that begins at none and ends with all', () => {
    const points = distribution([0, 0, 3, 0, 1, 0]);
    expect(points[0]).toEqual({ ms: edgeMs(1), share: 0 });
    expect(points.at(-1)).toEqual({ ms: edgeMs(4), share: 1 });
    expect(points.map(({ share }) => share)).toEqual([0, 0.75, 0.75, 1]);
    expect(distribution([])).toEqual([]);
  });
});

describe('flow', () => {
  it('approaches what an edge carries per second, and begins anew with another daemon', () => {
    flowRates.clear();
    for (let i = 0; i <= 80; i++) flowRates.add(tickAt(1e12 + i * 250, { machines: { invocation: { counts: [], flow: [i * 25, 7] } } }));
    expect(flowRates.of('invocation')?.[0]).toBeCloseTo(100, 0);
    expect(flowRates.of('invocation')?.[1]).toBe(0);
    flowRates.clear();
    expect(flowRates.of('invocation')).toBeUndefined();
  });

  it('is not taken for negative when the counts of a daemon go back', () => {
    flowRates.clear();
    flowRates.add(tickAt(1_000, { machines: { node: { counts: [], flow: [50] } } }));
    flowRates.add(tickAt(1_250, { machines: { node: { counts: [], flow: [0] } } }));
    expect(flowRates.of('node')?.[0]).toBe(0);
  });
});

describe('traffic', () => {
  it('is summed since the numbers began, and over the last minute', () => {
    traffic.clear();
    for (let s = 0; s < 90; s++) traffic.add(tickAt(1e12 + s * 1_000, { ended: [ended({ count: s < 30 ? 100 : 1, savedMs: 2 })] }));
    expect(traffic.all(false)[0]?.sums.count).toBe(30 * 100 + 60);
    expect(traffic.all(true)[0]?.sums).toMatchObject({ count: WINDOW_S, savedMs: 2 * WINDOW_S });
    traffic.clear();
    expect(traffic.all(false)).toEqual([]);
  });

  it('holds 64 groups and puts the rest together', () => {
    traffic.clear();
    traffic.add(tickAt(1e12, { ended: Array.from({ length: 200 }, (_, i) => ended({ function: `f${i}`, leastSlackMs: i })) }));
    const groups = traffic.all(false);
    expect(groups).toHaveLength(65);
    expect(groups[0]).toMatchObject({ function: '', sums: { count: 136 } });
    expect(together(groups)).toMatchObject({ sums: { count: 200 }, leastSlackMs: 0 });
  });
});

describe('seconds', () => {
  it('are complete when the next one begins, with shares of what ended in them', () => {
    seconds.clear();
    seconds.add(tickAt(1_000_100, { counters: { submitted: 10 }, ended: [ended({ count: 4, local: 3, warm: 2 })] }));
    seconds.add(tickAt(1_000_600, { counters: { submitted: 16 }, shadow: { policy: 'x', decisions: 4, agreed: 1, activeMs: 40, shadowMs: 80 } }));
    expect(seconds.column('atS')).toEqual([]);
    seconds.add(tickAt(1_001_100, { counters: { submitted: 20 } }));
    expect(seconds.column('atS')).toEqual([1_000]);
    expect(['submitted', 'ended', 'local', 'warm', 'agreed', 'activeMs', 'shadowMs'].map((name) => seconds.latest(name as 'ended'))).toEqual([6, 4, 75, 50, 25, 10, 20]);
    seconds.add(tickAt(1_002_100, { counters: { submitted: 21 } }));
    expect([seconds.latest('submitted'), seconds.latest('ended'), seconds.latest('p50')]).toEqual([4, 0, null]);
  });

  it('are kept for five minutes', () => {
    seconds.clear();
    for (let s = 0; s < 1_000; s++) seconds.add(tickAt(1e12 + s * 1_000));
    expect(seconds.column('atS')).toHaveLength(300);
  });
});

describe('the latest transitions', () => {
  it('are a ring that counts what was left out', () => {
    feed.clear();
    const row = (i: number) => ({ id: `i${i}`, function: 'f', from: 'arriving', to: 'classified', event: 'PREDICTED', reason: 'predicted', node: '', delayingFor: '', atMs: i });
    for (let i = 0; i < 5; i++) feed.add({ next: (i + 1) * 500, missed: 3, records: Array.from({ length: 500 }, (_, j) => row(i * 500 + j)) });
    expect([feed.length, feed.seen, feed.missed]).toEqual([FEED_SIZE, 2_500, 15]);
    expect([feed.at(0)?.id, feed.at(FEED_SIZE - 1)?.id, feed.at(FEED_SIZE)]).toEqual(['i2499', 'i500', undefined]);
  });
});

describe('the guards of a transition', () => {
  it('are for every edge of the invocation machine those that the daemon names', () => {
    const chart = machineCharts().find(({ name }) => name === 'invocation')!;
    for (const edge of chart.edges) expect(guardsOf(chart, edge), `${edge.from} ${edge.event} ${edge.to}`).toEqual(daemonsGuardsOf(edge.from, edge.event, edge.to));
    expect(guardsOf(chart, { from: 'dispatched', event: 'RESULT', to: 'failed' })).toEqual(['!succeeded', '!endedByCancel', '!endedByTime', '!mayRunAgain']);
    expect(guardsOf(chart, { from: 'completed', event: 'RESULT', to: 'failed' })).toEqual([]);
  });
});

describe('the line of an edge', () => {
  it('goes from its first point to its last one', () => {
    const points = [[0, 0], [10, 0], [10, 10]] as const;
    expect(pathOf(points)).toBe('M0 0Q10 0 10 5L10 10');
    const along = pointsAlong({ from: 'a', to: 'b', event: 'E', guard: '', points, label: [5, 5] }, 5);
    expect([...along]).toEqual([0, 0, 5, 0, 10, 0, 10, 5, 10, 10]);
  });
});
