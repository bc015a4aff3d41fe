import { describe, expect, it } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { POLICY_NAMES } from '../../src/policy/registry.ts';
import { runScenario } from '../../src/sim/scenario.ts';
import { SMOOTH } from '../sim/scenario.ts';
import { createCluster } from './cluster.ts';

describe('a shadow policy', () => {
  it('agrees with itself on every decision, and predicts the same', () => {
    const cluster = createCluster({ slots: [2, 2] });
    cluster.deploy('f');
    cluster.scheduler.setShadow('metronome');
    for (let i = 0; i < 20; i++) cluster.submit('f', 30);
    cluster.advance(2_000);
    const { policy, decisions, agreed, activeMs, shadowMs } = cluster.scheduler.shadow!.take();
    expect(policy).toBe('metronome');
    expect(decisions).toBeGreaterThanOrEqual(20);
    expect(agreed).toBe(decisions);
    expect(shadowMs).toBe(activeMs);
    expect(cluster.scheduler.shadow!.take()).toMatchObject({ decisions: 0, agreed: 0 });
    expect(cluster.scheduler.shadow!.compared).toBe(decisions);
  });

  it('that would go elsewhere is told from the one in force', () => {
    const cluster = createCluster({ slots: [4, 4] });
    cluster.deploy('f');
    cluster.warm('f', cluster.nodes[0]!, 4);
    cluster.scheduler.setShadow('round-robin');
    for (let i = 0; i < 4; i++) cluster.submit('f', 50);
    const { decisions, agreed } = cluster.scheduler.shadow!.take();
    expect(decisions).toBe(4);
    expect(agreed).toBeLessThan(4);
  });

  it.each(POLICY_NAMES.filter((name) => name !== 'metronome'))('%s changes nothing of what happens', (shadow) => {
    const digest = (name: string): string => runScenario(SMOOTH, 'metronome', 7, false, { begin: (sim) => void sim.scheduler.setShadow(name), transitioned() {} }).digest;
    expect(digest(shadow)).toBe(digest(''));
  });

  it('can be taken away, and must have a known name', () => {
    const { scheduler } = createCluster({ slots: [1] });
    expect(scheduler.setShadow('xfaas')).toBe('');
    expect(scheduler.setShadow('')).toBe('xfaas');
    expect(scheduler.shadow).toBeUndefined();
    expect(() => scheduler.setShadow('metronom')).toThrowError(MetronomeError);
    expect(scheduler.shadow).toBeUndefined();
  });
});
