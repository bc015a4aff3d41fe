/**
 * Sizes of inputs: log-normal per application, cut at the first and the last percent, with memory: the next size of a variant resembles
 * its last one (an AR(1) process of the logarithm), as uploads of one user do, so that history says something. Video and log
 * also get a few small ones, for which moving is cheap anywhere. Deterministic: seed → the same sizes.
 */
import { createRandom, type Random } from '../core/random.ts';
import type { ApplicationName } from './applications.ts';

/** How sizes are distributed. */
export interface SizeClass {
  /** Median of those that are not small, bytes. */
  readonly medianBytes: number;
  /** Deviation of the natural logarithm. */
  readonly sigma: number;
  /** Share of small ones. */
  readonly smallShare: number;
}

/** "paper": the sizes that the paper names, for ten machines and a 1 Gbit/s network. "small": what two cores can work through. */
export const SIZE_SCALES = ['paper', 'small'] as const;

/** A scale of sizes. */
export type SizeScale = (typeof SIZE_SCALES)[number];

/** The distributions. The paper names sizes as tens of MB to GB (video, log) and a few MB (document, inference); the deviations are our choice. */
export const SIZE_CLASSES: Readonly<Record<ApplicationName, Readonly<Record<SizeScale, SizeClass>>>> = {
  video: { paper: { medianBytes: 100e6, sigma: 1, smallShare: 0.1 }, small: { medianBytes: 8e6, sigma: 0.8, smallShare: 0.1 } },
  log: { paper: { medianBytes: 200e6, sigma: 1.2, smallShare: 0.1 }, small: { medianBytes: 20e6, sigma: 1, smallShare: 0.1 } },
  document: { paper: { medianBytes: 2e6, sigma: 0.8, smallShare: 0 }, small: { medianBytes: 0.2e6, sigma: 0.8, smallShare: 0 } },
  inference: { paper: { medianBytes: 3e6, sigma: 0.7, smallShare: 0 }, small: { medianBytes: 0.5e6, sigma: 0.7, smallShare: 0 } },
};

/** Small ones are this part of the median. */
export const SMALL_PART = 1 / 20;
/** Deviations beyond which the logarithm is cut: the first and the last percent. */
export const CUT = 2.326;
/** Default correlation of a size with the one before it, of the same variant. */
export const MEMORY = 0.6;

/** What to draw. */
export interface InputSizesOptions {
  readonly application: ApplicationName;
  readonly seed: number;
  /** @default 'small' */
  readonly scale?: SizeScale;
  /** Multiplies every size. @default 1 */
  readonly factor?: number;
  /** Correlation of a size with the one before it, 0 to below 1. @default 0.6 */
  readonly memory?: number;
}

/** An endless sequence of sizes for each variant of an application. */
export interface InputSizes {
  /** The next size of a variant (0, 1, …), whole bytes, at least 1. Variants do not influence each other. */
  next(variant: number): number;
}

interface Variant {
  readonly random: Random;
  /** Where the process is, in deviations. */
  place: number;
}

/** Makes the sequences. RangeError for a memory or factor out of bounds. */
export function createInputSizes({ application, seed, scale = 'small', factor = 1, memory = MEMORY }: InputSizesOptions): InputSizes {
  if (!(memory >= 0 && memory < 1)) throw new RangeError(`The memory of sizes must be from 0 to below 1, not ${memory}.`);
  if (!(factor > 0 && Number.isFinite(factor))) throw new RangeError(`The factor of sizes must be positive, not ${factor}.`);
  const { medianBytes, sigma, smallShare } = SIZE_CLASSES[application][scale];
  const applicationNumber = Object.keys(SIZE_CLASSES).indexOf(application);
  const step = Math.sqrt(1 - memory ** 2);
  const variants = new Map<number, Variant>();
  return {
    next(variant) {
      let state = variants.get(variant);
      if (state === undefined) {
        const random = createRandom(seed, variant * Object.keys(SIZE_CLASSES).length + applicationNumber);
        variants.set(variant, (state = { random, place: normal(random) }));
      } else {
        state.place = memory * state.place + step * normal(state.random);
      }
      const isSmall = state.random.uniform() < smallShare;
      const place = Math.min(CUT, Math.max(-CUT, state.place));
      return Math.max(1, Math.round(factor * medianBytes * (isSmall ? SMALL_PART : Math.exp(sigma * place))));
    },
  };
}

/** A standard normal number (Box and Muller). */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}
