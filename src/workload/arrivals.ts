/**
 * Arrivals as they are seen in production (docs/guide/workloads.md): popularity by a power law, timers, steady and bursty functions,
 * days, flash crowds, and more variance per second than independence would give. Seeded: the same options give the same stream.
 */
import { exponential, lognormal, negativeBinomial, poisson } from '../core/distributions.ts';
import { createRandom, type Random } from '../core/random.ts';

/** One arrival. */
export interface Arrival {
  /** ms since the start. */
  readonly atMs: number;
  /** Rank of the function, 0 is the most popular. */
  readonly rank: number;
}

/** How a function is called. */
export type ArrivalKind = 'timer' | 'steady' | 'bursty';

/** What is generated. */
export interface ArrivalOptions {
  readonly seed: number;
  readonly functions: number;
  /** Rate of the most popular function, per second. @default 50 */
  readonly mostPerS?: number;
  /** Rate of the least popular one, per second. @default 0.1 */
  readonly leastPerS?: number;
  /** Factor on all rates, to reach a utilisation. @default 1 */
  readonly factor?: number;
  /** Length of a day, ms: shorter than real to see several. @default 86 400 000 */
  readonly dayMs?: number;
  /** Shares of timers and bursty functions; the rest is steady. @default 0.25, 0.2 */
  readonly timerShare?: number;
  readonly burstyShare?: number;
  /** Flash crowds per function and hour. @default 2 */
  readonly flashesPerHour?: number;
}

const DAY_MS = 86_400_000;
/** Jitter of timers, share of their period. */
const TIMER_JITTER = 0.05;
/** Index of dispersion of the counts per second: about 2 for steady functions with many calls (Huawei 2025), nearly independent calls for others. */
const STEADY_DISPERSION = { least: 1.05, most: 2, fullPerS: 10 };
const BURSTY_DISPERSION = { from: 5, to: 20 };
/** A flash crowd: 8 s up, then down with two time constants (Huawei 2025, function 150). */
const FLASH = { riseMs: 8_000, quickMs: 17_000, slowMs: 150_000, quickShare: 0.85, medianHeight: 0.5, sigma: 0.6, lastsMs: 600_000 };
/** Peak ÷ trough of the day. */
const PEAK = { from: 1.5, to: 4 };

/** Exponent of the power law that leads from the most to the least popular of n functions. */
export function popularityExponent(functions: number, mostPerS: number, leastPerS: number): number {
  return functions <= 1 ? 0 : Math.log(mostPerS / leastPerS) / Math.log(functions);
}

/** Mean arrivals per second by rank. */
export function ratesByRank(options: ArrivalOptions): number[] {
  const { functions, mostPerS = 50, leastPerS = 0.1, factor = 1 } = options;
  const exponent = popularityExponent(functions, mostPerS, leastPerS);
  return Array.from({ length: functions }, (_, rank) => factor * mostPerS * (rank + 1) ** -exponent);
}

interface Source {
  readonly rank: number;
  readonly kind: ArrivalKind;
  readonly perS: number;
  readonly dispersion: number;
  /** Amplitude and phase of its day. */
  readonly amplitude: number;
  readonly phase: number;
  readonly random: Random;
  /** Timers: when it fires next, before jitter, ms. */
  nextMs: number;
  nextFlashMs: number;
  readonly flashes: { readonly atMs: number; readonly height: number }[];
}

/** How a function of this rank is called; the same for the same seed. */
export function kindOf(options: ArrivalOptions, rank: number): ArrivalKind {
  return sourceOf(options, rank, 1).kind;
}

function sourceOf(options: ArrivalOptions, rank: number, perS: number): Source {
  const { seed, timerShare = 0.25, burstyShare = 0.2, flashesPerHour = 2 } = options;
  const random = createRandom(seed, 1_000 + rank);
  const draw = random.uniform();
  const kind: ArrivalKind = draw < timerShare ? 'timer' : draw < timerShare + burstyShare ? 'bursty' : 'steady';
  const between = ({ from, to }: { readonly from: number; readonly to: number }): number => from + (to - from) * random.uniform();
  const ratio = between(PEAK);
  return {
    rank, kind, perS, random,
    dispersion: kind === 'bursty' ? between(BURSTY_DISPERSION) : STEADY_DISPERSION.least + (STEADY_DISPERSION.most - STEADY_DISPERSION.least) * Math.min(1, perS / STEADY_DISPERSION.fullPerS),
    amplitude: (ratio - 1) / (ratio + 1),
    phase: random.uniform(),
    nextMs: perS > 0 ? (1_000 / perS) * random.uniform() : Infinity,
    nextFlashMs: flashesPerHour > 0 ? exponential(random, 3_600_000 / flashesPerHour) : Infinity,
    flashes: [],
  };
}

/** How much of a flash crowd is there `ms` after its begin, as a share of its height. */
export function flashShape(ms: number): number {
  if (ms < 0) return 0;
  if (ms < FLASH.riseMs) return ms / FLASH.riseMs;
  const since = ms - FLASH.riseMs;
  return FLASH.quickShare * Math.exp(-since / FLASH.quickMs) + (1 - FLASH.quickShare) * Math.exp(-since / FLASH.slowMs);
}

/**
 * The arrivals until `durationMs`, in order of time, made a second at a time: memory is that of one second. For up to some thousand functions;
 * for more, see `popularArrivals`.
 */
export function* arrivals(options: ArrivalOptions, durationMs: number): Generator<Arrival> {
  const { dayMs = DAY_MS, flashesPerHour = 2 } = options;
  const sources = ratesByRank(options).map((perS, rank) => sourceOf(options, rank, perS));
  const second: { atMs: number; rank: number }[] = [];
  for (let fromMs = 0; fromMs < durationMs; fromMs += 1_000) {
    second.length = 0;
    for (const source of sources) {
      const { random, rank } = source;
      if (source.kind === 'timer') {
        const periodMs = 1_000 / source.perS;
        for (; source.nextMs < fromMs + 1_000; source.nextMs += periodMs) {
          // Jitter may not cross the second, or the order of the stream would break.
          const atMs = source.nextMs + TIMER_JITTER * periodMs * (random.uniform() - 0.5);
          second.push({ atMs: Math.min(fromMs + 999.999, Math.max(fromMs, atMs)), rank });
        }
        continue;
      }
      while (source.nextFlashMs < fromMs + 1_000) {
        source.flashes.push({ atMs: source.nextFlashMs, height: lognormal(random, FLASH.medianHeight, FLASH.sigma) });
        source.nextFlashMs += exponential(random, 3_600_000 / flashesPerHour);
      }
      while (source.flashes[0] !== undefined && fromMs - source.flashes[0].atMs > FLASH.lastsMs) source.flashes.shift();
      let level = 1 + source.amplitude * Math.sin(2 * Math.PI * (fromMs / dayMs + source.phase));
      for (const flash of source.flashes) level += flash.height * flashShape(fromMs - flash.atMs);
      const count = negativeBinomial(random, source.perS * level, source.dispersion);
      for (let i = 0; i < count; i++) second.push({ atMs: fromMs + 1_000 * random.uniform(), rank });
    }
    second.sort((a, b) => a.atMs - b.atMs || a.rank - b.rank);
    for (const arrival of second) {
      if (arrival.atMs >= durationMs) return;
      yield arrival;
    }
  }
}

/** Slopes of calls over ranks, fitted to the applications of Azure 2019 over one day: the further down, the steeper. */
const AZURE_SLOPES = [{ from: 1, exponent: 1.05 }, { from: 50, exponent: 1.4 }, { from: 400, exponent: 1.9 }, { from: 2_000, exponent: 2.2 }] as const;

/** How often the function of this rank (from 0) is called, the first one 1. 'azure': with the slopes of that trace, else by one exponent. */
export function popularityOf(rank: number, law: 'azure' | number): number {
  const place = rank + 1;
  if (law !== 'azure') return place ** -law;
  let weight = 1;
  AZURE_SLOPES.forEach(({ from, exponent }, i) => {
    if (place > from) weight *= (Math.min(place, AZURE_SLOPES[i + 1]?.from ?? Infinity) / from) ** -exponent;
  });
  return weight;
}

/**
 * Arrivals at one rate in all, each of a function drawn by its popularity: for up to millions of functions. Independent of each other
 * (Poisson); memory O(functions) for the table of the law. `law`: as for popularityOf. @default 1.1
 */
export function* popularArrivals(options: { readonly seed: number; readonly functions: number; readonly perS: number; readonly law?: 'azure' | number }, durationMs: number): Generator<Arrival> {
  const { seed, functions, perS, law = 1.1 } = options;
  const random = createRandom(seed, 999);
  const upTo = new Float64Array(functions);
  let sum = 0;
  for (let rank = 0; rank < functions; rank++) upTo[rank] = sum += popularityOf(rank, law);
  for (let fromMs = 0; fromMs < durationMs; fromMs += 10) {
    const count = poisson(random, perS / 100);
    const times = Array.from({ length: count }, () => fromMs + 10 * random.uniform()).sort((a, b) => a - b);
    for (const atMs of times) {
      if (atMs >= durationMs) return;
      const wanted = random.uniform() * sum;
      let low = 0, high = functions - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((upTo[middle] as number) <= wanted) low = middle + 1;
        else high = middle;
      }
      yield { atMs, rank: low };
    }
  }
}
