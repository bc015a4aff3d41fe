/** Keeps the beginning and the end of an output stream within a fixed size, however much is written, and counts what is cut out. */

/** The first and the last half of `maxBytes` of what was written. Memory: at most `maxBytes`, and nothing while nothing is written. */
export class OutputCapture {
  readonly #headBytes: number;
  readonly #tailBytes: number;
  #head: Buffer | undefined;
  #tail: Buffer | undefined;
  #written = 0;

  constructor(maxBytes: number) {
    this.#headBytes = Math.ceil(maxBytes / 2);
    this.#tailBytes = maxBytes - this.#headBytes;
  }

  get isEmpty(): boolean {
    return this.#written === 0;
  }

  push(chunk: Buffer): void {
    let at = 0;
    if (this.#written < this.#headBytes) {
      this.#head ??= Buffer.allocUnsafe(this.#headBytes);
      at = chunk.copy(this.#head, this.#written);
      this.#written += at;
    }
    const rest = chunk.length - at;
    if (rest === 0) return;
    const size = this.#tailBytes;
    if (size > 0) {
      const tail = (this.#tail ??= Buffer.allocUnsafe(size));
      // A ring: byte n of the rest of the stream lies at n modulo size. Of a long chunk only the end survives.
      const from = at + Math.max(0, rest - size);
      let place = (this.#written - this.#headBytes + (from - at)) % size;
      for (let next = from; next < chunk.length; ) {
        const copied = chunk.copy(tail, place, next, Math.min(chunk.length, next + size - place));
        next += copied;
        place = (place + copied) % size;
      }
    }
    this.#written += rest;
  }

  /** The text and the bytes that were cut out of it; the capture is empty afterwards. */
  take(): { readonly text: string; readonly truncatedBytes: number } {
    const result = this.peek();
    this.#written = 0;
    return result;
  }

  /** As `take`, but keeps it. Broken UTF-8 is replaced. */
  peek(): { readonly text: string; readonly truncatedBytes: number } {
    const inHead = Math.min(this.#written, this.#headBytes);
    const head = this.#head?.toString('utf8', 0, inHead) ?? '';
    const beyond = this.#written - inHead;
    if (beyond === 0) return { text: head, truncatedBytes: 0 };
    const size = this.#tailBytes;
    const tail = this.#tail;
    if (tail === undefined) return { text: head, truncatedBytes: beyond };
    if (beyond <= size) return { text: Buffer.concat([(this.#head as Buffer).subarray(0, inHead), tail.subarray(0, beyond)]).toString('utf8'), truncatedBytes: 0 };
    const start = beyond % size;
    const end = Buffer.concat([tail.subarray(start), tail.subarray(0, start)]).toString('utf8');
    return { text: `${head}\n… ${beyond - size} bytes cut out …\n${end}`, truncatedBytes: beyond - size };
  }
}
