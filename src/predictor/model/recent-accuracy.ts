/** How good the predictions for one function were over the last 256: errors, and how many executions stayed below the quantiles. */

const ROOM = 256;

export class RecentAccuracy {
  readonly #errors = new Float64Array(ROOM);
  readonly #below95 = new Uint8Array(ROOM);
  readonly #below99 = new Uint8Array(ROOM);
  readonly bytes = ROOM * (8 + 1 + 1);
  #count = 0;

  add(relativeError: number, isBelow95: boolean, isBelow99: boolean): void {
    const at = this.#count++ % ROOM;
    this.#errors[at] = relativeError;
    this.#below95[at] = isBelow95 ? 1 : 0;
    this.#below99[at] = isBelow99 ? 1 : 0;
  }

  /** Its content, oldest first: errors, then the flags of both quantiles as 0 and 1. */
  toSnapshot(): Float64Array {
    const count = Math.min(this.#count, ROOM);
    const out = new Float64Array(3 * count);
    for (let i = 0; i < count; i++) {
      const at = (this.#count - count + i) % ROOM;
      out[i] = this.#errors[at] as number;
      out[count + i] = this.#below95[at] as number;
      out[2 * count + i] = this.#below99[at] as number;
    }
    return out;
  }

  restore(from: Float64Array): void {
    const count = from.length / 3;
    for (let i = 0; i < count; i++) this.add(from[i] as number, from[count + i] === 1, from[2 * count + i] === 1);
  }

  /** Zeros while nothing was predicted. */
  summary(): { readonly medianError: number; readonly p95Error: number; readonly coverageP95: number; readonly coverageP99: number } {
    const count = Math.min(this.#count, ROOM);
    if (count === 0) return { medianError: 0, p95Error: 0, coverageP95: 0, coverageP99: 0 };
    const errors = this.#errors.slice(0, count).sort();
    const at = (share: number): number => errors[Math.min(count - 1, Math.floor(share * count))] as number;
    const share = (hits: Uint8Array): number => hits.subarray(0, count).reduce((sum, hit) => sum + hit, 0) / count;
    return { medianError: at(0.5), p95Error: at(0.95), coverageP95: share(this.#below95), coverageP99: share(this.#below99) };
  }
}
