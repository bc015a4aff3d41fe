/** The generator against the published figures that it is fitted to (Huawei 2025, Azure 2019). Seeded, so that nothing here is a matter of luck. */
import { describe, expect, it } from 'vitest';
import { arrivals, flashShape, kindOf, popularArrivals, popularityExponent, popularityOf, ratesByRank, type Arrival, type ArrivalOptions } from '../../src/workload/arrivals.ts';

const OPTIONS: ArrivalOptions = { seed: 1, functions: 80 };
const HOUR_MS = 3_600_000;

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const variance = (values: readonly number[]): number => {
  const middle = mean(values);
  return mean(values.map((value) => (value - middle) ** 2));
};
/** Calls of one rank: coefficient of variation of the gaps; index of dispersion per second, from neighbours, so that the day does not count. */
function shapeOf(times: readonly number[], durationMs: number): { readonly gapCv: number; readonly dispersion: number } {
  const gaps = times.slice(1).map((time, i) => time - (times[i] as number));
  const perSecond = new Array<number>(durationMs / 1_000).fill(0);
  for (const time of times) perSecond[Math.floor(time / 1_000)] = (perSecond[Math.floor(time / 1_000)] as number) + 1;
  const steps = perSecond.slice(1).map((count, i) => count - (perSecond[i] as number));
  return { gapCv: Math.sqrt(variance(gaps)) / mean(gaps), dispersion: variance(steps) / 2 / mean(perSecond) };
}

describe('popularity', () => {
  it('falls by a power law from 50 to 0.1 calls per second', () => {
    const rates = ratesByRank(OPTIONS);
    expect(popularityExponent(80, 50, 0.1)).toBeCloseTo(1.418, 3);
    expect(rates[0]).toBeCloseTo(50, 9);
    expect(rates[79]).toBeCloseTo(0.1, 9);
    expect(ratesByRank({ ...OPTIONS, factor: 0.5 })[0]).toBeCloseTo(25, 9);
  });
});

describe('arrivals of half an hour with 80 functions', () => {
  const durationMs = HOUR_MS / 2;
  // A day as short as that, so that its level evens out.
  const all = [...arrivals({ ...OPTIONS, dayMs: durationMs, flashesPerHour: 0 }, durationMs)];
  const split = (stream: Iterable<Arrival>): number[][] => {
    const byRank: number[][] = Array.from({ length: 80 }, () => []);
    for (const { atMs, rank } of stream) byRank[rank]?.push(atMs);
    return byRank;
  };
  const byRank = split(all);
  /** Within half an hour of a real day the level hardly moves. */
  const still = split(arrivals({ ...OPTIONS, flashesPerHour: 0 }, durationMs));
  const ranks = (kind: string, from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i).filter((rank) => kindOf(OPTIONS, rank) === kind);

  it('come in order of time', () => {
    for (let i = 1; i < all.length; i++) expect((all[i] as Arrival).atMs).toBeGreaterThanOrEqual((all[i - 1] as Arrival).atMs);
    expect(all.at(-1)?.atMs).toBeLessThan(durationMs);
  });

  it('have the rates of the power law, within what chance leaves', () => {
    ratesByRank(OPTIONS).forEach((perS, rank) => {
      const wanted = (perS * durationMs) / 1_000;
      expect(Math.abs((byRank[rank]?.length ?? 0) - wanted), `rank ${rank}`).toBeLessThan(6 * Math.sqrt(20 * wanted) + 0.05 * wanted);
    });
  });

  it('are of about a quarter timers and a fifth bursty functions', () => {
    const kinds = Array.from({ length: 2_000 }, (_, rank) => kindOf({ ...OPTIONS, functions: 2_000 }, rank));
    expect(kinds.filter((kind) => kind === 'timer').length / 2_000).toBeCloseTo(0.25, 1);
    expect(kinds.filter((kind) => kind === 'bursty').length / 2_000).toBeCloseTo(0.2, 1);
  });

  it('timers are regular: the gaps vary by a few per cent', () => {
    for (const rank of ranks('timer', 0, 60)) expect(shapeOf(still[rank] as number[], durationMs).gapCv, `rank ${rank}`).toBeLessThan(0.16);
  });

  it('steady functions are as irregular as seen: gaps vary by 0.5 to 1.2, popular ones have about twice the variance of independent calls', () => {
    for (const rank of ranks('steady', 0, 50)) {
      const { gapCv, dispersion } = shapeOf(still[rank] as number[], durationMs);
      expect(gapCv, `rank ${rank}`).toBeGreaterThan(0.5);
      expect(gapCv, `rank ${rank}`).toBeLessThan(1.2);
      if (rank < 3) expect(dispersion, `rank ${rank}`).toBeGreaterThan(1.6);
      expect(dispersion, `rank ${rank}`).toBeLessThan(2.8);
    }
  });

  it('bursty functions have gaps that vary by more than 1.2 and a dispersion of 4 to 25', () => {
    const bursty = ranks('bursty', 0, 30);
    expect(bursty.length).toBeGreaterThan(2);
    for (const rank of bursty) {
      const { gapCv, dispersion } = shapeOf(still[rank] as number[], durationMs);
      expect(gapCv, `rank ${rank}`).toBeGreaterThan(1.2);
      expect(gapCv, `rank ${rank}`).toBeLessThan(5);
      expect(dispersion, `rank ${rank}`).toBeGreaterThan(4);
      expect(dispersion, `rank ${rank}`).toBeLessThan(25);
    }
  });

  it('of most functions have gaps as published: steady ones vary by 0.5 to 1.1, bursty ones by 1.5 to 3', () => {
    for (const [kind, least, most] of [['steady', 0.5, 1.1], ['bursty', 1.5, 3]] as const) {
      const cvs = ranks(kind, 0, 80).map((rank) => shapeOf(still[rank] as number[], durationMs).gapCv).sort((a, b) => a - b);
      expect(cvs.length, kind).toBeGreaterThan(10);
      expect(cvs[Math.floor(cvs.length / 2)], kind).toBeGreaterThan(least);
      expect(cvs[Math.floor(cvs.length / 2)], kind).toBeLessThan(most);
    }
  });

  it('are the same for the same seed, and others for another one', () => {
    const take = (seed: number): Arrival[] => [...arrivals({ ...OPTIONS, seed }, 5_000)];
    expect(take(7)).toEqual(take(7));
    expect(take(7)).not.toEqual(take(8));
  });
});

describe('a day', () => {
  it('has a peak of one and a half to four times its trough', () => {
    const dayMs = 600_000;
    for (const rank of [1, 3, 4]) {
      if (kindOf(OPTIONS, rank) === 'timer') continue;
      const perMinute = new Array<number>(10).fill(0);
      for (const arrival of arrivals({ ...OPTIONS, dayMs, flashesPerHour: 0 }, dayMs)) if (arrival.rank === rank) perMinute[Math.floor(arrival.atMs / 60_000)] = (perMinute[Math.floor(arrival.atMs / 60_000)] as number) + 1;
      const ratio = Math.max(...perMinute) / Math.min(...perMinute);
      expect(ratio, `rank ${rank}`).toBeGreaterThan(1.2);
      expect(ratio, `rank ${rank}`).toBeLessThan(6);
    }
  });
});

describe('a flash crowd', () => {
  it('rises in eight seconds, halves in about twelve, and is nearly over after five minutes', () => {
    expect(flashShape(-1)).toBe(0);
    expect(flashShape(4_000)).toBeCloseTo(0.5, 9);
    expect(flashShape(8_000)).toBeCloseTo(1, 9);
    expect(flashShape(20_000)).toBeGreaterThan(0.45);
    expect(flashShape(20_000)).toBeLessThan(0.6);
    expect(flashShape(308_000)).toBeLessThan(0.03);
  });
});

describe('popularity as in Azure 2019', () => {
  // 17 577 applications over one day: top shares of the calls, and slopes of log calls over log rank.
  const weights = Array.from({ length: 17_577 }, (_, rank) => popularityOf(rank, 'azure'));
  const all = weights.reduce((a, b) => a + b, 0);

  it.each([[0.001, 0.556], [0.01, 0.867], [0.1, 0.988]])('gives the top %f of the functions %f of the calls', (top, share) => {
    const most = weights.slice(0, Math.round(top * weights.length)).reduce((a, b) => a + b, 0);
    expect(Math.abs(most / all - share)).toBeLessThan(0.03);
  });

  it.each([[1, 100, -1.11], [10, 1_000, -1.48], [100, 5_000, -1.99]])('falls over ranks %i to %i with the slope %f', (from, to, slope) => {
    const places = Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const x = places.map(Math.log), y = places.map((place) => Math.log(weights[place - 1] as number));
    const [mx, my] = [mean(x), mean(y)];
    const fitted = mean(x.map((value, i) => (value - mx) * ((y[i] as number) - my))) / variance(x);
    expect(Math.abs(fitted - slope)).toBeLessThan(0.1);
  });

  it('is drawn as it is computed', () => {
    const counts = new Map<number, number>();
    let n = 0;
    for (const { rank } of popularArrivals({ seed: 2, functions: 17_577, perS: 20_000, law: 'azure' }, 5_000)) {
      n++;
      if (rank < 176) counts.set(0, (counts.get(0) ?? 0) + 1);
    }
    expect(Math.abs((counts.get(0) ?? 0) / n - 0.867)).toBeLessThan(0.03);
  });
});

describe('many functions', () => {
  it('share their calls by the power law, and come at the rate that was asked for', () => {
    const counts = new Map<number, number>();
    let n = 0;
    for (const { rank } of popularArrivals({ seed: 1, functions: 100_000, perS: 20_000, law: 1.1 }, 5_000)) {
      n++;
      counts.set(rank, (counts.get(rank) ?? 0) + 1);
    }
    expect(n).toBeGreaterThan(98_000);
    expect(n).toBeLessThan(102_000);
    const harmonic = Array.from({ length: 100_000 }, (_, i) => (i + 1) ** -1.1).reduce((a, b) => a + b, 0);
    expect((counts.get(0) ?? 0) / n).toBeCloseTo(1 / harmonic, 2);
    expect((counts.get(9) ?? 0) / (counts.get(0) ?? 1)).toBeCloseTo(10 ** -1.1, 1);
  });
});
