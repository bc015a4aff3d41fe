/**
 * The predictor of the daemon: the loop's end of the pool. It writes feature rows into shared memory and reads predictions from there; it
 * walks no tree and waits for nothing. Three ways to an answer: from the memory of fresh answers, at once; from the pool, told to
 * the listener; from the moving averages, when there is no model yet or the pool is dead, late or full.
 */
import type { Clock, TimerHandle } from '../core/clock.ts';
import { AnswerMemory, subjectKey } from './answers.ts';
import { COLUMN } from './features.ts';
import type { Keys } from './model-keys.ts';
import { createMovingAveragePredictor } from './moving-average.ts';
import type { InferenceThreads } from './pool/inference-pool.ts';
import type { RingClient } from './pool/ring.ts';
import type { PredictionOut } from './model/model-view.ts';
import { ThreadHealth } from './pool/thread-health.ts';
import { BY_FOREST, NO_SITUATION, NO_TICKET, createPredictionRows, type Exclusion, type PredictionRows, type Predictor, type SituationSource, type Subject } from './predictor.ts';
import { SituationEncoder, SituationSlab } from './situations.ts';

/** Where observations go: a thread that trains. */
export interface TrainingLine {
  /** Takes a copy of the OBSERVATION_WIDTH numbers at `rows[offset]`; false when it finds no room. */
  observe(rows: Float64Array, offset: number): boolean;
  /** A run that must not teach; the function by its key. */
  exclude(functionKey: number, why: Exclusion): void;
  functionPut(functionIndex: number): void;
  functionDeleted(functionIndex: number): void;
}

/** What the predictor needs. */
export interface ForestPredictorOptions {
  readonly clock: Clock;
  readonly threads: InferenceThreads;
  readonly training: TrainingLine;
  /** Under which the model knows functions and nodes. @default their places */
  readonly keys?: Keys;
  /** An answer that takes longer is late: moving averages answer, ms. */
  readonly lateAfterMs: number;
  /** A thread that answers nothing for so long is replaced, ms. @default 2000 */
  readonly hangsAfterMs?: number;
  /** Told when the pool can be relied on (again), or no longer. */
  readonly poolChanged: (change: 'recovered' | 'late' | 'lost') => void;
  /** Told of a thread that is gone. */
  readonly threadLost?: (thread: number, error: Error) => void;
}

/** What became of the questions; counts since the start. */
export interface ForestCounters {
  /** Answered from memory, without the pool. */
  remembered: number;
  /** Given to the pool. */
  asked: number;
  /** Of these: answered in time. */
  inTime: number;
  /** Answered too late, or not at all before the bound. */
  late: number;
  /** Not given to the pool because its ring was full. */
  flooded: number;
  /** Asked of a thread that died. */
  lost: number;
  /** Answered by moving averages although there is a model. */
  degraded: number;
  /** Threads that were lost, and replaced because they hung. */
  threadsLost: number;
  threadsReplaced: number;
  /** Dispatches whose situation found no room. */
  situationsOverflowed: number;
}

/** Gets predictions: those of row r stand at first + r. Read at once. */
export type RowsAnswer = (results: PredictionOut | undefined, first: number, version: number) => void;

/** A predictor with a pool behind it. */
export interface ForestPredictor extends Predictor {
  /** True: the forest answers; false (at first): the moving averages do. */
  setServing(serving: boolean): void;
  /**
   * Predicts situations from elsewhere (the model service) in the pool: `count` rows of SITUATION_WIDTH numbers. False when nobody can answer now;
   * else `answer` is called once, with `version` 0 if the thread died over it.
   */
  predictRows(rows: Float64Array, count: number, answer: RowsAnswer): boolean;
  readonly isServing: boolean;
  /** Forgets what it remembers: another model answers from now on. */
  forgetAnswers(): void;
  /** Some thread answers in time. */
  readonly isPoolGood: boolean;
  /** What `poolChanged` said last: while threads change models the pool still counts as good. */
  readonly countsAsGood: boolean;
  /** Version of the model that answered last; 0: none. */
  readonly version: number;
  readonly counters: Readonly<ForestCounters>;
  /** Milliseconds from question to answer, the last ones, unsorted. */
  latencies(): Float64Array;
  stop(): void;
}

/** A remembered answer is as good as a new one while the node's state is the same, for so long. */
const FRESH_MS = 50;
/** An older answer is still better than an average, for so long. */
const KNOWN_MS = 30_000;
/** Who is looked at again makes the pool predict anew when the answer is older. */
const REFRESH_MS = 50;
const PROBE_EVERY_MS = 50;
/** A new thread has so long to load its code, ms. */
const STARTS_WITHIN_MS = 30_000;
/** Weight of a new answer in the ratio of forest to moving average, and its bounds. */
const RATIO_WEIGHT = 0.2;
const LEAST_RATIO = 0.1, GREATEST_RATIO = 10;
const LATENCIES = 1_024;
/** Places for counts of questions without an answer; a power of two. */
const OUTSTANDING = 4_096;

/** A question without an answer; one record per place in a ring, reused. */
interface Question {
  ticket: number;
  isProbe: boolean;
  isOver: boolean;
  functionIndex: number;
  subject: number;
  inputBytes: number;
  askedAtMs: number;
  answer: RowsAnswer | undefined;
}

/** What is known of one thread's ring. */
interface Desk {
  readonly health: ThreadHealth;
  readonly questions: Question[];
  readonly node: Int32Array;
  readonly startState: Uint8Array;
  readonly missingBytes: Float64Array;
  readonly stamp: Float64Array;
  /** Number of the oldest question without an answer. */
  oldest: number;
  /** And behind the newest one. */
  next: number;
  /** It answered something: its code is loaded. */
  hasAnswered: boolean;
  /** It hung and is being replaced. */
  isGivenUp: boolean;
}

/** Makes it. `threads` and `training` are the caller's to stop. */
export function createForestPredictor(options: ForestPredictorOptions): ForestPredictor {
  const { clock, threads, training, lateAfterMs, poolChanged } = options;
  const hangsAfterMs = options.hangsAfterMs ?? 2_000;
  const fallback = createMovingAveragePredictor();
  const encoder = new SituationEncoder(options.keys);
  const slab = new SituationSlab(options.keys);
  const memory = new AnswerMemory();
  const desks = Array.from({ length: threads.count }, (): Desk => ({ health: new ThreadHealth(), questions: [], node: new Int32Array(0), startState: new Uint8Array(0), missingBytes: new Float64Array(0), stamp: new Float64Array(0), oldest: 0, next: 0, hasAnswered: false, isGivenUp: false }));
  const counters: ForestCounters = { remembered: 0, asked: 0, inTime: 0, late: 0, flooded: 0, lost: 0, degraded: 0, threadsLost: 0, threadsReplaced: 0, situationsOverflowed: 0 };
  const latencies = new Float64Array(LATENCIES);
  let latencyCount = 0;
  /** Forest divided by moving average, per function: what an average is scaled with where the forest has not answered. */
  let ratios = new Float64Array(64).fill(1);
  let places = new Int32Array(64);
  /** Questions without an answer, by subject; two that fall into one place only make the second wait. */
  const outstanding = new Uint16Array(OUTSTANDING);
  const placeOf = (functionIndex: number, subject: number): number => (Math.imul(functionIndex + 1, 0x9e3779b1) ^ subject) & (OUTSTANDING - 1);
  const countAsked = (functionIndex: number, subject: number, by: 1 | -1): void => {
    const place = placeOf(functionIndex, subject);
    outstanding[place] = (outstanding[place] as number) + by;
  };
  const one = createPredictionRows(1);
  let listener: (ticket: number) => void = () => {};
  let serving = false;
  let wasGood = false;
  let version = 0;
  let stopped = false;
  let watch: TimerHandle;
  let watchAtMs = Infinity;

  const isPoolGood = (): boolean => desks.some(({ health }) => health.isGood);
  const verdict = (why: 'late' | 'lost'): void => {
    const good = isPoolGood();
    // Whoever failed is probed from now on.
    watchUntil(clock.nowMs() + PROBE_EVERY_MS);
    if (good === wasGood) return;
    wasGood = good;
    poolChanged(good ? 'recovered' : why);
  };

  // ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The good thread with the least to do; -1: none. */
  const bestThread = (): number => {
    let best = -1, least = Infinity;
    for (let thread = 0; thread < desks.length; thread++) {
      const ring = threads.ring(thread);
      if (ring === undefined || threads.isRetiring(thread) || !(desks[thread] as Desk).health.isGood || ring.takenRows >= least) continue;
      best = thread;
      least = ring.takenRows;
    }
    return best;
  };

  const note = (desk: Desk, ring: RingClient, request: number, ticket: number, isProbe: boolean, functionIndex: number, subject: number, inputBytes: number): void => {
    const question = desk.questions[request & (ring.shape.requests - 1)] as Question;
    question.ticket = ticket;
    question.isProbe = isProbe;
    question.isOver = false;
    question.functionIndex = functionIndex;
    question.subject = subject;
    question.inputBytes = inputBytes;
    question.answer = undefined;
    question.askedAtMs = clock.nowMs();
    desk.next = (request + 1) | 0;
    watchUntil(question.askedAtMs + lateAfterMs);
  };

  /** Gives all rows to a thread. False when none is good or its ring is full. */
  const ask = (subject: Subject, key: number, rows: PredictionRows, ticket: number): boolean => {
    const thread = bestThread();
    const ring = thread < 0 ? undefined : threads.ring(thread);
    if (ring === undefined) return false;
    const desk = desks[thread] as Desk;
    const { count } = rows;
    // Who does not wait takes no room from those who do.
    const first = ticket === NO_TICKET && ring.takenRows * 2 > ring.shape.rows ? -1 : ring.reserve(count);
    if (first < 0) {
      if (ticket !== NO_TICKET) {
        counters.flooded++;
        if (desk.health.noted(true)) verdict('late');
      }
      return false;
    }
    const { features, shape } = ring;
    encoder.begin(subject);
    for (let row = 0, at = first, offset = first * shape.width; row < count; row++, at++, offset += shape.width) {
      encoder.write(subject, rows, row, features, offset);
      const node = rows.node[row] as number;
      desk.node[at] = node;
      desk.startState[at] = rows.startState[row] as number;
      desk.missingBytes[at] = rows.missingBytes[row] as number;
      desk.stamp[at] = encoder.stamp(node);
    }
    note(desk, ring, ring.commit(count), ticket, false, subject.functionIndex, key, subject.inputBytes);
    countAsked(subject.functionIndex, key, 1);
    threads.asked(thread);
    counters.asked++;
    return true;
  };

  const probe = (thread: number): void => {
    const desk = desks[thread] as Desk;
    const ring = threads.ring(thread);
    if (ring === undefined || threads.isRetiring(thread) || desk.oldest !== desk.next) return;
    const first = ring.reserve(1);
    if (first < 0) return;
    ring.features.fill(0, first * ring.shape.width, (first + 1) * ring.shape.width);
    note(desk, ring, ring.commit(1), NO_TICKET, true, -1, 0, 0);
    threads.asked(thread);
  };

  // ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────

  const remember = (desk: Desk, question: Question, ring: RingClient, first: number, count: number, now: number): void => {
    const { functionIndex, subject } = question;
    const { meanMs, spreadMs, p95Ms, p99Ms } = ring.results;
    for (let at = first; at < first + count; at++) {
      const place = memory.place(functionIndex, desk.node[at] as number, desk.startState[at] as number, subject);
      memory.meanMs[place] = meanMs[at] as number;
      memory.spreadMs[place] = spreadMs[at] as number;
      memory.p95Ms[place] = p95Ms[at] as number;
      memory.p99Ms[place] = p99Ms[at] as number;
      memory.stamp[place] = desk.stamp[at] as number;
      memory.missingBytes[place] = desk.missingBytes[at] as number;
      memory.atMs[place] = now;
    }
    // One row says how far the averages are off for this function.
    one.count = 1;
    one.node[0] = desk.node[first] as number;
    one.startState[0] = desk.startState[first] as number;
    one.missingBytes[0] = desk.missingBytes[first] as number;
    asked.functionIndex = functionIndex;
    asked.inputBytes = question.inputBytes;
    fallback.predict(asked, one, NO_TICKET);
    if (functionIndex >= ratios.length) {
      const grown = new Float64Array(Math.max(functionIndex + 1, ratios.length * 2)).fill(1);
      grown.set(ratios);
      ratios = grown;
    }
    const ratio = Math.min(GREATEST_RATIO, Math.max(LEAST_RATIO, (meanMs[first] as number) / Math.max(1e-3, one.meanMs[0] as number)));
    ratios[functionIndex] = (ratios[functionIndex] as number) + RATIO_WEIGHT * (ratio - (ratios[functionIndex] as number));
  };
  const asked = { functionIndex: 0, inputBytes: 0, inputs: [], payloadBytes: 0, stage: 0, predecessors: 0, fanOut: 1 };

  const answered = (thread: number): void => {
    const ring = threads.ring(thread);
    if (ring === undefined || stopped) return;
    const desk = desks[thread] as Desk;
    const now = clock.nowMs();
    ring.drain((request, first, count, answeredBy) => {
      const question = desk.questions[request & (ring.shape.requests - 1)] as Question;
      desk.oldest = (request + 1) | 0;
      desk.hasAnswered = true;
      const tookMs = now - question.askedAtMs;
      const late = tookMs > lateAfterMs;
      if (question.isProbe) {
        if (desk.health.probed(late)) verdict('late');
        return;
      }
      if (question.answer !== undefined) {
        question.answer(ring.results, first, answeredBy);
        question.answer = undefined;
        return;
      }
      countAsked(question.functionIndex, question.subject, -1);
      // What a model says that is being replaced is not kept: the next one may have other keys.
      if (answeredBy > 0 && !threads.isRetiring(thread)) {
        version = answeredBy;
        remember(desk, question, ring, first, count, now);
      }
      latencies[latencyCount++ % LATENCIES] = tookMs;
      if (question.isOver) return; // its listener was told when it became late
      question.isOver = true;
      // An answer that is here is used, however long it took; the next ones are what lateness is about.
      if (question.ticket !== NO_TICKET && desk.health.noted(late)) verdict('late');
      if (late) counters.late++;
      else counters.inTime++;
      if (question.ticket !== NO_TICKET) listener(question.ticket);
    });
  };

  const lost = (thread: number, ring: RingClient, error: Error | undefined): void => {
    const desk = desks[thread] as Desk;
    desk.health.failed();
    if (error !== undefined) {
      counters.threadsLost++;
      options.threadLost?.(thread, error);
    }
    // A change of models is no loss: the next thread has loaded its code in a moment, and averages answer for so long.
    if (error === undefined) watchUntil(clock.nowMs() + PROBE_EVERY_MS);
    else verdict('lost');
    const tickets: number[] = [];
    for (; desk.oldest !== desk.next; desk.oldest = (desk.oldest + 1) | 0) {
      const question = desk.questions[desk.oldest & (ring.shape.requests - 1)] as Question;
      if (!question.isProbe && question.answer === undefined) countAsked(question.functionIndex, question.subject, -1);
      question.answer?.(undefined, 0, 0);
      question.answer = undefined;
      if (question.isProbe || question.isOver) continue;
      question.isOver = true;
      counters.lost++;
      if (question.ticket !== NO_TICKET) tickets.push(question.ticket);
    }
    for (const ticket of tickets) listener(ticket);
  };

  const started = (thread: number, ring: RingClient): void => {
    const { rows, requests } = ring.shape;
    const desk: Desk = {
      health: new ThreadHealth(), node: new Int32Array(rows), startState: new Uint8Array(rows), missingBytes: new Float64Array(rows), stamp: new Float64Array(rows), oldest: 0, next: 0, hasAnswered: false, isGivenUp: false,
      questions: Array.from({ length: requests }, () => ({ ticket: NO_TICKET, isProbe: false, isOver: true, functionIndex: -1, subject: 0, inputBytes: 0, askedAtMs: 0, answer: undefined })),
    };
    desks[thread] = desk;
    probe(thread);
  };

  // ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

  const watchUntil = (atMs: number): void => {
    if (atMs >= watchAtMs || stopped) return;
    if (watch !== undefined) clock.clearTimer(watch);
    watchAtMs = atMs;
    watch = clock.setTimer(atMs, look);
  };

  /** Questions over the bound get their listeners told; threads that hang are replaced; those that failed are probed. */
  const look = (): void => {
    watch = undefined;
    watchAtMs = Infinity;
    if (stopped) return;
    let next = Infinity;
    for (let thread = 0; thread < desks.length; thread++) {
      // Answers may be here that this turn has not come to yet.
      answered(thread);
      const desk = desks[thread] as Desk;
      const ring = threads.ring(thread);
      if (ring === undefined) continue;
      const now = clock.nowMs();
      const mask = ring.shape.requests - 1;
      for (let request = desk.oldest; request !== desk.next; request = (request + 1) | 0) {
        const question = desk.questions[request & mask] as Question;
        const dueAtMs = question.askedAtMs + lateAfterMs;
        if (dueAtMs > now) {
          next = Math.min(next, dueAtMs);
          break;
        }
        if (question.isOver || question.isProbe) continue;
        question.isOver = true;
        counters.late++;
        if (question.ticket === NO_TICKET) continue;
        if (desk.health.noted(true)) verdict('late');
        listener(question.ticket);
      }
      if (desk.oldest !== desk.next && !desk.isGivenUp) {
        const hangsAtMs = (desk.questions[desk.oldest & mask] as Question).askedAtMs + (desk.hasAnswered ? hangsAfterMs : STARTS_WITHIN_MS);
        if (hangsAtMs <= now) {
          counters.threadsReplaced++;
          // Everybody who waited has been told; rows of the service are told by the loss that follows.
          desk.isGivenUp = true;
          threads.replace(thread);
        } else next = Math.min(next, Math.max(now + PROBE_EVERY_MS, Math.min(hangsAtMs, now + 10 * PROBE_EVERY_MS)));
      }
      if (!desk.health.isGood) {
        probe(thread);
        next = Math.min(next, now + PROBE_EVERY_MS);
      }
    }
    if (next < Infinity) watchUntil(next);
  };

  threads.listen({ answered, lost, started });
  for (let thread = 0; thread < threads.count; thread++) {
    const ring = threads.ring(thread);
    if (ring !== undefined) started(thread, ring);
  }

  // ── the predictor ───────────────────────────────────────────────────────────────────────────────────────────────

  /** Rows from memory where they are known, from scaled averages elsewhere. */
  const fill = (subject: Subject, rows: PredictionRows, unknown: number): void => {
    const { meanMs, spreadMs, p95Ms, p99Ms, source, count } = rows;
    if (unknown > 0) {
      fallback.predict(subject, rows, NO_TICKET);
      const ratio = ratios[subject.functionIndex] ?? 1;
      for (let row = 0; row < count; row++) {
        if ((places[row] as number) >= 0) continue;
        meanMs[row] = (meanMs[row] as number) * ratio;
        spreadMs[row] = (spreadMs[row] as number) * ratio;
        p95Ms[row] = (p95Ms[row] as number) * ratio;
        p99Ms[row] = (p99Ms[row] as number) * ratio;
      }
    }
    for (let row = 0; row < count; row++) {
      const place = places[row] as number;
      if (place < 0) continue;
      meanMs[row] = memory.meanMs[place] as number;
      spreadMs[row] = memory.spreadMs[place] as number;
      p95Ms[row] = memory.p95Ms[place] as number;
      p99Ms[row] = memory.p99Ms[place] as number;
      source[row] = BY_FOREST;
    }
  };

  return {
    name: 'forest',
    predict(subject, rows, ticket) {
      const { count, node, startState, missingBytes } = rows;
      if (!serving || count === 0) return fallback.predict(subject, rows, ticket);
      const now = encoder.nowMs;
      const key = subjectKey(subject);
      if (places.length < count) places = new Int32Array(Math.max(count, places.length * 2));
      let unknown = 0, stale = 0, oldestMs = now;
      for (let row = 0; row < count; row++) {
        let place = memory.find(subject.functionIndex, node[row] as number, startState[row] as number, key);
        if (place >= 0) {
          const atMs = memory.atMs[place] as number;
          if (now - atMs > KNOWN_MS || memory.missingBytes[place] !== missingBytes[row]) place = -1;
          else {
            if (now - atMs > FRESH_MS || memory.stamp[place] !== encoder.stamp(node[row] as number)) stale++;
            if (atMs < oldestMs) oldestMs = atMs;
          }
        }
        places[row] = place;
        if (place < 0) unknown++;
      }
      if (ticket === NO_TICKET) {
        // One without an answer is enough: asked again, a pool that is late already would have twice the work.
        const isAsked = (outstanding[placeOf(subject.functionIndex, key)] as number) > 0;
        if (!isAsked && (unknown > 0 || (stale > 0 && now - oldestMs > REFRESH_MS))) ask(subject, key, rows, NO_TICKET);
      } else if (unknown === 0 && stale === 0) counters.remembered++;
      else if (ask(subject, key, rows, ticket)) return false;
      else counters.degraded++;
      fill(subject, rows, unknown);
      return true;
    },
    listen: (ready) => void (listener = ready),
    attach(source: SituationSource) {
      encoder.attach(source);
      fallback.attach(source);
    },
    functionPut: (functionIndex) => training.functionPut(functionIndex),
    functionDeleted(functionIndex) {
      fallback.functionDeleted(functionIndex);
      training.functionDeleted(functionIndex);
    },
    dispatched(subject, rows, row) {
      const handle = slab.keep(encoder, subject, rows, row);
      counters.situationsOverflowed = slab.overflowed;
      return handle;
    },
    observe(observation) {
      fallback.observe(observation);
      const { situation } = observation;
      if (situation === NO_SITUATION) return;
      slab.complete(situation, observation);
      training.observe(slab.rows, slab.offset(situation));
      slab.release(situation);
    },
    exclude(situation, why) {
      fallback.exclude(situation, why);
      if (situation === NO_SITUATION) return;
      training.exclude(slab.rows[slab.offset(situation) + COLUMN.functionIndex] as number, why);
      slab.release(situation);
    },
    excluded: fallback.excluded,
    initialiseMs: (functionIndex, startState) => fallback.initialiseMs(functionIndex, startState),
    bytesPerMs: (node) => fallback.bytesPerMs(node),
    observations: (functionIndex) => fallback.observations(functionIndex),
    accuracy: () => fallback.accuracy(),
    predictRows(rows, count, answer) {
      const thread = serving ? bestThread() : -1;
      const ring = thread < 0 ? undefined : threads.ring(thread);
      const first = ring?.reserve(count) ?? -1;
      if (ring === undefined || first < 0) return false;
      const { width, requests } = ring.shape;
      ring.features.set(rows.subarray(0, count * width), first * width);
      const desk = desks[thread] as Desk;
      const request = ring.commit(count);
      note(desk, ring, request, NO_TICKET, false, -1, 0, 0);
      const question = desk.questions[request & (requests - 1)] as Question;
      question.answer = answer;
      question.isOver = true; // nobody is told when it is late
      threads.asked(thread);
      return true;
    },
    forgetAnswers: () => memory.clear(),
    setServing(value) {
      if (value && !serving) memory.clear();
      serving = value;
    },
    get isServing() {
      return serving;
    },
    get isPoolGood() {
      return isPoolGood();
    },
    get countsAsGood() {
      return wasGood;
    },
    get version() {
      return version;
    },
    counters,
    latencies: () => latencies.slice(0, Math.min(latencyCount, LATENCIES)),
    stop() {
      stopped = true;
      if (watch !== undefined) clock.clearTimer(watch);
    },
  };
}
