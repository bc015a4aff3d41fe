/**
 * Whether a thread of the pool can be relied on: it answered lately, and in time. A new or failed thread has to answer two probes in time
 * before anybody waits for it; one that is late half of the time is not asked any more until it does.
 */

/** Questions that are looked back on. */
const WINDOW = 32;
/** Late ones among them from which on nobody waits for it. */
const LATE_LIMIT = 16;
const PROBES_TO_PASS = 2;

export class ThreadHealth {
  isGood = false;
  #late = 0;
  #at = 0;
  #passed = 0;
  readonly #wasLate = new Uint8Array(WINDOW);

  /** A question that somebody waited for came back, or did not in time. Returns true when that changed the verdict. */
  noted(late: boolean): boolean {
    const was = this.#wasLate[this.#at] as number;
    this.#wasLate[this.#at] = late ? 1 : 0;
    this.#at = (this.#at + 1) % WINDOW;
    this.#late += (late ? 1 : 0) - was;
    if (!this.isGood || this.#late < LATE_LIMIT) return false;
    this.failed();
    return true;
  }

  /** A probe came back. Returns true when that changed the verdict. */
  probed(late: boolean): boolean {
    this.#passed = late ? 0 : this.#passed + 1;
    if (this.isGood || this.#passed < PROBES_TO_PASS) return false;
    this.isGood = true;
    return true;
  }

  /** It is gone, or too late too often. */
  failed(): void {
    this.isGood = false;
    this.#passed = 0;
    this.#late = 0;
    this.#wasLate.fill(0);
  }
}
