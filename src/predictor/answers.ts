/**
 * The last predictions by question: (function, node, start state, what is run). A two-way table of fixed size in typed arrays: looking
 * one up costs some nanoseconds, an old one is overwritten by whatever falls into its place. It gives asynchronous predictions to
 * those who cannot wait: the question asked again after its answer came, waiters that are looked at again, a release that wakes one.
 */
import type { Subject } from './predictor.ts';

/** Sets of two; a power of two. */
const SETS = 1 << 15;

/** Everything of a subject but its function, as one number. Equal numbers of different subjects are possible, rare, and harmless. */
export function subjectKey(subject: Subject): number {
  let key = mix(0x9e3779b9, subject.inputBytes);
  key = mix(key, subject.payloadBytes);
  key = mix(key, subject.inputs.length * 4_096 + subject.fanOut);
  return mix(key, subject.stage * 4_096 + subject.predecessors);
}

function mix(key: number, value: number): number {
  let k = key ^ (value | 0) ^ Math.imul((value / 4_294_967_296) | 0, 0x85ebca6b);
  k = Math.imul(k ^ (k >>> 16), 0x45d9f3b);
  return k ^ (k >>> 15);
}

export class AnswerMemory {
  readonly meanMs = new Float64Array(SETS * 2);
  readonly spreadMs = new Float64Array(SETS * 2);
  readonly p95Ms = new Float64Array(SETS * 2);
  readonly p99Ms = new Float64Array(SETS * 2);
  /** State of the node that the prediction rests on (SituationEncoder.stamp). */
  readonly stamp = new Float64Array(SETS * 2);
  readonly missingBytes = new Float64Array(SETS * 2);
  /** When it was answered, ms. */
  readonly atMs = new Float64Array(SETS * 2).fill(-Infinity);
  readonly #subject = new Int32Array(SETS * 2);
  readonly #function = new Int32Array(SETS * 2).fill(-1);
  /** Node × 8 + start state. */
  readonly #where = new Int32Array(SETS * 2);

  /** Place of the answer, or -1. `subject` is a subjectKey. */
  find(functionIndex: number, node: number, startState: number, subject: number): number {
    const where = node * 8 + startState;
    const at = this.#set(functionIndex, where, subject);
    if (this.#function[at] === functionIndex && this.#where[at] === where && this.#subject[at] === subject) return at;
    if (this.#function[at + 1] === functionIndex && this.#where[at + 1] === where && this.#subject[at + 1] === subject) return at + 1;
    return -1;
  }

  /** Place for an answer; the caller writes it. The older one of its set goes. */
  place(functionIndex: number, node: number, startState: number, subject: number): number {
    let at = this.find(functionIndex, node, startState, subject);
    if (at >= 0) return at;
    const where = node * 8 + startState;
    at = this.#set(functionIndex, where, subject);
    if ((this.atMs[at + 1] as number) < (this.atMs[at] as number)) at++;
    this.#function[at] = functionIndex;
    this.#where[at] = where;
    this.#subject[at] = subject;
    return at;
  }

  /** Forgets everything: another model answers now. */
  clear(): void {
    this.#function.fill(-1);
    this.atMs.fill(-Infinity);
  }

  #set(functionIndex: number, where: number, subject: number): number {
    let hash = Math.imul(functionIndex + 1, 0x9e3779b1) ^ Math.imul(where + 1, 0x85ebca77) ^ subject;
    hash ^= hash >>> 15;
    hash = Math.imul(hash, 0x2c1b3c6d);
    hash ^= hash >>> 13;
    return (hash & (SETS - 1)) * 2;
  }
}
