/** How often something happens lately: a count that halves every five minutes, as a rate. */

const HALF_LIFE_MS = 300_000;

export class UseRate {
  #count = 0;
  #atMs = 0;

  /** It happened. */
  add(nowMs: number): void {
    this.#count = this.#at(nowMs) + 1;
    this.#atMs = nowMs;
  }

  /** Times per second. */
  perSecond(nowMs: number): number {
    return (this.#at(nowMs) * Math.LN2 * 1_000) / HALF_LIFE_MS;
  }

  #at(nowMs: number): number {
    return this.#count * 2 ** -(Math.max(0, nowMs - this.#atMs) / HALF_LIFE_MS);
  }
}
