/**
 * Weights that are estimated together, with their covariance: recursive least squares with forgetting and a bound. Several blocks
 * may explain one measurement (a function, a node, what all share). Then all of them see the same surprise and the same total variance,
 * and each moves in proportion to its own doubt: who is new learns much, who is well known learns little.
 */

/** `count` blocks of `size` weights. The weights stand in an array of the caller's; the covariances here. */
export class WeightBlocks {
  readonly size: number;
  /** Covariances, size × size per block. */
  covariance: Float64Array;
  readonly #weights: () => Float64Array;
  readonly #stride: number;
  readonly #first: number;
  readonly #product: Float64Array;

  /** Block b's weights begin at `weights()[b × stride + first]`. */
  constructor(size: number, weights: () => Float64Array, stride: number, first: number, count: number) {
    this.size = size;
    this.covariance = new Float64Array(count * size * size);
    this.#weights = weights;
    this.#stride = stride;
    this.#first = first;
    this.#product = new Float64Array(size);
  }

  /** Makes room for `count` blocks. */
  grow(count: number): void {
    const needed = count * this.size * this.size;
    if (needed <= this.covariance.length) return;
    const larger = new Float64Array(needed);
    larger.set(this.covariance);
    this.covariance = larger;
  }

  /** Sets the covariance of a block to a diagonal. */
  setDiagonal(block: number, diagonal: ArrayLike<number>): void {
    const { size, covariance } = this;
    const base = block * size * size;
    covariance.fill(0, base, base + size * size);
    for (let i = 0; i < size; i++) covariance[base + i * size + i] = diagonal[i] as number;
  }

  /** Variance that the block's doubt adds to a measurement with these regressors. */
  variance(block: number, regressors: Float64Array): number {
    const { size, covariance } = this;
    const base = block * size * size;
    let sum = 0;
    for (let i = 0; i < size; i++) {
      const h = regressors[i] as number;
      if (h === 0) continue;
      let row = 0;
      for (let j = 0; j < size; j++) row += (covariance[base + i * size + j] as number) * (regressors[j] as number);
      sum += h * row;
    }
    return Math.max(0, sum);
  }

  /**
   * Moves the weights by a surprise whose whole variance is `total` (≥ this block's own share). Then old knowledge fades by `forgetting`, but no
   * variance grows beyond `bound`. `first`: where the weights stand, if not at the usual distance.
   */
  learn(block: number, regressors: Float64Array, surprise: number, total: number, forgetting: number, bound: ArrayLike<number>, first = block * this.#stride + this.#first): void {
    const { size, covariance } = this;
    const product = this.#product;
    const base = block * size * size;
    const weights = this.#weights();
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (let j = 0; j < size; j++) sum += (covariance[base + i * size + j] as number) * (regressors[j] as number);
      product[i] = sum;
    }
    for (let i = 0; i < size; i++) weights[first + i] = (weights[first + i] as number) + ((product[i] as number) * surprise) / total;
    const fade = 1 / forgetting;
    for (let i = 0; i < size; i++) {
      for (let j = 0; j <= i; j++) {
        const value = ((covariance[base + i * size + j] as number) - ((product[i] as number) * (product[j] as number)) / total) * fade;
        covariance[base + i * size + j] = value;
        covariance[base + j * size + i] = value;
      }
    }
    for (let i = 0; i < size; i++) {
      const own = covariance[base + i * size + i] as number;
      const limit = bound[i] as number;
      if (own <= limit) continue;
      // Shrinks row and column alike, so the matrix stays one of covariances.
      const shrink = Math.sqrt(limit / own);
      for (let j = 0; j < size; j++) {
        covariance[base + i * size + j] = (covariance[base + i * size + j] as number) * shrink;
        covariance[base + j * size + i] = (covariance[base + j * size + i] as number) * shrink;
      }
    }
  }

  /** Multiplies the doubt of a block: it learns faster again. */
  widen(block: number, factor: number): void {
    const { size, covariance } = this;
    const base = block * size * size;
    for (let i = base; i < base + size * size; i++) covariance[i] = (covariance[i] as number) * factor;
  }
}
