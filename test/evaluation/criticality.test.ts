import { describe, expect, it } from 'vitest';
import { searchCriticality } from '../../src/evaluation/criticality.ts';

describe('the search for critical functions', () => {
  it('tries every annotation once', async () => {
    const tried: string[] = [];
    await searchCriticality(['a', 'b', 'c'], (critical) => {
      tried.push(critical.join(''));
      return { meanMs: 1, missed: 0 };
    });
    expect(tried.sort()).toEqual(['', 'a', 'ab', 'abc', 'ac', 'b', 'bc', 'c']);
  });

  it('prefers fewest misses, then the lowest mean, then fewer critical functions', async () => {
    const outcomes: Record<string, [number, number]> = { '': [100, 0.1], a: [300, 0], b: [200, 0], ab: [200, 0] };
    const found = await searchCriticality(['a', 'b'], (critical) => {
      const [meanMs, missed] = outcomes[critical.join('')]!;
      return { meanMs, missed };
    });
    expect(found.map(({ critical }) => critical.join(''))).toEqual(['b', 'ab', 'a', '']);
  });

  it('finds that a function which others wait for must not be put off', async () => {
    const [best] = await searchCriticality(['split', 'transcode', 'merge'], (critical) => ({ meanMs: 1_000 - (critical.includes('split') ? 300 : 0) - (critical.includes('merge') ? 200 : 0) + (critical.includes('transcode') ? 50 : 0), missed: 0 }));
    expect(best).toEqual({ critical: ['split', 'merge'], meanMs: 500, missed: 0 });
  });

  it('refuses what would take too many runs', async () => {
    await expect(searchCriticality(['a', 'b', 'c', 'd', 'e', 'f', 'g'], () => ({ meanMs: 1, missed: 0 }))).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });
});
