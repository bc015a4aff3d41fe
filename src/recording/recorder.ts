/**
 * The recorder: keeps what enters and leaves the scheduler on a tape and gives whole blocks to a sink. Knows nothing of files. When the sink
 * cannot follow, whole stretches are left out, counted, and marked with a gap.
 */
import { Packr } from 'msgpackr';
import type { Clock, TimerHandle } from '../core/clock.ts';
import { OP, type Context, type Purpose } from './facts.ts';
import { INPUTS, keptArguments, type InputName } from './inputs.ts';
import { Tape } from './tape.ts';

/** A block on its way to a file. */
export interface Block {
  /** Number of its first entry, from 0, since the recording began; entries left out count. */
  readonly firstEntry: number;
  readonly entries: number;
  readonly numbers: Float64Array<ArrayBuffer>;
  /** An array of values in msgpack. */
  readonly values: Uint8Array<ArrayBuffer>;
}

/** Where blocks go. */
export interface BlockSink {
  /** Takes a block, or returns false: there is no room, or it is over for good. */
  write(block: Block): boolean;
  readonly hasRoom: boolean;
  /** Nothing can be written any more: the bound is reached, or the disk failed. */
  readonly isOver: boolean;
}

/** What the recorder needs. */
export interface RecorderOptions {
  readonly clock: Clock;
  readonly sink: BlockSink;
  /** What is known now, for the mark behind a gap. */
  readonly context: () => Context;
  readonly purposeOf?: (cargo: unknown) => Purpose | undefined;
  /** Told when entries begin to be left out, and how many it were when that ended. */
  readonly onGap?: (entries: number) => void;
}

/** Counts since the start. */
export interface RecorderCounters {
  /** Entries written or given to the sink. */
  entries: number;
  /** Left out because the sink could not follow. */
  dropped: number;
  gaps: number;
}

/** A block goes out at the latest after so long, ms: what a killed process loses. */
const FLUSH_MS = 200;

const numberOf = new Map<InputName, number>(INPUTS.map((name, index) => [name, index]));

export class Recorder {
  readonly tape = new Tape();
  readonly counters: RecorderCounters = { entries: 0, dropped: 0, gaps: 0 };
  readonly #options: RecorderOptions;
  readonly #packr = new Packr();
  #depth = 0;
  #muted = 0;
  /** The present entry is being left out. */
  #isSkipping = false;
  /** Left out since the gap began; -1: there is none. */
  #missing = -1;
  /** What the mark of a gap in the present block says. */
  #marked = 0;
  #next = 0;
  #timer: TimerHandle = undefined;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  /** True while the scheduler works on an input that is recorded, and not in a callback of its owner. */
  get isListening(): boolean {
    return this.#depth > 0 && this.#muted === 0 && !this.#isSkipping;
  }

  /** True within an input: what is called then is the scheduler's own doing. */
  get isInside(): boolean {
    return this.#depth > 0;
  }

  /** Runs what follows from a call. */
  call<T>(name: InputName, args: readonly unknown[], run: () => T): T {
    if (this.#enter()) this.#writeCall(name, args);
    try {
      return run();
    } catch (error) {
      if (this.isListening) {
        this.tape.put1(OP.threw);
        this.tape.value((error as { readonly code?: unknown } | undefined)?.code ?? 'INTERNAL');
      }
      throw error;
    } finally {
      this.#leave();
    }
  }

  #writeCall(name: InputName, args: readonly unknown[]): void {
    try {
      const kept = keptArguments(name, args, this.#options.purposeOf ?? (() => undefined));
      this.tape.put2(OP.call, numberOf.get(name) as number);
      this.tape.value(kept);
    } catch {
      this.#isSkipping = true; // nobody's call fails because it cannot be recorded: it counts as left out
    }
  }

  /** Runs what follows from an input that is one number. */
  input<T>(op: typeof OP.begin | typeof OP.timer | typeof OP.predicted, number: number, run: () => T): T {
    if (this.#enter()) this.tape.put2(op, number);
    try {
      return run();
    } finally {
      this.#leave();
    }
  }

  /** Runs a callback of the scheduler's owner: what it reads is no input. */
  outside<T>(run: () => T): T {
    this.#muted++;
    try {
      return run();
    } finally {
      this.#muted--;
    }
  }

  /** Gives out what is there. The sink's end is the caller's business. */
  close(): void {
    // Nothing comes any more: the mark of a gap is written even if the sink is behind.
    if (this.#missing >= 0 && !this.#options.sink.isOver) this.#mark();
    if (this.#enter()) this.tape.put1(OP.end);
    this.#leave();
    this.flush();
    this.#stopTimer();
  }

  /** Gives the block to the sink. */
  flush(): void {
    this.#stopTimer();
    if (this.tape.isEmpty) return;
    const { numbers, values, entries } = this.tape.take();
    if (this.#write(numbers, values, entries)) {
      this.#marked = 0;
      return;
    }
    this.counters.entries -= entries;
    if (this.#options.sink.isOver) return;
    this.#miss(entries);
    // A mark went with the block: what it stood for is missing here too.
    this.#missing += this.#marked;
    this.#marked = 0;
  }

  #write(numbers: Float64Array<ArrayBuffer>, values: unknown[], entries: number): boolean {
    let packed: Uint8Array<ArrayBuffer>;
    try {
      // A copy: what packr gives is a view of its own large buffer.
      packed = new Uint8Array(this.#packr.pack(values));
    } catch {
      return false; // a value that cannot be written must not harm who brought it: it counts as left out
    }
    return this.#options.sink.write({ firstEntry: this.#next - entries, entries, numbers, values: packed });
  }

  // ── entries ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** True when the input is to be written. */
  #enter(): boolean {
    if (this.#depth++ > 0) return false;
    this.#isSkipping = this.#options.sink.isOver || (this.#missing >= 0 && !this.#resume());
    if (this.#isSkipping) return false;
    this.tape.beginEntry();
    return true;
  }

  #leave(): void {
    if (--this.#depth > 0) return;
    if (this.#options.sink.isOver) return;
    if (this.#isSkipping || this.tape.isOverfull) {
      if (!this.#isSkipping) this.tape.dropEntry();
      this.flush();
      this.#next++;
      return this.#miss(1);
    }
    this.#next++;
    this.tape.endEntry();
    this.counters.entries++;
    if (this.tape.isFull) this.flush();
    else this.#timer ??= this.#options.clock.setTimer(this.#options.clock.nowMs() + FLUSH_MS, () => this.flush());
  }

  #miss(entries: number): void {
    if (this.#missing < 0) {
      this.#missing = 0;
      this.counters.gaps++;
      this.#options.onGap?.(0);
    }
    this.#missing += entries;
    this.counters.dropped += entries;
  }

  /** Ends the gap if the sink has room again. */
  #resume(): boolean {
    if (!this.#options.sink.hasRoom) return false;
    this.#mark();
    return true;
  }

  #mark(): void {
    const missing = this.#missing;
    this.#missing = -1;
    this.#marked = missing;
    this.#options.onGap?.(missing);
    // The mark is an entry of its own, and comes first in its block.
    this.tape.beginEntry();
    this.tape.put2(OP.gap, missing);
    this.tape.value(this.#options.context());
    this.tape.endEntry();
    this.#next++;
    this.counters.entries++;
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) this.#options.clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }
}
