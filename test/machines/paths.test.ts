import { createActor, type AnyStateMachine, type EventObject } from 'xstate';
import { getShortestPaths } from 'xstate/graph';
import { describe, expect, it } from 'vitest';
import { compileMachine } from '../../machines/compile.ts';
import { invocationMachine } from '../../machines/invocation.ts';
import { modelMachine } from '../../machines/model.ts';
import { nodeMachine } from '../../machines/node.ts';
import { sandboxMachine } from '../../machines/sandbox.ts';
import { workflowMachine, type WorkflowEvent, type WorkflowLife } from '../../machines/workflow.ts';
import type { ErrorRecord } from '../../src/core/errors.ts';
import { ARRIVING, INVOCATION_STATES, type Invocation, type InvocationEvent, type InvocationHost } from '../../src/core/invocation.ts';
import { MACHINES } from '../../src/inspect/diagrams.ts';
import { outlineOf, type MachineEdge } from '../../src/inspect/mermaid.ts';
import { newInvocation, runResult } from './invocation-events.ts';

/** States that can be reached from `start` along `edges`. */
function reachable(edges: readonly MachineEdge[], start: string): Set<string> {
  const seen = new Set([start]);
  for (const state of seen) for (const { from, to } of edges) if (from === state && to !== undefined) seen.add(to);
  return seen;
}

/** Names of the states at the ends of the shortest paths that xstate finds with these events. */
function endsOfPaths(machine: AnyStateMachine, events: readonly EventObject[], input: unknown): Set<string> {
  const paths = getShortestPaths(machine, { events: [...events], input: input as never, serializeState: (snapshot) => JSON.stringify(snapshot.value) as never, limit: 10_000 });
  return new Set(paths.map(({ state }) => String(state.value)));
}

describe.each(MACHINES.map(({ machine }) => ({ id: machine.id, machine })))('the $id machine', ({ machine }) => {
  const { initial, states, edges } = outlineOf(machine);

  it('can be compiled', () => {
    expect(compileMachine(machine).states).toEqual(states.map(({ name }) => name));
  });

  it('describes every state', () => {
    for (const { name, description } of states) expect(description, name).toMatch(/^[A-Z].*\.$/);
  });

  it('can reach every state from its first one', () => {
    expect([...reachable(edges, initial)].sort()).toEqual(states.map(({ name }) => name).sort());
  });

  it('has no trap: from every state that is not final a final one can be reached, or else every other state', () => {
    const finals = states.filter(({ isFinal }) => isFinal).map(({ name }) => name);
    for (const { name, isFinal } of states) {
      if (isFinal) continue;
      const next = reachable(edges, name);
      if (finals.length > 0) expect(finals.some((final) => next.has(final)), `${name} is a trap`).toBe(true);
      else for (const other of states) if (other.name !== initial || edges.some(({ to }) => to === initial)) expect(next.has(other.name), `from ${name}, ${other.name} is lost`).toBe(true);
    }
  });

  it('leads nowhere from a final state', () => {
    for (const { name, isFinal } of states) if (isFinal) expect(edges.filter(({ from }) => from === name)).toEqual([]);
  });

  it('has an unconditional last branch wherever a guard stands before others', () => {
    const groups = Map.groupBy(edges, ({ from, event }) => `${from} ${event}`);
    for (const [place, branches] of groups) if (branches.length > 1) expect(branches.at(-1)?.guard, place).toBe('');
  });
});

const error = (code: ErrorRecord['code']): ErrorRecord => ({ code, message: code });
const invocationEvents: readonly InvocationEvent[] = [
  { type: 'PREDICTED', reason: 'predicted' },
  { type: 'DISPATCH', reason: 'noLocalNode', node: 1 },
  { type: 'DELAY', reason: 'waitForLocalNode', for: 'locality', node: 1 },
  { type: 'NODE_RELEASED', reason: 'localNodeReleased', node: 1 },
  { type: 'SLACK_EXHAUSTED', reason: 'slackExhausted', node: 1 },
  { type: 'SLACK_EXHAUSTED', reason: 'slackExhausted', node: -1 },
  { type: 'TARGET_LOST', reason: 'targetLost' },
  { type: 'CLASSIFY', reason: 'roomAppeared' },
  { type: 'STARTED', reason: 'started', startState: 4 },
  { type: 'RESULT', reason: 'completed', result: runResult() },
  { type: 'RESULT', reason: 'functionFailed', result: runResult('FUNCTION_FAILED') },
  { type: 'RESULT', reason: 'platformFailed', result: runResult('SANDBOX_FAILED') },
  { type: 'RESULT', reason: 'callerCancelled', result: runResult('CANCELLED') },
  { type: 'RESULT', reason: 'deadlineExceeded', result: runResult('FUNCTION_TIMEOUT') },
  { type: 'REJECTED', reason: 'rejectedByNode', error: error('NODE_FULL') },
  { type: 'NODE_LOST', reason: 'nodeLost', error: error('NODE_LOST') },
  { type: 'CANCEL', reason: 'callerCancelled', error: error('CANCELLED') },
  { type: 'EXPIRE', reason: 'deadlineExceeded', error: error('DEADLINE_EXCEEDED') },
  { type: 'FAIL', reason: 'functionDeleted', error: error('FUNCTION_NOT_FOUND') },
];
const silent = (): InvocationHost => ({ nowMs: 0, observer: { transitioned: () => {} } });

describe('paths', () => {
  it('of the invocation machine cover every state', () => {
    const ends = endsOfPaths(invocationMachine as unknown as AnyStateMachine, invocationEvents, newInvocation(silent(), { idempotent: true, maxAttempts: 2 }));
    expect([...ends].sort()).toEqual([...INVOCATION_STATES.slice(ARRIVING)].sort());
  });

  it('of the node machine cover every state', () => {
    const events = (['STATE_ARRIVED', 'SILENT', 'CONNECTION_LOST', 'SILENT_TOO_LONG', 'REGISTERED', 'DRAIN', 'RESTORE'] as const).map((type) => ({ type }));
    const ends = endsOfPaths(nodeMachine as unknown as AnyStateMachine, events, { node: 0, entered: () => {}, isHeard: () => true });
    expect([...ends].sort()).toEqual(outlineOf(nodeMachine as unknown as AnyStateMachine).states.map(({ name }) => name).sort());
  });

  it('of the sandbox and model machines cover every state', () => {
    const sandbox = endsOfPaths(sandboxMachine as unknown as AnyStateMachine, [{ type: 'READY' }, { type: 'INVOKED' }, { type: 'RETURNED', reusable: false } as EventObject, { type: 'STOPPED' }, { type: 'EXITED' }], { entered: () => {} });
    expect([...sandbox].sort()).toEqual(['busy', 'gone', 'idle', 'starting', 'stopping']);
    const model = endsOfPaths(modelMachine as unknown as AnyStateMachine, [{ type: 'HISTORY_SUFFICED' }, { type: 'VERSION_PUBLISHED' }, { type: 'UPDATE_DUE' }, { type: 'POOL_LOST' }, { type: 'POOL_RECOVERED' }], { entered: () => {} });
    expect([...model].sort()).toEqual(['bootstrapping', 'cold', 'degraded', 'serving', 'updating']);
  });

  it('to the end take two events from any waiting state of an invocation: cancelling is always possible', () => {
    const leads: readonly (readonly InvocationEvent[])[] = [[], [invocationEvents[0]!], [invocationEvents[0]!, invocationEvents[2]!]];
    for (const lead of leads) {
      const invocation: Invocation = newInvocation(silent());
      const actor = createActor(invocationMachine, { input: invocation });
      actor.start();
      for (const event of lead) actor.send(event);
      actor.send({ type: 'CANCEL', reason: 'callerCancelled', error: error('CANCELLED') });
      expect(actor.getSnapshot().status).toBe('done');
      expect(INVOCATION_STATES[invocation.state]).toBe('cancelled');
    }
  });
});

describe('a workflow run', () => {
  it.each([
    [{ type: 'STEP_FAILED', error: error('FUNCTION_FAILED') }, 'failed'],
    [{ type: 'CANCEL' }, 'cancelled'],
    [{ type: 'EXPIRE' }, 'timedOut'],
  ] as const satisfies readonly (readonly [WorkflowEvent, string])[])('that hears %j cancels its calls and ends as %s, whatever else is heard meanwhile', (first, end) => {
    const entered: string[] = [];
    const life: WorkflowLife = { cause: '', entered: (state) => void entered.push(state) };
    const actor = createActor(workflowMachine, { input: life });
    actor.start();
    actor.send(first);
    for (const event of [{ type: 'CANCEL' }, { type: 'EXPIRE' }, { type: 'STEP_FAILED', error: error('INTERNAL') }, { type: 'STEPS_COMPLETED' }, { type: 'CALLS_ENDED' }] as const) actor.send(event);
    expect(entered).toEqual(['cancelling', end]);
  });
});

describe('a sandbox', () => {
  it.each([[[]], [['READY']], [['READY', 'INVOKED']], [['STOPPED']]])('whose process ends after %j is gone', (events) => {
    const entered: string[] = [];
    const actor = createActor(sandboxMachine, { input: { entered: (state) => void entered.push(state) } });
    actor.start();
    for (const type of events) actor.send(type === 'STOPPED' ? { type, cause: 'evicted' } : { type: type as 'READY' | 'INVOKED' });
    actor.send({ type: 'EXITED', exitCode: undefined, signal: 'SIGKILL' });
    expect(entered.at(-1)).toBe('gone');
    expect(actor.getSnapshot().status).toBe('done');
  });

  it('serves again only when it said it can', () => {
    const entered: string[] = [];
    const actor = createActor(sandboxMachine, { input: { entered: (state) => void entered.push(state) } });
    actor.start();
    actor.send({ type: 'READY' });
    actor.send({ type: 'INVOKED' });
    actor.send({ type: 'RETURNED', reusable: true });
    actor.send({ type: 'INVOKED' });
    actor.send({ type: 'RETURNED', reusable: false });
    actor.send({ type: 'INVOKED' });
    expect(entered).toEqual(['idle', 'busy', 'idle', 'busy', 'stopping']);
  });
});

describe('the model', () => {
  it('goes on serving its old version when an update fails, and comes back from degraded', () => {
    const entered: string[] = [];
    const actor = createActor(modelMachine, { input: { entered: (state) => void entered.push(state) } });
    actor.start();
    actor.send({ type: 'HISTORY_SUFFICED' });
    actor.send({ type: 'TRAINING_FAILED', message: 'no rows' });
    actor.send({ type: 'HISTORY_SUFFICED' });
    actor.send({ type: 'VERSION_PUBLISHED', version: 1 });
    actor.send({ type: 'DRIFT_DETECTED' });
    actor.send({ type: 'TRAINING_FAILED', message: 'no rows' });
    actor.send({ type: 'PREDICTIONS_LATE' });
    actor.send({ type: 'UPDATE_DUE' });
    actor.send({ type: 'POOL_RECOVERED' });
    actor.send({ type: 'RESET' });
    expect(entered).toEqual(['bootstrapping', 'cold', 'bootstrapping', 'serving', 'updating', 'serving', 'degraded', 'serving', 'cold']);
  });
});
