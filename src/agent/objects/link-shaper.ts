/**
 * One direction of a slow link, imitated: who moved bytes learns how long to wait before moving more. All transfers of the
 * direction share it; each waits for what was moved before it, so transfers that always have more to move get the same share,
 * and what a slow one leaves is the others'.
 */

/** Idle time turns into this much credit, ms: timers are not more exact. */
const BURST_MS = 4;
/** Longest piece of link time that one transfer takes at once, ms. */
const PIECE_MS = 10;
const LEAST_PIECE_BYTES = 1_024;

export class LinkShaper {
  readonly #bytesPerMs: number;
  readonly #nowMs: () => number;
  /** When everything that was taken has passed the link. */
  #freeAtMs = -Infinity;

  /** `bytesPerS` 0: no limit. */
  constructor(bytesPerS: number, nowMs: () => number = () => performance.now()) {
    this.#bytesPerMs = bytesPerS / 1_000;
    this.#nowMs = nowMs;
  }

  get isLimited(): boolean {
    return this.#bytesPerMs > 0;
  }

  /** Bytes to move at once at most, so that others get their turn. */
  pieceBytes(most: number): number {
    return this.isLimited ? Math.min(most, Math.max(LEAST_PIECE_BYTES, Math.floor(this.#bytesPerMs * PIECE_MS))) : most;
  }

  /** Counts moved bytes; returns how long to wait before the next ones, ms; 0: not at all. */
  take(bytes: number): number {
    if (!this.isLimited) return 0;
    const now = this.#nowMs();
    this.#freeAtMs = Math.max(this.#freeAtMs, now - BURST_MS) + bytes / this.#bytesPerMs;
    const waitMs = this.#freeAtMs - now;
    // Shorter waits are not worth a timer; they add up in freeAt.
    return waitMs < 1 ? 0 : waitMs;
  }
}
