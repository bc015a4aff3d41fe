/**
 * Which objects the living workflow runs need, by owner. A lease ends when it is released or when it was not renewed in time, so
 * that a scheduler that dies leaves nothing behind. Kept in memory: after a restart of the agent the scheduler tells it again.
 */

/** Owners, and ids of all owners together, so that a scheduler gone mad cannot fill the memory. */
const MAX_OWNERS = 100_000;
const MAX_LEASES = 500_000;

interface Lease {
  readonly ids: Set<string>;
  untilMs: number;
}

export class Leases {
  readonly #byOwner = new Map<string, Lease>();
  readonly #hold: (id: string) => void;
  readonly #release: (id: string) => void;
  #count = 0;

  /** `hold` and `release` are called once for each id of each owner. */
  constructor(hold: (id: string) => void, release: (id: string) => void) {
    this.#hold = hold;
    this.#release = release;
  }

  get size(): number {
    return this.#count;
  }

  /** Leases objects, here or still to come, and renews what the owner has. False when there are too many leases to take these too. */
  retain(owner: string, ids: readonly string[], untilMs: number): boolean {
    let lease = this.#byOwner.get(owner);
    if (lease === undefined) {
      if (this.#byOwner.size >= MAX_OWNERS) return false;
      lease = { ids: new Set(), untilMs };
      this.#byOwner.set(owner, lease);
    }
    lease.untilMs = Math.max(lease.untilMs, untilMs);
    for (const id of ids) {
      if (lease.ids.has(id)) continue;
      if (this.#count >= MAX_LEASES) return false;
      lease.ids.add(id);
      this.#count++;
      this.#hold(id);
    }
    return true;
  }

  /** Ends leases of an owner; of no ids: all of them. */
  release(owner: string, ids: readonly string[] = []): void {
    const lease = this.#byOwner.get(owner);
    if (lease === undefined) return;
    for (const id of ids.length > 0 ? ids : lease.ids) {
      if (!lease.ids.delete(id)) continue;
      this.#count--;
      this.#release(id);
    }
    if (ids.length === 0) this.#byOwner.delete(owner);
  }

  /** Ends what was not renewed. */
  expire(nowMs: number): void {
    for (const [owner, { untilMs }] of this.#byOwner) if (untilMs <= nowMs) this.release(owner);
  }

  /** Owners of each leased object. */
  owners(): Map<string, string[]> {
    const owners = new Map<string, string[]>();
    for (const [owner, { ids }] of this.#byOwner) {
      for (const id of ids) {
        const known = owners.get(id);
        if (known === undefined) owners.set(id, [owner]);
        else known.push(owner);
      }
    }
    return owners;
  }
}
