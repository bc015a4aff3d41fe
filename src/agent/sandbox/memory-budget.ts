/**
 * The memory of a node for sandboxes and zygotes (agent.memory). Sandboxes count with their limits, zygotes with what they really
 * take. What waits gives way to what works, the least worth first, whichever kind it is; what works never does.
 */

/** Something that may be ended to make room. */
export interface Reclaimable {
  /** What it saves: ms of initialisation per second and MiB, by its use lately. */
  readonly worth: number;
  /** Ends it; its memory is given back before this returns. */
  give(): void;
}

/** Who holds memory that may be taken back. */
export interface MemoryHolder {
  /** All that could be taken back, MiB. */
  reclaimableMb(): number;
  /** What should go first; undefined: nothing. */
  least(): Reclaimable | undefined;
}

export class MemoryBudget {
  readonly totalMb: number;
  #usedMb = 0;
  readonly #holders: MemoryHolder[] = [];

  constructor(totalMb: number) {
    this.totalMb = totalMb;
  }

  get usedMb(): number {
    return this.#usedMb;
  }

  /** Taken by what works, MiB. */
  get boundMb(): number {
    let mb = this.#usedMb;
    for (const holder of this.#holders) mb -= holder.reclaimableMb();
    return mb;
  }

  add(holder: MemoryHolder): void {
    this.#holders.push(holder);
  }

  /**
   * Takes memory for something of this worth, driving out what waits and is worth less if need be. False if that is not enough; for
   * work, which is worth more than anything that waits, nothing was driven out then.
   */
  take(mb: number, worth = Infinity): boolean {
    if (this.boundMb + mb > this.totalMb) return false;
    while (this.#usedMb + mb > this.totalMb) {
      let least: Reclaimable | undefined;
      for (const holder of this.#holders) {
        const candidate = holder.least();
        if (candidate !== undefined && (least === undefined || candidate.worth < least.worth)) least = candidate;
      }
      if (least === undefined || least.worth >= worth) return false;
      least.give();
    }
    this.#usedMb += mb;
    return true;
  }

  /** Takes memory that nobody uses; false if there is not so much. */
  takeFree(mb: number): boolean {
    if (this.#usedMb + mb > this.totalMb) return false;
    this.#usedMb += mb;
    return true;
  }

  giveBack(mb: number): void {
    this.#usedMb -= mb;
  }
}
