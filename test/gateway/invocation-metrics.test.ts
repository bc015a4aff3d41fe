import { describe, expect, it } from 'vitest';
import { MAX_LABELS, createInvocationMetrics } from '../../src/gateway/invocation-metrics.ts';
import { responseFor } from './fake-loop.ts';

const samples = async (metrics: ReturnType<typeof createInvocationMetrics>, name: string): Promise<{ labels: Record<string, string | number>; value: number; metricName?: string }[]> =>
  (await metrics.metrics.find((metric) => metric.name === name)?.get())?.values ?? [];

describe('invocation metrics', () => {
  it('give 1000 functions a label of their own and the rest "other"', async () => {
    const metrics = createInvocationMetrics();
    for (let i = 0; i < MAX_LABELS + 50; i++) metrics.ended(`f${i}`, 1, { ticket: i, response: responseFor(i, new Uint8Array(), '') });
    metrics.ended('f3', 1, undefined);
    const totals = await samples(metrics, 'metronome_invocations_total');
    expect(new Set(totals.map(({ labels }) => labels['function'])).size).toBe(MAX_LABELS + 1);
    expect(totals.find(({ labels }) => labels['function'] === 'other')?.value).toBe(50);
    expect(totals.reduce((sum, { value }) => sum + value, 0)).toBe(MAX_LABELS + 51);
  });

  it('cannot be filled with names that exist nowhere', async () => {
    const metrics = createInvocationMetrics();
    for (let i = 0; i < 5_000; i++) metrics.ended(`bogus-${i}`, 1, { ticket: i, error: { code: 'FUNCTION_NOT_FOUND', message: '' } });
    expect(await samples(metrics, 'metronome_invocations_total')).toEqual([{ labels: { function: 'unknown', result: 'FUNCTION_NOT_FOUND' }, value: 5_000 }]);
  });

  it('put durations into cumulative buckets in seconds', async () => {
    const metrics = createInvocationMetrics();
    for (const ms of [0.2, 0.5, 7, 1e9]) metrics.ended('f', ms, { ticket: 1, error: { code: 'FUNCTION_FAILED', message: '' } });
    const buckets = await samples(metrics, 'metronome_invocation_duration_seconds');
    const at = (le: number | string): number | undefined => buckets.find(({ labels }) => labels['le'] === le)?.value;
    expect([at(0.0005), at(0.005), at(0.01), at(300), at('+Inf')]).toEqual([2, 2, 3, 3, 4]);
    expect(buckets.find(({ metricName }) => metricName?.endsWith('_count'))?.value).toBe(4);
  });
});
