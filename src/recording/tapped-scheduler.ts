/**
 * A scheduler with a tap at its one seam: all its inputs, all that it reads because of them, and all that follows go to a recorder. The
 * scheduler itself is the very same and does not know. Replay answers at the same places (replay.ts).
 */
import type { Clock } from '../core/clock.ts';
import type { Reason } from '../core/reasons.ts';
import { POLICY_NAMES } from '../policy/registry.ts';
import type { PredictionRows, Predictor } from '../predictor/predictor.ts';
import { Scheduler, type SchedulerObserver, type SchedulerOptions, type Transport } from '../scheduler/scheduler.ts';
import { ANSWER_ROW, OP } from './facts.ts';
import { INPUTS, type InputName } from './inputs.ts';
import type { Recorder } from './recorder.ts';
import { REASON_NAMES } from './recording-head.ts';

const reasonNumbers = new Map<string, number>(REASON_NAMES.map((name, index) => [name, index]));
const policyNumbers = new Map<string, number>(POLICY_NAMES.map((name, index) => [name, index]));
const reasonNumber = (reason: Reason): number => reasonNumbers.get(reason) ?? -1;

/** Makes a scheduler whose inputs and outputs `recorder` is told of. */
export function createTappedScheduler(options: SchedulerOptions, recorder: Recorder): Scheduler {
  const scheduler = recorder.input(OP.begin, 0, () => new Scheduler({
    ...options,
    clock: tappedClock(options.clock, recorder),
    predictor: tappedPredictor(options.predictor, recorder),
    transport: tappedTransport(options.transport, recorder),
    observer: tappedObserver(options.observer, recorder),
  }));
  tapNodeTimes(scheduler, recorder);
  for (const name of INPUTS) tapInput(scheduler, name, recorder);
  return scheduler;
}

/** What the scheduler calls by itself, within an input, is no input. */
function tapInput(scheduler: Scheduler, name: InputName, recorder: Recorder): void {
  // One shape for all methods: the arguments are only passed on.
  const original = scheduler[name].bind(scheduler) as (...args: unknown[]) => unknown;
  const isSubmission = name === 'submit' || name === 'adopt';
  Object.defineProperty(scheduler, name, {
    value(...args: unknown[]): unknown {
      if (recorder.isInside) return original(...args);
      return recorder.call(name, args, () => {
        if (name === 'plan') {
          const answer = args[1] as (plan: unknown) => void; // the second argument of plan
          return original(args[0], (plan: unknown) => recorder.outside(() => answer(plan)));
        }
        const result = original(...args);
        if (isSubmission && recorder.isListening) recorder.tape.put2(OP.accepted, (result as { readonly seq: number } | undefined)?.seq ?? -1);
        return result;
      });
    },
  });
}

/** The one value of the shared node table that decisions rest on. Another thread writes it, so what was read counts. */
function tapNodeTimes({ cluster }: Scheduler, recorder: Recorder): void {
  const original = cluster.receivedAtMs.bind(cluster);
  cluster.receivedAtMs = (node) => {
    const ms = original(node);
    if (recorder.isListening) recorder.tape.put3(OP.heard, node, ms);
    return ms;
  };
}

function tappedClock(clock: Clock, recorder: Recorder): Clock {
  let timers = 0;
  return {
    nowMs() {
      const ms = clock.nowMs();
      if (recorder.isListening) recorder.tape.put2(OP.clock, ms);
      return ms;
    },
    setTimer(atMs, fire) {
      const timer = timers++;
      return clock.setTimer(atMs, () => recorder.input(OP.timer, timer, fire));
    },
    clearTimer: (handle) => clock.clearTimer(handle),
  };
}

function tappedPredictor(predictor: Predictor, recorder: Recorder): Predictor {
  const { tape } = recorder;
  return {
    name: predictor.name,
    excluded: predictor.excluded,
    predict(subject, rows, ticket) {
      const isThere = predictor.predict(subject, rows, ticket);
      if (recorder.isListening) {
        if (isThere) writeAnswer(rows, recorder);
        else tape.put1(OP.later);
      }
      return isThere;
    },
    listen: (ready) => predictor.listen((ticket) => recorder.input(OP.predicted, ticket, () => ready(ticket))),
    initialiseMs(functionIndex, startState) {
      const ms = predictor.initialiseMs(functionIndex, startState);
      if (recorder.isListening) tape.put2(OP.initialise, ms);
      return ms;
    },
    bytesPerMs(node) {
      const bytesPerMs = predictor.bytesPerMs(node);
      if (recorder.isListening) tape.put2(OP.bandwidth, bytesPerMs);
      return bytesPerMs;
    },
    observations(functionIndex) {
      const count = predictor.observations(functionIndex);
      if (recorder.isListening) tape.put2(OP.observations, count);
      return count;
    },
    dispatched: (subject, rows, row) => predictor.dispatched(subject, rows, row),
    attach: (source) => predictor.attach(source),
    functionPut: (functionIndex) => predictor.functionPut(functionIndex),
    functionDeleted: (functionIndex) => predictor.functionDeleted(functionIndex),
    observe: (observation) => predictor.observe(observation),
    exclude: (situation, why) => predictor.exclude(situation, why),
    accuracy: () => predictor.accuracy(),
  };
}

function writeAnswer(rows: PredictionRows, { tape }: Recorder): void {
  const { count, node, startState, source, missingBytes, meanMs, spreadMs, p95Ms, p99Ms } = rows;
  const from = tape.reserve(2 + count * ANSWER_ROW);
  if (from < 0) return;
  const { numbers } = tape;
  numbers[from] = OP.answer;
  numbers[from + 1] = count;
  for (let row = 0, at = from + 2; row < count; row++, at += ANSWER_ROW) {
    numbers[at] = (node[row] as number) * 16 + (startState[row] as number) * 2 + (source[row] as number);
    numbers[at + 1] = missingBytes[row] as number;
    numbers[at + 2] = meanMs[row] as number;
    numbers[at + 3] = spreadMs[row] as number;
    numbers[at + 4] = p95Ms[row] as number;
    numbers[at + 5] = p99Ms[row] as number;
  }
}

function tappedTransport(transport: Transport, recorder: Recorder): Transport {
  const { tape } = recorder;
  const { prewarm, evict } = transport;
  return {
    execute(invocation, node) {
      if (recorder.isListening) {
        tape.put2(OP.execute, invocation.seq);
        tape.put2(node, invocation.attempt);
      }
      recorder.outside(() => transport.execute(invocation, node));
    },
    cancel(invocation, node) {
      if (recorder.isListening) tape.put3(OP.cancel, invocation.seq, node);
      recorder.outside(() => transport.cancel(invocation, node));
    },
    ...(prewarm === undefined ? {} : { prewarm: (name: string, node: number, count: number) => wish(recorder, OP.prewarm, name, node, count, () => prewarm.call(transport, name, node, count)) }),
    ...(evict === undefined ? {} : { evict: (name: string, node: number, count: number) => wish(recorder, OP.evict, name, node, count, () => evict.call(transport, name, node, count)) }),
  };
}

function wish(recorder: Recorder, op: typeof OP.prewarm | typeof OP.evict, functionName: string, node: number, count: number, send: () => void): void {
  if (recorder.isListening) {
    recorder.tape.put3(op, node, count);
    recorder.tape.value(functionName);
  }
  recorder.outside(send);
}

function tappedObserver(observer: SchedulerObserver, recorder: Recorder): SchedulerObserver {
  const { tape } = recorder;
  return {
    transitioned(invocation, from, to, event) {
      if (recorder.isListening) {
        tape.put3(OP.transition, invocation.seq, from * 16 + to);
        tape.put2(reasonNumber(event.reason), invocation.node);
      }
      recorder.outside(() => observer.transitioned(invocation, from, to, event));
    },
    settled: (invocation) => recorder.outside(() => observer.settled(invocation)),
    nodeChanged: (node, status) => recorder.outside(() => observer.nodeChanged?.(node, status)),
    decided(invocation, policyName, candidates, decision) {
      if (recorder.isListening) {
        const { count, room, local } = candidates;
        const from = tape.reserve(9 + count);
        if (from >= 0) {
          const { numbers } = tape;
          numbers[from] = OP.decided;
          numbers[from + 1] = invocation.seq;
          numbers[from + 2] = policyNumbers.get(policyName) ?? -1;
          numbers[from + 3] = decision.action === 'dispatch' ? 1 : 0;
          numbers[from + 4] = reasonNumber(decision.reason);
          numbers[from + 5] = decision.row < 0 ? -1 : (candidates.node[decision.row] as number);
          numbers[from + 6] = decision.deadlineMs;
          numbers[from + 7] = decision.slackMs;
          numbers[from + 8] = count;
          for (let row = 0; row < count; row++) numbers[from + 9 + row] = (room[row] as number) * 2 + (local[row] as number);
        }
      }
      recorder.outside(() => observer.decided?.(invocation, policyName, candidates, decision));
    },
  };
}
