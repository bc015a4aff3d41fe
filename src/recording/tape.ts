/**
 * A block in the making: two tapes, one of numbers and one of everything else. Writing a number costs nanoseconds; nothing is packed, copied
 * or allocated until the block is full. A block holds whole entries only.
 */

/** Numbers from which a block is full. */
const FULL_NUMBERS = 16_384;
/** Values from which a block is full. */
const FULL_VALUES = 256;
/** Numbers of one entry beyond which it is given up: 16 MiB. */
const MOST_NUMBERS = 2_097_152;

export class Tape {
  #numbers = new Float64Array(FULL_NUMBERS * 2);
  #length = 0;
  #values: unknown[] = [];
  /** Where the entry began that is being written. */
  #entryNumbers = 0;
  #entryValues = 0;
  /** Whole entries in this block. */
  entries = 0;
  /** The entry that is being written grew too large; it is to be dropped. */
  isOverfull = false;

  get isEmpty(): boolean {
    return this.entries === 0;
  }

  get isFull(): boolean {
    return this.#length >= FULL_NUMBERS || this.#values.length >= FULL_VALUES;
  }

  beginEntry(): void {
    this.#entryNumbers = this.#length;
    this.#entryValues = this.#values.length;
  }

  endEntry(): void {
    this.entries++;
  }

  /** Forgets the entry that is being written. */
  dropEntry(): void {
    this.#length = this.#entryNumbers;
    this.#values.length = this.#entryValues;
    this.isOverfull = false;
  }

  /** Makes room for `count` numbers, whose place is returned; -1: the entry is too large. */
  reserve(count: number): number {
    const at = this.#length;
    if (at + count > this.#numbers.length && !this.#grow(at + count)) return -1;
    this.#length = at + count;
    return at;
  }

  /** For what `reserve` gave. */
  get numbers(): Float64Array {
    return this.#numbers;
  }

  put1(a: number): void {
    const at = this.reserve(1);
    if (at >= 0) this.#numbers[at] = a;
  }

  put2(a: number, b: number): void {
    const at = this.reserve(2);
    if (at < 0) return;
    this.#numbers[at] = a;
    this.#numbers[at + 1] = b;
  }

  put3(a: number, b: number, c: number): void {
    const at = this.reserve(3);
    if (at < 0) return;
    this.#numbers[at] = a;
    this.#numbers[at + 1] = b;
    this.#numbers[at + 2] = c;
  }

  value(value: unknown): void {
    this.#values.push(value);
  }

  /** Hands out what is there and begins anew. The numbers are a copy of their own. */
  take(): { numbers: Float64Array<ArrayBuffer>; values: unknown[]; entries: number } {
    const taken = { numbers: this.#numbers.slice(0, this.#length), values: this.#values, entries: this.entries };
    this.#length = 0;
    this.#values = [];
    this.entries = 0;
    if (this.#numbers.length > FULL_NUMBERS * 8) this.#numbers = new Float64Array(FULL_NUMBERS * 2);
    return taken;
  }

  #grow(wanted: number): boolean {
    if (wanted - this.#entryNumbers > MOST_NUMBERS) {
      this.isOverfull = true;
      return false;
    }
    const grown = new Float64Array(Math.max(wanted, this.#numbers.length * 2));
    grown.set(this.#numbers.subarray(0, this.#length));
    this.#numbers = grown;
    return true;
  }
}
