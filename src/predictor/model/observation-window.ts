/**
 * The observations that the forest rests on: a bounded window, stratified by function. When it is full, a newcomer takes the place of the oldest row of the
 * function that holds most above its share, where a share grows with the root of how often a function runs. So rare functions are not washed
 * out by frequent ones, and frequent ones, which see more of the nodes, still hold more.
 */

/** Which rows of a window belong to whom. Row numbers are slots, 0 … room − 1. */
export class ObservationWindow {
  readonly room: number;
  size = 0;
  /** Function record of each slot; -1: empty. */
  readonly record: Int32Array;
  /** Serial number of the observation in each slot: what is older is smaller. */
  readonly serial: Float64Array;
  readonly #next: Int32Array;
  readonly #oldest: number[] = [];
  readonly #newest: number[] = [];
  readonly #held: number[] = [];
  readonly #seen: number[] = [];
  #free: number[] = [];
  #serials = 0;

  constructor(room: number) {
    this.room = room;
    this.record = new Int32Array(room).fill(-1);
    this.serial = new Float64Array(room);
    this.#next = new Int32Array(room).fill(-1);
    for (let slot = room - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  /** Rows of a function. */
  held(record: number): number {
    return this.#held[record] ?? 0;
  }

  /** Frees the slot for one more row if there is none, telling of it; then gives the row of `record` a slot. O(functions). */
  add(record: number, evicted: (slot: number) => void): number {
    while (this.#held.length <= record) {
      this.#held.push(0);
      this.#seen.push(0);
      this.#oldest.push(-1);
      this.#newest.push(-1);
    }
    this.#seen[record] = (this.#seen[record] as number) + 1;
    if (this.#free.length === 0) evicted(this.#takeOldest(this.#richest(record)));
    const slot = this.#free.pop() as number;
    this.record[slot] = record;
    this.serial[slot] = ++this.#serials;
    this.#next[slot] = -1;
    const newest = this.#newest[record] as number;
    if (newest >= 0) this.#next[newest] = slot;
    else this.#oldest[record] = slot;
    this.#newest[record] = slot;
    this.#held[record] = (this.#held[record] as number) + 1;
    this.size++;
    return slot;
  }

  /** Drops the rows of a function but its newest `keep`, telling of each. */
  dropOld(record: number, keep: number, evicted: (slot: number) => void): void {
    while (this.held(record) > keep) evicted(this.#takeOldest(record));
  }

  /** Drops all rows of a function, and how often it was seen: its record may be another's next. */
  forget(record: number, evicted: (slot: number) => void): void {
    this.dropOld(record, 0, evicted);
    if (record < this.#seen.length) this.#seen[record] = 0;
  }

  /** True while the slot holds the observation that was given this serial number. */
  holds(slot: number, serial: number): boolean {
    return this.record[slot] !== -1 && this.serial[slot] === serial;
  }

  /** Drops single rows, in any order. O(room). */
  dropSlots(drop: (slot: number) => boolean, evicted: (slot: number) => void): void {
    for (let record = 0; record < this.#held.length; record++) {
      const kept: number[] = [];
      for (let slot = this.#oldest[record] as number; slot >= 0; ) {
        const next = this.#next[slot] as number;
        if (drop(slot)) {
          this.#release(slot, record);
          evicted(slot);
        } else kept.push(slot);
        slot = next;
      }
      this.#oldest[record] = kept[0] ?? -1;
      this.#newest[record] = kept.at(-1) ?? -1;
      kept.forEach((slot, at) => void (this.#next[slot] = kept[at + 1] ?? -1));
    }
  }

  /** Slots in use, oldest first within each function, functions in order of their records. */
  slots(): number[] {
    const all: number[] = [];
    for (let record = 0; record < this.#held.length; record++) for (let slot = this.#oldest[record] as number; slot >= 0; slot = this.#next[slot] as number) all.push(slot);
    return all;
  }

  /** How often each function was seen, by record; part of a snapshot. */
  get seen(): readonly number[] {
    return this.#seen;
  }

  /** Sets what `seen` told. */
  restoreSeen(seen: readonly number[]): void {
    seen.forEach((times, record) => {
      if (record < this.#seen.length) this.#seen[record] = Math.max(times, this.held(record));
    });
  }

  /** The function to give up a row: most rows per root of its frequency. */
  #richest(newcomer: number): number {
    let richest = newcomer, most = -1;
    for (let record = 0; record < this.#held.length; record++) {
      const held = this.#held[record] as number;
      if (held === 0) continue;
      const wealth = held / Math.sqrt(this.#seen[record] as number);
      if (wealth > most) {
        most = wealth;
        richest = record;
      }
    }
    return richest;
  }

  #takeOldest(record: number): number {
    const slot = this.#oldest[record] as number;
    this.#oldest[record] = this.#next[slot] as number;
    if ((this.#oldest[record] as number) < 0) this.#newest[record] = -1;
    this.#release(slot, record);
    return slot;
  }

  #release(slot: number, record: number): void {
    this.record[slot] = -1;
    this.#held[record] = (this.#held[record] as number) - 1;
    this.#free.push(slot);
    this.size--;
  }
}
