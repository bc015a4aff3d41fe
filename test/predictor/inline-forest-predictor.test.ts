/** The model inside a real scheduler on virtual time: it learns from results, takes over from the averages, and is repeatable. */
import { describe, expect, it } from 'vitest';
import { createInlineForestPredictor } from '../../src/predictor/inline-forest-predictor.ts';
import { createMovingAveragePredictor } from '../../src/predictor/moving-average.ts';
import { SOURCES, type Predictor } from '../../src/predictor/predictor.ts';
import { createCluster } from '../scheduler/cluster.ts';

/** Runs `count` invocations whose time depends on payload size, which averages do not see. Returns the relative errors of the last 100. */
function play(predictor: Predictor, count = 400): { errors: number[]; sources: Set<string>; last: number } {
  const cluster = createCluster({ slots: [4, 4, 4], predictor, traces: false });
  cluster.deploy('f', { slaMs: 1e6 });
  const errors: number[] = [];
  const sources = new Set<string>();
  let last = 0;
  for (let i = 0; i < count; i++) {
    const payloadBytes = 1_000 * (1 + ((i * 7) % 20));
    const invocation = cluster.submit('f', 20 + payloadBytes / 200, { payloadBytes });
    const decision = cluster.scheduler.decisions.of(invocation).at(-1);
    const chosen = decision?.candidates.find(({ node }) => node === invocation.node);
    cluster.advance(200);
    const { result } = invocation;
    const measured = result === undefined ? 0 : result.fetchedMs + result.initialisedMs + result.ranMs;
    if (i >= count - 100) {
      errors.push(Math.abs(invocation.predictedRunMs - measured) / measured);
      if (chosen !== undefined) sources.add(SOURCES[chosen.source] ?? '');
    }
    last = invocation.predictedRunMs;
  }
  cluster.scheduler.stop();
  return { errors: errors.sort((a, b) => a - b), sources, last };
}

const OPTIONS = { seed: 3, trees: 20, bootstrapAfter: 60, updateEvery: 20 };

describe('the inline forest', () => {
  it('learns inside the scheduler what averages cannot see', () => {
    const forest = createInlineForestPredictor(OPTIONS);
    const learned = play(forest), averaged = play(createMovingAveragePredictor());
    expect(forest.version).toBeGreaterThan(10);
    expect([...learned.sources]).toEqual(['forest']);
    expect([...averaged.sources]).toEqual(['moving-average']);
    expect(learned.errors[50]).toBeLessThan(0.5 * averaged.errors[50]!);
  });

  it('predicts the same in every repetition', () => {
    const [first, second] = [play(createInlineForestPredictor(OPTIONS), 150), play(createInlineForestPredictor(OPTIONS), 150)];
    expect(second).toEqual(first);
  });

  it('counts runs that teach nothing, and forgets a function that is deleted', () => {
    const forest = createInlineForestPredictor(OPTIONS);
    const cluster = createCluster({ slots: [4], predictor: forest, traces: false });
    cluster.deploy('f', { retries: 0 });
    cluster.submit('f', 10, { fails: 'MEMORY_EXCEEDED' });
    cluster.submit('f', 10);
    cluster.advance(50);
    expect(forest.model.status()).toMatchObject({ observations: 1, excluded: { failed: 1 }, functions: [{ index: 0, name: 'f', observations: 1 }] });
    cluster.scheduler.deleteFunction('f');
    expect(forest.model.status().functions).toEqual([]);
    cluster.scheduler.stop();
  });
});
