/** What a recording tells as a story: which functions and nodes there were, what arrived when, and what became of it. */
import { COMPLETED, type InputObject, INVOCATION_STATES } from '../core/invocation.ts';
import { MetronomeError } from '../core/errors.ts';
import { isPolicyName } from '../policy/registry.ts';
import { BY_FOREST } from '../predictor/predictor.ts';
import type { FunctionSettings } from '../scheduler/function-table.ts';
import type { NodeInfo } from '../scheduler/cluster-view.ts';
import { BelongingsOfNodes, type Belongings } from './belongings.ts';
import { FactCursor } from './cursor.ts';
import { isInput, type Fact, type Purpose } from './facts.ts';
import type { RecordedResult, RecordedSubmission } from './inputs.ts';
import type { RecordingReader } from './read-recording.ts';

/** Silences that are kept. */
const MOST_SILENCES = 100_000;
/** Arrivals that are kept in memory. */
const MOST_ARRIVALS = 1_000_000;

/** How an invocation ended. */
export interface RecordedOutcome {
  /** A terminal state. */
  readonly state: string;
  /** From arrival to end, ms. */
  readonly totalMs: number;
  /** From arrival to its last dispatch, ms; -1: it never was. */
  readonly untilDispatchMs: number;
  /** Name of the node that it was sent to last; '': none. */
  readonly node: string;
  /** COLD … WARM; 0: it did not run. */
  readonly startState: number;
  readonly fetchedMs: number;
  readonly initialisedMs: number;
  /** Part of initialisedMs: bringing code and packages to the node. */
  readonly installedMs: number;
  readonly ranMs: number;
  readonly fetchedBytes: number;
  readonly outputs: readonly InputObject[];
}

/** One request as it came in, and what became of it. */
export interface RecordedInvocation {
  readonly id: string;
  /** Since the recording began, ms. */
  readonly atMs: number;
  readonly functionName: string;
  /** θ, the function's if the request named none. */
  readonly slaMs: number;
  readonly inputs: readonly InputObject[];
  readonly inputBytes: number;
  readonly payloadBytes: number;
  readonly localityKey: string;
  readonly policyName: string;
  /** Time from arrival after which it is given up, ms; Infinity: never. */
  readonly expiresAfterMs: number;
  /** A step of a workflow run. */
  readonly purpose: Purpose | undefined;
  readonly place: { readonly stage: number; readonly predecessors: number; readonly fanOut: number } | undefined;
  /** Undefined: it lived on when the recording ended. */
  readonly outcome: RecordedOutcome | undefined;
}

/** A node of which nothing was heard for a while. */
export interface Silence {
  readonly node: number;
  readonly fromMs: number;
  readonly untilMs: number;
}

/** The story. */
export interface History {
  /** Ms since 1970; where earlier segments are gone, of what is left. */
  readonly startedAtMs: number;
  readonly durationMs: number;
  /** In force at the beginning. */
  readonly policy: string;
  /** As they were applied last, deleted ones included. */
  readonly functions: ReadonlyMap<string, FunctionSettings>;
  readonly nodes: readonly NodeInfo[];
  /** What nodes had before anything was sent to them: of the daemon's life before, or of another daemon. Nodes by place in `nodes`. */
  readonly atFirst: Belongings;
  /** A forest predicted among the first answers: it had learned before. */
  readonly beganTrained: boolean;
  /** When nodes (by place in `nodes`) were so silent that they counted as stale, ms: from the last state that came to the next. */
  readonly silences: readonly Silence[];
  /** When another policy was put in force. */
  readonly policyChanges: readonly { readonly atMs: number; readonly policy: string }[];
  readonly invocations: readonly RecordedInvocation[];
  /** Calls of submit that were refused. */
  readonly refused: number;
  readonly counts: { readonly entries: number; readonly decisions: number; readonly dispatches: number; readonly delays: number; readonly gaps: number; readonly missing: number };
  readonly policies: ReadonlyMap<string, number>;
  readonly end: 'inOrder' | 'cutOff';
}

type Open = { -readonly [K in keyof RecordedInvocation]: RecordedInvocation[K] } & { dispatchedAtMs: number; node: number; result: RecordedResult | undefined; };

/** Predictions among which a forest that had learned before shows; one that had not needs more executions than that. */
const FIRST_ANSWERS = 10;

const NO_RESULT = { startState: 0, fetchedMs: 0, initialisedMs: 0, installedMs: 0, ranMs: 0, fetchedBytes: 0, outputs: [] } as const;

/** Reads all of it. Throws STATE_CORRUPT for damage, INVALID_REQUEST for more than `most` invocations. */
export function readHistory(reader: RecordingReader, most = MOST_ARRIVALS): History {
  const { head } = reader;
  const functions = new Map<string, FunctionSettings>();
  const nodes = new Map<string, NodeInfo>();
  /** Names by the scheduler's numbers; it gives them in the order of registration. */
  const nodeNames: string[] = [];
  const invocations: Open[] = [];
  const bySeq = new Map<number, Open>(), byId = new Map<string, Open>();
  const policies = new Map<string, number>();
  const counts = { entries: 0, decisions: 0, dispatches: 0, delays: 0, gaps: 0, missing: 0 };
  let refused = 0, firstMs = 0, nowMs = 0;
  const { context } = head;
  const belongings = new BelongingsOfNodes(context?.belongings);
  let atFirst: Belongings | undefined;
  const { staleAfterMs } = head.scheduler;
  const silences: Silence[] = [], silent = new Map<number, number>();
  let isAwake = true;
  const policyChanges: { atMs: number; policy: string }[] = [];
  let answers = 0, beganTrained = false;
  let end: History['end'] = 'cutOff';
  let submission: RecordedSubmission | undefined;
  const noteNode = (info: NodeInfo): void => {
    if (!nodes.has(info.name)) nodeNames.push(info.name);
    nodes.set(info.name, info);
  };
  for (const settings of context?.functions ?? []) functions.set(settings.name, settings);
  for (const info of context?.nodes ?? []) noteNode(info);
  const cursor = new FactCursor(head, reader.blocks());
  for (let fact = cursor.next(); fact !== undefined; fact = cursor.next()) {
    if (isInput(fact)) {
      counts.entries++;
      submission = undefined;
    }
    switch (fact.kind) {
      case 'clock':
        isAwake = fact.ms - nowMs <= staleAfterMs;
        nowMs = fact.ms;
        if (firstMs === 0) firstMs = nowMs;
        break;
      case 'heard': {
        const { node, ms } = fact;
        const silentSinceMs = silent.get(node);
        if (silentSinceMs !== undefined && ms > silentSinceMs) {
          silent.delete(node);
          if (silences.length < MOST_SILENCES) silences.push({ node, fromMs: silentSinceMs - firstMs, untilMs: ms - firstMs });
        }
        // Where the scheduler itself slept, what nodes said meanwhile was still to be read.
        if (isAwake && ms > 0 && nowMs - ms > staleAfterMs) silent.set(node, ms);
        break;
      }
      case 'call': {
        const { name, args } = fact;
        // What the arguments are, keptArguments says.
        if (name === 'submit') submission = args[0] as RecordedSubmission;
        else if (name === 'putFunction') functions.set((args[0] as FunctionSettings).name, args[0] as FunctionSettings);
        else if (name === 'nodeRegistered') noteNode(args[0] as NodeInfo);
        else if (name === 'setPolicy') policyChanges.push({ atMs: nowMs - firstMs, policy: args[0] as string });
        else if (atFirst === undefined) belongings.noted(name, args);
        else if (name === 'result') {
          const open = byId.get(args[0] as string);
          if (open !== undefined) open.result = args[2] as RecordedResult;
        }
        break;
      }
      case 'gap':
        counts.gaps++;
        counts.missing += fact.entries;
        for (const settings of fact.context.functions) functions.set((settings as FunctionSettings).name, settings as FunctionSettings);
        for (const info of fact.context.nodes) noteNode(info as NodeInfo);
        break;
      case 'answer':
        if (++answers <= FIRST_ANSWERS && fact.rows.some(({ source }) => source === BY_FOREST)) beganTrained = true;
        break;
      case 'threw':
        if (submission !== undefined) refused++;
        break;
      case 'accepted': {
        if (submission === undefined) break;
        if (invocations.length >= most) throw new MetronomeError('INVALID_REQUEST', `The recording in ${reader.folder} holds more than ${most} invocations; record shorter stretches (recording.maxBytes).`);
        const { functionName, slaMs, inputs, payloadBytes = 0, localityKey, policyName, expiresAtMs, purpose, place } = submission;
        const existing = bySeq.get(fact.seq);
        const open: Open = existing ?? emptyOpen();
        Object.assign(open, {
          id: submission.id ?? head.scheduler.idPrefix + fact.seq.toString(36).padStart(6, '0'), functionName, slaMs: slaMs > 0 ? slaMs : (functions.get(functionName)?.slaMs ?? 0), inputs, inputBytes: inputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0), payloadBytes, localityKey, policyName,
          expiresAfterMs: expiresAtMs - nowMs, purpose, place, atMs: nowMs - firstMs,
        });
        invocations.push(open);
        bySeq.set(fact.seq, open);
        byId.set(open.id, open);
        if (open.outcome !== undefined) forget(fact.seq, open);
        break;
      }
      case 'decided':
        counts.decisions++;
        if (fact.action === 'delay') counts.delays++;
        policies.set(fact.policy, (policies.get(fact.policy) ?? 0) + 1);
        break;
      case 'execute': {
        counts.dispatches++;
        atFirst ??= belongings.now;
        const open = openOf(fact.seq);
        open.dispatchedAtMs = nowMs;
        open.node = fact.node;
        break;
      }
      case 'transition': {
        if (fact.to < COMPLETED) break;
        const open = openOf(fact.seq);
        const result = open.result ?? NO_RESULT;
        const arrivedAtMs = open.atMs + firstMs;
        open.outcome = {
          state: INVOCATION_STATES[fact.to] ?? String(fact.to), totalMs: nowMs - arrivedAtMs, untilDispatchMs: open.dispatchedAtMs === 0 ? -1 : open.dispatchedAtMs - arrivedAtMs, node: open.node < 0 ? '' : (nodeNames[open.node] ?? `node ${open.node}`),
          startState: result.startState, fetchedMs: result.fetchedMs, initialisedMs: result.initialisedMs, installedMs: result.installedMs, ranMs: result.ranMs, fetchedBytes: result.fetchedBytes, outputs: result.outputs,
        };
        if (open.id !== '') forget(fact.seq, open);
        break;
      }
      case 'end':
        end = 'inOrder';
        break;
      default:
        break;
    }
  }
  return {
    atFirst: atFirst ?? belongings.now, beganTrained, silences, policyChanges: policyChanges.filter(({ policy }) => isPolicyName(policy)),
    startedAtMs: context === undefined ? head.startedAtMs : firstMs, durationMs: nowMs - firstMs, policy: context?.policy ?? head.scheduler.policy, functions, nodes: [...nodes.values()], invocations: invocations.map(({ dispatchedAtMs: _d, node: _n, result: _r, ...kept }) => kept), refused, counts, policies, end,
  };

  /** Its first facts come before the one that says who it is. */
  function openOf(seq: number): Open {
    let open = bySeq.get(seq);
    if (open === undefined) {
      open = emptyOpen();
      open.atMs = nowMs - firstMs;
      bySeq.set(seq, open);
    }
    return open;
  }

  function forget(seq: number, open: Open): void {
    bySeq.delete(seq);
    byId.delete(open.id);
  }
}

function emptyOpen(): Open {
  return { id: '', atMs: 0, functionName: '', slaMs: 0, inputs: [], inputBytes: 0, payloadBytes: 0, localityKey: '', policyName: '', expiresAfterMs: Infinity, purpose: undefined, place: undefined, outcome: undefined, dispatchedAtMs: 0, node: -1, result: undefined };
}

/** All facts one after the other, with their entry and the time that was read last (ms since 1970). */
export function* factsOf(reader: RecordingReader): Generator<{ readonly entry: number; readonly atMs: number; readonly fact: Fact }, void, undefined> {
  const cursor = new FactCursor(reader.head, reader.blocks());
  let entry = -1, atMs = reader.head.startedAtMs;
  for (let fact = cursor.next(); fact !== undefined; fact = cursor.next()) {
    if (isInput(fact)) entry++;
    if (fact.kind === 'clock') atMs = fact.ms;
    yield { entry, atMs, fact };
  }
}
