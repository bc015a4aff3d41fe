/**
 * One direction of a slow link, imitated: who is about to pass bytes on learns how long to wait first. All transfers of the
 * direction share it; each waits for what was taken before it, so transfers that always have more to move get the same share,
 * and what a slow one leaves is the others'.
 */

/** Idle time turns into this much credit, ms. */
const BURST_MS = 1;
/** A waiter that is woken so much too late, on a machine that has other work, still finds the link as busy as it left it, ms. */
const LATE_MS = 50;
/** Longest piece of link time that one transfer takes at once, ms. */
const PIECE_MS = 2;
const LEAST_PIECE_BYTES = 1_024;

export class LinkShaper {
  readonly #bytesPerMs: number;
  readonly #nowMs: () => number;
  /** When everything that was taken has passed the link. */
  #freeAtMs = -Infinity;
  #isAwaited = false;

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

  /** Takes link time for bytes; returns how long to wait before they are passed on, ms; 0: not at all. */
  take(bytes: number): number {
    if (!this.isLimited) return 0;
    const now = this.#nowMs();
    // Time that passed unused is lost, unless somebody waited for it.
    const creditMs = this.#isAwaited ? LATE_MS : BURST_MS;
    this.#freeAtMs = Math.max(this.#freeAtMs, now - creditMs) + bytes / this.#bytesPerMs;
    const waitMs = this.#freeAtMs - now;
    // Shorter waits are not worth a timer; they add up in freeAt.
    this.#isAwaited = waitMs >= 1 || (this.#isAwaited && waitMs > -LATE_MS);
    return waitMs < 1 ? 0 : waitMs;
  }
}
