/**
 * What functions cost on virtual nodes. Times are those of an idle node at full speed; contention comes on top (processor.ts,
 * network.ts). Every draw depends only on seed, invocation and attempt, so that the same invocation costs the same under every policy.
 */
import { lognormal } from '../core/distributions.ts';
import { createRandom } from '../core/random.ts';

/** What a run makes of its inputs. */
export interface OutputProfile {
  /** Objects that it makes, at least; 0: none. */
  readonly count: number;
  /** Their bytes together, as a share of the input bytes, and beside that. */
  readonly share: number;
  readonly bytes: number;
  /** One object for so many bytes of input, from `count` to `most`. @default `count`, whatever the input */
  readonly bytesPerObject?: number;
  /** An input of fewer bytes makes one object, whatever `count`. @default 0 */
  readonly wholeBelow?: number;
  /** What is left over makes one more object. @default only from half of `bytesPerObject` on */
  readonly roundsUp?: boolean;
  readonly most?: number;
  /** One more object of another kind (the sound of a video): its share of the input bytes. @default none */
  readonly side?: number;
}

/** The costs of one function. */
export interface FunctionProfile {
  /** Installing its packages on a node that has none of them, ms. */
  readonly installMs: number;
  /** Starting a process, ms. */
  readonly processMs: number;
  /** Importing its packages and itself, ms. */
  readonly importMs: number;
  /** From a zygote that covers everything, ms. */
  readonly zygoteMs: number;
  /** Hand-over to a warm sandbox, ms. */
  readonly warmMs: number;
  /** A run: ms, plus ms per MiB of input. */
  readonly runMs: number;
  readonly runMsPerMib: number;
  /** The first run in a new sandbox takes so many times as long, since nothing is compiled yet; what it takes longer halves with the second run, is a third with the third … (slownessOf). @default 1 */
  readonly freshFactor?: number;
  /** Standard deviation of the natural logarithm of its costs. */
  readonly noise: number;
  /** That of making a sandbox ready, where it differs. @default noise */
  readonly startNoise?: number;
  /** Cores that it can use. */
  readonly cores: number;
  readonly output: OutputProfile;
}

/** Costs of a small function without packages. */
export const PLAIN_PROFILE: FunctionProfile = {
  installMs: 0, processMs: 40, importMs: 20, zygoteMs: 8, warmMs: 0.5, runMs: 50, runMsPerMib: 0, noise: 0.03, cores: 1, output: { count: 0, share: 0, bytes: 0 },
};

const MIB = 1024 ** 2;

/** The costs of one attempt of one invocation. */
export interface Costs {
  readonly installMs: number;
  /** Process and imports, packages being there. */
  readonly startMs: number;
  readonly zygoteMs: number;
  readonly warmMs: number;
  readonly runMs: number;
}

/** Draws the costs. `key`: a number of the invocation that is the same under every policy. `isWarm`: it is not asked what a start costs, which is 0 then. */
export function drawCosts(profile: FunctionProfile, seed: number, key: number, attempt: number, inputBytes: number, isWarm = false): Costs {
  const random = createRandom(seed, Math.imul(key, 31) + attempt);
  const { noise, startNoise = noise } = profile;
  const run = lognormal(random, 1, noise), start = isWarm ? 0 : lognormal(random, 1, startNoise);
  return {
    installMs: isWarm ? 0 : profile.installMs * lognormal(random, 1, startNoise),
    startMs: (profile.processMs + profile.importMs) * start,
    zygoteMs: profile.zygoteMs * start,
    warmMs: profile.warmMs,
    runMs: (profile.runMs + (profile.runMsPerMib * inputBytes) / MIB) * run,
  };
}

/** What an attempt costs on the mean of all draws: all that can be known of it beforehand. */
export function expectedCosts(profile: FunctionProfile, inputBytes: number): Costs {
  const { noise, startNoise = noise } = profile;
  // The mean of a lognormal with the median 1.
  const run = Math.exp(noise ** 2 / 2), start = Math.exp(startNoise ** 2 / 2);
  return {
    installMs: profile.installMs * start, startMs: (profile.processMs + profile.importMs) * start, zygoteMs: profile.zygoteMs * start, warmMs: profile.warmMs,
    runMs: (profile.runMs + (profile.runMsPerMib * inputBytes) / MIB) * run,
  };
}

/** How much longer a run takes in a sandbox that has done so many runs before: 1 + (freshFactor − 1) ÷ (1 + runs), as it was measured for the four applications. */
export function slownessOf({ freshFactor = 1 }: Pick<FunctionProfile, 'freshFactor'>, earlierRuns: number): number {
  return 1 + (freshFactor - 1) / (1 + earlierRuns);
}

const NO_SIZES: readonly number[] = [];

/** Bytes of each output object. */
export function outputSizes({ count, share, bytes, bytesPerObject = 0, wholeBelow = 0, roundsUp = false, most = count, side = 0 }: OutputProfile, inputBytes: number): readonly number[] {
  if (count === 0 && bytesPerObject === 0 && side === 0) return NO_SIZES;
  const objects = inputBytes < wholeBelow ? 1 : bytesPerObject > 0 ? Math.min(most, Math.max(count, (roundsUp ? Math.ceil : Math.round)(inputBytes / bytesPerObject))) : count;
  const sizes = Array.from({ length: objects }, () => Math.max(1, Math.round((share * inputBytes + bytes) / objects)));
  if (side > 0) sizes.push(Math.max(1, Math.round(side * inputBytes)));
  return sizes;
}
