/** Seeded randomness. One stream per use, so that a change in one does not disturb another. */
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** A stream of random numbers. */
export interface Random {
  /** Uniform in [0, 1), 53 bits. */
  uniform(): number;
  /** Uniform integer in [0, below). */
  below(below: number): number;
}

/** A stream that only depends on `seed` and `stream`. */
export function createRandom(seed: number, stream = 0): Random {
  const generator = xoroshiro128plus((seed ^ Math.imul(stream + 1, 0x9e3779b1)) | 0);
  const uniform = (): number => {
    const high = generator.next() >>> 5;
    const low = generator.next() >>> 6;
    return (high * 67_108_864 + low) / 9_007_199_254_740_992;
  };
  return { uniform, below: (below) => Math.floor(uniform() * below) };
}
