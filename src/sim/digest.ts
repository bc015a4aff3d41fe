/** A running digest of a trace: two 32-bit lanes (FNV-1a over words, with different primes). Quick, and the same on every machine. */

export class Digest {
  readonly #number = new Float64Array(1);
  readonly #words = new Uint32Array(this.#number.buffer);
  #a = 0x811c9dc5;
  #b = 0x9dc5811c;
  /** Entries so far. */
  count = 0;

  /** Adds one entry. */
  add(atMs: number, a: number, b: number, c: number): void {
    this.count++;
    this.#number[0] = atMs;
    this.#word(this.#words[0] as number);
    this.#word(this.#words[1] as number);
    this.#word(a | 0);
    this.#word(b | 0);
    this.#word(c | 0);
  }

  #word(word: number): void {
    this.#a = Math.imul(this.#a ^ word, 0x01000193);
    this.#b = Math.imul(this.#b ^ (word + 0x9e3779b9), 0x85ebca6b) ^ (this.#b >>> 13);
  }

  /** 16 hex digits. */
  toString(): string {
    return (this.#a >>> 0).toString(16).padStart(8, '0') + (this.#b >>> 0).toString(16).padStart(8, '0');
  }
}
