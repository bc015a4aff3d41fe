/**
 * Replay: the inputs of a recording go into a fresh scheduler, the same code, whose clock and predictor answer what was read then. Whatever it
 * does is compared with what was done: decisions, commands, transitions, errors. Nothing here knows a policy.
 */
import type { Clock } from '../core/clock.ts';
import { INVOCATION_STATES, type Invocation, type InvocationEvent } from '../core/invocation.ts';
import { MetronomeError } from '../core/errors.ts';
import { NO_SITUATION, type Predictor } from '../predictor/predictor.ts';
import { createNodeTable } from '../scheduler/cluster-view.ts';
import { Scheduler, type SchedulerOptions } from '../scheduler/scheduler.ts';
import { FactCursor } from './cursor.ts';
import { isInput, type AnswerRow, type DecidedFact, type Fact, type InputFact, type OutputFact, type ReadFact } from './facts.ts';
import { callArguments } from './inputs.ts';
import type { RecordingReader, TornEnd } from './read-recording.ts';

/** Where a replay went another way, with both sides. */
export interface Difference {
  /** Number of the entry, from 0. */
  readonly entry: number;
  /** Recorded time, ms since 1970. */
  readonly atMs: number;
  /** What the entry was. */
  readonly input: string;
  readonly recorded: string;
  readonly replayed: string;
  /** The invocation that it is about, if one is. */
  readonly invocation: string;
}

/** What came of a replay. */
export interface ReplayReport {
  readonly entries: number;
  readonly decisions: number;
  readonly dispatches: number;
  readonly transitions: number;
  /** Recorded time that was replayed, ms. */
  readonly spanMs: number;
  /** How the recording ends: in order, cut off (a killed process, or it was full), or at a gap behind which nothing can be replayed. */
  readonly end: 'inOrder' | 'cutOff' | 'gap';
  /** Entries left out at that gap. */
  readonly missing: number;
  readonly torn: TornEnd | undefined;
  readonly difference: Difference | undefined;
}

/** How a replay is made. */
export interface ReplayOptions {
  /** Told now and then: entries so far. */
  readonly onProgress?: (entries: number) => void;
  /** Told of every reading of the clock, ms since the recording began, before the scheduler goes on with it. */
  readonly onClock?: (scheduler: Scheduler, sinceMs: number) => void;
  /** Told of every transition as it is made again. */
  readonly onTransition?: (scheduler: Scheduler, invocation: Invocation, from: number, to: number, event: InvocationEvent) => void;
  /** Told of every decision; its record is the last one of `scheduler.decisions`. */
  readonly onDecided?: (scheduler: Scheduler, invocation: Invocation) => void;
  /** Overrides options of the recorded scheduler: to see that a replay notices. */
  readonly scheduler?: Partial<SchedulerOptions>;
}

const PROGRESS_EVERY = 20_000;

/** Replays a recording until its end, its first gap, or the first difference. Throws INVALID_REQUEST when its beginning is gone. */
export function replayRecording(reader: RecordingReader, options: ReplayOptions = {}): ReplayReport {
  if (reader.removedSegments > 0) throw new MetronomeError('INVALID_REQUEST', `The first ${reader.removedSegments} segments of the recording in ${reader.folder} were removed to keep it within recording.maxBytes (recording.onFull: rotate). A replay needs every input since the scheduler began; what-if, export and sim calibrate work on what is left. Record with onFull "stop" to replay.`);
  const replay = new Replay(reader, options);
  return replay.run();
}

class Replay {
  readonly #reader: RecordingReader;
  readonly #options: ReplayOptions;
  readonly #cursor: FactCursor;
  readonly #timers = new Map<number, () => void>();
  /** Ids by serial number, of those that live. */
  readonly #ids = new Map<number, string>();
  #scheduler: Scheduler | undefined;
  #predicted: (ticket: number) => void = () => {};
  #nextTimer = 0;
  #nowMs = 0;
  #firstMs = 0;
  #entries = 0;
  #decisions = 0;
  #dispatches = 0;
  #transitions = 0;
  #input: InputFact = { kind: 'begin' };
  #answer: readonly AnswerRow[] = [];
  #difference: Difference | undefined;

  constructor(reader: RecordingReader, options: ReplayOptions) {
    this.#reader = reader;
    this.#options = options;
    this.#cursor = new FactCursor(reader.head, reader.blocks());
  }

  run(): ReplayReport {
    let end: ReplayReport['end'] = 'cutOff';
    let missing = 0;
    for (let input = this.#cursor.next(); input !== undefined && this.#difference === undefined; input = this.#cursor.next()) {
      if (!isInput(input)) throw new MetronomeError('STATE_CORRUPT', `Entry ${this.#entries} of the recording begins with ${tell(input, this.#nameOf)}, which is no input.`);
      if (input.kind === 'end') {
        end = 'inOrder';
        break;
      }
      if (input.kind === 'gap') {
        end = 'gap';
        missing = input.entries;
        break;
      }
      this.#input = input;
      this.#enter(input);
      const left = this.#cursor.peek();
      // The scheduler has done all that it does; what the recording tells beyond is missing.
      if (left !== undefined && !isInput(left) && this.#difference === undefined) this.#differs(tell(left, this.#nameOf), 'nothing more');
      if (this.#difference === undefined && ++this.#entries % PROGRESS_EVERY === 0) this.#options.onProgress?.(this.#entries);
    }
    this.#scheduler?.stop();
    return {
      entries: this.#entries, decisions: this.#decisions, dispatches: this.#dispatches, transitions: this.#transitions, spanMs: this.#nowMs - this.#firstMs, end, missing, torn: this.#reader.torn, difference: this.#difference,
    };
  }

  #enter(input: InputFact): void {
    switch (input.kind) {
      case 'begin':
        this.#scheduler = this.#begin();
        return;
      case 'timer': {
        const fire = this.#timers.get(input.timer);
        this.#timers.delete(input.timer);
        if (fire === undefined) return this.#differs(`timer ${input.timer} fired`, 'it was not set, or cleared before');
        return fire();
      }
      case 'predicted':
        return this.#predicted(input.ticket);
      case 'call':
        return this.#call(input);
      case 'end':
      case 'gap':
        return;
    }
  }

  #call({ name, args }: InputFact & { kind: 'call' }): void {
    const scheduler = this.#scheduler;
    if (scheduler === undefined) throw new MetronomeError('STATE_CORRUPT', 'The recording does not begin with the start of a scheduler.');
    if (typeof scheduler[name] !== 'function') throw new MetronomeError('STATE_CORRUPT', `Entry ${this.#entries} of the recording is "${name}", which this build does not know. It was written by version ${this.#reader.head.version}; replay it with that one.`);
    const method = scheduler[name].bind(scheduler) as (...given: unknown[]) => unknown; // the arguments are those of this method
    let result: unknown;
    try {
      result = method(...callArguments(name, args));
    } catch (error) {
      if (!(error instanceof MetronomeError)) throw error;
      return this.#does({ kind: 'threw', code: error.code });
    }
    if (name !== 'submit' && name !== 'adopt') return;
    const taken = result as { readonly seq: number; readonly id: string } | undefined; // what submit and adopt return
    if (taken !== undefined) this.#ids.set(taken.seq, taken.id);
    this.#does({ kind: 'accepted', seq: taken?.seq ?? -1 });
  }

  /** The recorded scheduler again, with replies from the tape. */
  #begin(): Scheduler {
    const { head } = this.#reader;
    const scheduler: Scheduler = new Scheduler({
      ...head.scheduler, ...this.#options.scheduler,
      clock: this.#clock(), predictor: this.#predictor(), nodeTable: createNodeTable(head.scheduler.maxNodes),
      transport: {
        execute: (invocation, node) => {
          this.#dispatches++;
          this.#does({ kind: 'execute', seq: invocation.seq, node, attempt: invocation.attempt });
        },
        cancel: (invocation, node) => this.#does({ kind: 'cancel', seq: invocation.seq, node }),
        prewarm: (name, node, count) => this.#does({ kind: 'prewarm', function: name, node, count }),
        evict: (name, node, count) => this.#does({ kind: 'evict', function: name, node, count }),
      },
      observer: {
        transitioned: (invocation, from, to, event) => {
          this.#transitions++;
          if (this.#ids.get(invocation.seq) === undefined) this.#ids.set(invocation.seq, invocation.id);
          this.#does({ kind: 'transition', seq: invocation.seq, from, to, reason: event.reason, node: invocation.node });
          this.#options.onTransition?.(scheduler, invocation, from, to, event);
        },
        settled: (invocation) => void this.#ids.delete(invocation.seq),
        decided: (invocation, policy, { count, node, room, local, startState, missingBytes, meanMs, spreadMs, p95Ms, p99Ms, source }, { action, reason, row, deadlineMs, slackMs }) => {
          this.#decisions++;
          this.#ids.set(invocation.seq, invocation.id);
          const rows = Array.from({ length: count }, (_, i): AnswerRow => ({
            node: node[i] as number, startState: startState[i] as number, source: source[i] as number, missingBytes: missingBytes[i] as number, meanMs: meanMs[i] as number, spreadMs: spreadMs[i] as number, p95Ms: p95Ms[i] as number, p99Ms: p99Ms[i] as number,
          }));
          const decided: DecidedFact = {
            kind: 'decided', seq: invocation.seq, policy, action, reason, node: row < 0 ? -1 : (node[row] as number), deadlineMs, slackMs, rooms: [...room.subarray(0, count)], local: [...local.subarray(0, count)].map((is) => is === 1),
          };
          this.#does(decided, rows);
          this.#options.onDecided?.(scheduler, invocation);
        },
      },
    });
    const { cluster } = scheduler;
    cluster.receivedAtMs = (node) => {
      const read = this.#reads('heard', `the time of the last state of ${this.#nodeName(node)}`);
      if (read?.kind !== 'heard') return this.#nowMs;
      if (read.node !== node) this.#differs(tell(read, this.#nameOf), `reads the time of the last state of ${this.#nodeName(node)}`);
      return read.ms;
    };
    return scheduler;
  }

  #clock(): Clock {
    return {
      nowMs: () => {
        const read = this.#reads('clock', 'the clock');
        if (read?.kind === 'clock') this.#nowMs = read.ms;
        if (this.#firstMs === 0) this.#firstMs = this.#nowMs;
        if (this.#scheduler !== undefined) this.#options.onClock?.(this.#scheduler, this.#nowMs - this.#firstMs);
        return this.#nowMs;
      },
      setTimer: (_atMs, fire) => {
        const timer = this.#nextTimer++;
        this.#timers.set(timer, fire);
        return timer;
      },
      clearTimer: (handle) => void this.#timers.delete(handle as number), // made by setTimer
    };
  }

  #predictor(): Predictor {
    const excluded = { failed: 0, cancelled: 0, timedOut: 0, memoryExceeded: 0, lost: 0, refused: 0, deleted: 0 };
    return {
      name: this.#reader.head.predictor,
      excluded,
      predict: (_subject, rows, ticket) => {
        const asked = `a prediction for ${rows.count} nodes`;
        const next = this.#cursor.peek();
        if (next?.kind === 'later' && ticket !== -1) {
          this.#cursor.next();
          return false;
        }
        const read = this.#reads('answer', asked);
        if (read?.kind !== 'answer') return true;
        this.#answer = read.rows;
        const isSame = read.rows.length === rows.count && read.rows.every((row, i) => row.node === rows.node[i] && row.startState === rows.startState[i] && row.missingBytes === rows.missingBytes[i]);
        if (!isSame) {
          const question = Array.from({ length: rows.count }, (_, i) => `${this.#nodeName(rows.node[i] as number)} (${START[rows.startState[i] as number] ?? '?'}, ${rows.missingBytes[i]} bytes missing)`).join(', ');
          this.#differs(`asked to predict ${read.rows.map((row) => `${this.#nodeName(row.node)} (${START[row.startState] ?? '?'}, ${row.missingBytes} bytes missing)`).join(', ') || 'nothing'}`, `asks to predict ${question || 'nothing'}`);
        }
        for (let i = 0; i < Math.min(rows.count, read.rows.length); i++) {
          const row = read.rows[i] as AnswerRow;
          rows.meanMs[i] = row.meanMs;
          rows.spreadMs[i] = row.spreadMs;
          rows.p95Ms[i] = row.p95Ms;
          rows.p99Ms[i] = row.p99Ms;
          rows.source[i] = row.source;
        }
        return true;
      },
      listen: (ready) => void (this.#predicted = ready),
      initialiseMs: () => {
        const read = this.#reads('initialise', 'the time of a start');
        return read?.kind === 'initialise' ? read.ms : 0;
      },
      bytesPerMs: () => {
        const read = this.#reads('bandwidth', 'a bandwidth');
        return read?.kind === 'bandwidth' ? read.bytesPerMs : 1;
      },
      observations: () => {
        const read = this.#reads('observations', 'the number of observations');
        return read?.kind === 'observations' ? read.count : 0;
      },
      dispatched: () => NO_SITUATION,
      attach: () => {},
      functionPut: () => {},
      functionDeleted: () => {},
      observe: () => {},
      exclude: (_situation, why) => void excluded[why]++,
      accuracy: () => [],
    };
  }

  // ── comparing ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** The scheduler reads something: takes it from the tape. Undefined after a difference; callers then answer anything. */
  #reads(kind: ReadFact['kind'], what: string): Fact | undefined {
    if (this.#difference !== undefined) return undefined;
    const next = this.#cursor.peek();
    if (next?.kind === kind) return this.#cursor.next();
    this.#differs(next === undefined || isInput(next) ? 'nothing more' : tell(next, this.#nameOf), `reads ${what}`);
    return undefined;
  }

  /** The scheduler did something: the tape must say the same. */
  #does(fact: OutputFact, rows?: readonly AnswerRow[]): void {
    if (this.#difference !== undefined) return;
    const next = this.#cursor.peek();
    if (next !== undefined && !isInput(next) && isEqual(next, fact)) return void this.#cursor.next();
    const recorded = next === undefined || isInput(next) ? 'nothing more' : tell(next, this.#nameOf, this.#answer);
    this.#differs(recorded, tell(fact, this.#nameOf, rows), 'seq' in fact ? fact.seq : next !== undefined && 'seq' in next ? next.seq : -1);
  }

  #differs(recorded: string, replayed: string, seq = -1): void {
    this.#difference ??= { entry: this.#entries, atMs: this.#nowMs, input: tellInput(this.#input), recorded, replayed, invocation: this.#ids.get(seq) ?? '' };
  }

  #nodeName(node: number): string {
    return this.#scheduler?.cluster.name(node) || `node ${node}`;
  }

  readonly #nameOf: Names = { node: (node) => this.#nodeName(node), invocation: (seq) => this.#ids.get(seq) ?? `invocation ${seq}` };
}

/** Names for what the tape has numbers for. */
export interface Names {
  node(node: number): string;
  invocation(seq: number): string;
}

const START = ['unspecified', 'cold', 'packages', 'zygote', 'warm'];

/** Equal facts: numbers to the last bit. */
function isEqual(a: Fact, b: Fact): boolean {
  if (a.kind !== b.kind) return false;
  const left = a as unknown as Readonly<Record<string, unknown>>, right = b as unknown as Readonly<Record<string, unknown>>; // facts are flat records
  return Object.keys(right).every((key) => {
    const x = left[key], y = right[key];
    return Array.isArray(x) && Array.isArray(y) ? x.length === y.length && x.every((item, i) => Object.is(item, y[i])) : x === y || Object.is(x, y);
  });
}

/** A fact for people. `rows`: what had been predicted when a decision was made. */
export function tell(fact: Fact, names: Names, rows: readonly AnswerRow[] = []): string {
  switch (fact.kind) {
    case 'decided': {
      const where = fact.node < 0 ? 'any node' : names.node(fact.node);
      const until = Number.isFinite(fact.deadlineMs) ? `, until ${fact.deadlineMs.toFixed(3)}` : '';
      const head = `policy ${fact.policy} decided for ${names.invocation(fact.seq)}: ${fact.action === 'dispatch' ? 'dispatch to' : 'delay for'} ${where} (${fact.reason}${until}, slack ${fact.slackMs.toFixed(3)} ms)`;
      const table = fact.rooms.map((room, i) => {
        const row = rows[i];
        return `    ${row === undefined ? `row ${i}` : `${names.node(row.node)} ${START[row.startState] ?? ''} predicted ${row.meanMs.toFixed(3)} ± ${row.spreadMs.toFixed(3)} ms`}, ${fact.local[i] === true ? 'local' : 'fallback'}, room ${room}`;
      });
      return [head, ...table].join('\n');
    }
    case 'execute': return `${names.invocation(fact.seq)} is sent to ${names.node(fact.node)}, attempt ${fact.attempt}`;
    case 'cancel': return `${names.invocation(fact.seq)} is cancelled on ${names.node(fact.node)}`;
    case 'prewarm': return `${fact.count} sandboxes of "${fact.function}" are made ready on ${names.node(fact.node)}`;
    case 'evict': return `${fact.count} sandboxes of "${fact.function}" are ended on ${names.node(fact.node)}`;
    case 'transition': return `${names.invocation(fact.seq)} went from ${INVOCATION_STATES[fact.from] ?? fact.from} to ${INVOCATION_STATES[fact.to] ?? fact.to} (${fact.reason}${fact.node < 0 ? '' : `, ${names.node(fact.node)}`})`;
    case 'threw': return `refused with ${fact.code}`;
    case 'accepted': return fact.seq < 0 ? 'not taken in' : `taken in as number ${fact.seq}`;
    case 'clock': return `the clock was read: ${fact.ms}`;
    case 'heard': return `the last state of ${names.node(fact.node)} was from ${fact.ms}`;
    case 'initialise': return `a start was expected to take ${fact.ms.toFixed(3)} ms`;
    case 'bandwidth': return `a bandwidth was read: ${fact.bytesPerMs.toFixed(1)} bytes/ms`;
    case 'observations': return `${fact.count} observations were known`;
    case 'answer': return `${fact.rows.length} nodes were predicted`;
    case 'later': return 'the prediction was to come later';
    default: return tellInput(fact);
  }
}

/** An input for people. */
export function tellInput(input: InputFact): string {
  switch (input.kind) {
    case 'begin': return 'the scheduler started';
    case 'call': return `${input.name}(${JSON.stringify(input.args).slice(1, -1).slice(0, 300)})`;
    case 'timer': return `timer ${input.timer} fired`;
    case 'predicted': return `the prediction with ticket ${input.ticket} came`;
    case 'end': return 'the recording ended in order';
    case 'gap': return `${input.entries} entries are missing`;
  }
}
