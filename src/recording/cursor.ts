/** Reads the tapes of blocks as facts, one after the other, with one fact to look ahead. */
import { MetronomeError } from '../core/errors.ts';
import { ANSWER_ROW, OP, type AnswerRow, type Context, type Fact } from './facts.ts';
import type { RecordingHead, StoredBlock } from './format.ts';
import type { InputName } from './inputs.ts';

export class FactCursor {
  readonly #head: RecordingHead;
  readonly #blocks: Iterator<StoredBlock>;
  #numbers = new Float64Array();
  #values: readonly unknown[] = [];
  #number = 0;
  #value = 0;
  #block = -1;
  #ahead: Fact | undefined;

  constructor(head: RecordingHead, blocks: Iterable<StoredBlock>) {
    this.#head = head;
    this.#blocks = blocks[Symbol.iterator]();
  }

  /** The next fact, which stays; undefined: the recording ends here. */
  peek(): Fact | undefined {
    return (this.#ahead ??= this.#read());
  }

  /** Takes the next fact. */
  next(): Fact | undefined {
    const fact = this.peek();
    this.#ahead = undefined;
    return fact;
  }

  #read(): Fact | undefined {
    while (this.#number >= this.#numbers.length) {
      const { done, value: block } = this.#blocks.next();
      if (done === true) return undefined;
      this.#block++;
      this.#numbers = block.numbers as Float64Array<ArrayBuffer>; // made by decodeBlock
      this.#values = block.values;
      this.#number = this.#value = 0;
    }
    const op = this.#take();
    switch (op) {
      case OP.begin:
        this.#take();
        return { kind: 'begin' };
      case OP.call: {
        const number = this.#take();
        const name = this.#head.inputs[number];
        if (name === undefined) throw this.#wrong(`input ${number} is not known`);
        return { kind: 'call', name: name as InputName, args: this.#takeValue() as readonly unknown[] }; // kept by keptArguments
      }
      case OP.timer:
        return { kind: 'timer', timer: this.#take() };
      case OP.predicted:
        return { kind: 'predicted', ticket: this.#take() };
      case OP.end:
        return { kind: 'end' };
      case OP.gap:
        return { kind: 'gap', entries: this.#take(), context: this.#takeValue() as Context }; // written by the recorder
      case OP.clock:
        return { kind: 'clock', ms: this.#take() };
      case OP.heard:
        return { kind: 'heard', node: this.#take(), ms: this.#take() };
      case OP.initialise:
        return { kind: 'initialise', ms: this.#take() };
      case OP.bandwidth:
        return { kind: 'bandwidth', bytesPerMs: this.#take() };
      case OP.observations:
        return { kind: 'observations', count: this.#take() };
      case OP.answer: {
        const rows: AnswerRow[] = [];
        for (let left = this.#take(); left > 0; left--) {
          if (this.#number + ANSWER_ROW > this.#numbers.length) throw this.#wrong('an answer is not complete');
          const where = this.#take();
          rows.push({ node: Math.floor(where / 16), startState: (where % 16) >> 1, source: where & 1, missingBytes: this.#take(), meanMs: this.#take(), spreadMs: this.#take(), p95Ms: this.#take(), p99Ms: this.#take() });
        }
        return { kind: 'answer', rows };
      }
      case OP.later:
        return { kind: 'later' };
      case OP.decided: {
        const seq = this.#take(), policy = this.#head.policies[this.#take()] ?? '', action = this.#take() === 1 ? 'dispatch' : 'delay', reason = this.#head.reasons[this.#take()] ?? '', node = this.#take(), deadlineMs = this.#take(), slackMs = this.#take();
        const rooms: number[] = [], local: boolean[] = [];
        for (let left = this.#take(); left > 0; left--) {
          if (this.#number >= this.#numbers.length) throw this.#wrong('a decision is not complete');
          const number = this.#take();
          rooms.push(Math.floor(number / 2));
          local.push(number % 2 !== 0);
        }
        return { kind: 'decided', seq, policy, action, reason, node, deadlineMs, slackMs, rooms, local };
      }
      case OP.execute:
        return { kind: 'execute', seq: this.#take(), node: this.#take(), attempt: this.#take() };
      case OP.cancel:
        return { kind: 'cancel', seq: this.#take(), node: this.#take() };
      case OP.prewarm:
      case OP.evict:
        return { kind: op === OP.prewarm ? 'prewarm' : 'evict', node: this.#take(), count: this.#take(), function: String(this.#takeValue()) };
      case OP.transition: {
        const seq = this.#take(), states = this.#take(), reason = this.#head.reasons[this.#take()] ?? '';
        return { kind: 'transition', seq, from: states >> 4, to: states & 15, reason, node: this.#take() };
      }
      case OP.threw:
        return { kind: 'threw', code: String(this.#takeValue()) };
      case OP.accepted:
        return { kind: 'accepted', seq: this.#take() };
      default:
        throw this.#wrong(`fact ${op} is not known to this build`);
    }
  }

  #take(): number {
    const number = this.#numbers[this.#number++];
    if (number === undefined) throw this.#wrong('a fact is not complete');
    return number;
  }

  #takeValue(): unknown {
    if (this.#value >= this.#values.length) throw this.#wrong('a value is missing');
    return this.#values[this.#value++];
  }

  #wrong(what: string): MetronomeError {
    return new MetronomeError('STATE_CORRUPT', `Block ${this.#block} of the recording, number ${this.#number}: ${what}.`);
  }
}
