/**
 * Files of numbers that are read again and again (/proc, control groups): the descriptor stays open, the text goes into one
 * buffer, and numbers are taken from its bytes. Opening each time costs three times as much, strings and splits twice.
 */
import { closeSync, openSync, readSync } from 'node:fs';

const FIRST_BYTES = 16 * 1024;
const MOST_BYTES = 1024 ** 2;
const NEWLINE = 0x0a, BLANK = 0x20, TAB = 0x09, ZERO = 0x30, NINE = 0x39, POINT = 0x2e, COLON = 0x3a;

/** Shared by all files: what was read is gone with the next read of any of them. */
let buffer = Buffer.allocUnsafe(FIRST_BYTES);

export class TextFile {
  #fd: number | undefined;
  #length = 0;

  /** A file that is missing or not readable reads as empty. */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'r');
    } catch {
      // Not on this kernel, or not for us.
    }
  }

  get exists(): boolean {
    return this.#fd !== undefined;
  }

  /** Reads it anew and returns how many bytes there are. */
  read(): number {
    this.#length = 0;
    if (this.#fd === undefined) return 0;
    try {
      let length = readSync(this.#fd, buffer, 0, buffer.length, 0);
      while (length === buffer.length && buffer.length < MOST_BYTES) {
        buffer = Buffer.allocUnsafe(buffer.length * 4);
        length = readSync(this.#fd, buffer, 0, buffer.length, 0);
      }
      this.#length = length;
    } catch {
      // Pressure files refuse when PSI is off; a group may be gone.
    }
    return this.#length;
  }

  /** The first number at or after a byte; 0 if there is none before the line ends. */
  numberAt(at: number): number {
    let i = at;
    while (i < this.#length && buffer[i] !== NEWLINE && !isDigit(buffer[i] as number)) i++;
    let value = 0;
    for (let digit = buffer[i] as number; i < this.#length && isDigit(digit); digit = buffer[++i] as number) value = value * 10 + digit - ZERO;
    if (i >= this.#length || buffer[i] !== POINT) return value;
    i++;
    for (let scale = 0.1, digit = buffer[i] as number; i < this.#length && isDigit(digit); digit = buffer[++i] as number, scale /= 10) value += (digit - ZERO) * scale;
    return value;
  }

  /** The number behind the first occurrence of a label; 0 if the label is not there. */
  numberAfter(label: Buffer): number {
    // Not Buffer.indexOf, which would search what former reads left behind the text as well.
    const first = label[0];
    for (let at = 0; at + label.length <= this.#length; at++) if (buffer[at] === first && this.startsWith(at, label)) return this.numberAt(at + label.length);
    return 0;
  }

  /** Field `n` (from 0) of the line that begins at a byte, as the place of its first byte; -1 if the line is shorter. */
  field(lineAt: number, n: number): number {
    let i = lineAt;
    for (let k = 0; ; k++) {
      while (i < this.#length && isBlank(buffer[i] as number)) i++;
      if (i >= this.#length || buffer[i] === NEWLINE) return -1;
      if (k === n) return i;
      while (i < this.#length && buffer[i] !== NEWLINE && !isBlank(buffer[i] as number)) i++;
    }
  }

  /** Calls back with the place of every line. */
  eachLine(call: (lineAt: number) => void): void {
    for (let at = 0; at < this.#length; at++) {
      call(at);
      while (at < this.#length && buffer[at] !== NEWLINE) at++;
    }
  }

  /** The word at a byte, up to a blank, a colon or the end of the line. */
  wordAt(at: number): string {
    let end = at;
    while (end < this.#length && buffer[end] !== NEWLINE && buffer[end] !== COLON && !isBlank(buffer[end] as number)) end++;
    return buffer.toString('latin1', at, end);
  }

  isColon(at: number): boolean {
    return at < this.#length && buffer[at] === COLON;
  }

  /** True if the text at a byte begins so. */
  startsWith(at: number, label: Buffer): boolean {
    if (at + label.length > this.#length) return false;
    for (let i = 0; i < label.length; i++) if (buffer[at + i] !== label[i]) return false;
    return true;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

const isDigit = (byte: number): boolean => byte >= ZERO && byte <= NINE;
const isBlank = (byte: number): boolean => byte === BLANK || byte === TAB;
