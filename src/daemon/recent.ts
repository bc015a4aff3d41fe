/** The last values of one figure, for percentiles in the status: fixed size, one store per value. */
export class Recent {
  readonly #values: Float64Array;
  #count = 0;

  constructor(size = 4_096) {
    this.#values = new Float64Array(size);
  }

  add(value: number): void {
    this.#values[this.#count++ % this.#values.length] = value;
  }

  /** The value below which `share` of the last ones lie; 0 while there is none. */
  quantile(share: number): number {
    const sorted = this.#values.slice(0, Math.min(this.#count, this.#values.length)).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  }
}
