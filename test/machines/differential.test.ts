import { createActor, type AnyActorLogic } from 'xstate';
import { describe, expect, it } from 'vitest';
import { compileMachine } from '../../machines/compile.ts';
import { createMachineHost, type Engine } from '../../machines/host.ts';
import { invocationMachine } from '../../machines/invocation.ts';
import { modelMachine, type ModelContext, type ModelEvent } from '../../machines/model.ts';
import { nodeMachine, type NodeContext, type NodeEvent } from '../../machines/node.ts';
import { sandboxMachine, type SandboxContext, type SandboxEvent } from '../../machines/sandbox.ts';
import { workflowMachine, type WorkflowEvent, type WorkflowLife } from '../../machines/workflow.ts';
import { isTerminal, type Invocation, type InvocationEvent, type InvocationHost } from '../../src/core/invocation.ts';
import { createRandom } from '../../src/core/random.ts';
import { newInvocation, randomEvent } from './invocation-events.ts';

const SEQUENCES = 8_000;
const LONGEST = 12;
const SEED = 20_260_101;
const ENGINES: readonly Engine[] = ['table', 'xstate'];

/** The record without what differs by nature (its host, its machine). */
function fieldsOf(invocation: Invocation): string {
  const { host: _host, machine: _machine, ...fields } = invocation;
  return JSON.stringify(fields, (_key, value: unknown) => (value === Infinity ? 'Infinity' : value instanceof Uint8Array ? value.length : value));
}

describe('compiled and interpreted machines', () => {
  it(`do the same to an invocation on ${SEQUENCES} random sequences of up to ${LONGEST} events`, () => {
    const hosts = ENGINES.map((engine) => createMachineHost<Invocation, InvocationEvent>(invocationMachine, engine));
    const reached = new Set<string>();
    let events = 0;
    for (let sequence = 0; sequence < SEQUENCES; sequence++) {
      const random = createRandom(SEED, sequence);
      const settings = { idempotent: random.below(2) === 0, maxAttempts: 1 + random.below(3) };
      const sides = hosts.map((host) => {
        const calls: string[] = [];
        const shared: InvocationHost = {
          nowMs: 1_000,
          observer: { transitioned: (invocation, from, to, event) => void calls.push(`${from}>${to} ${event.type} ${invocation.state} ${invocation.node} ${invocation.target} ${invocation.delayingFor}`) },
        };
        const invocation = newInvocation(shared, settings);
        return { calls, shared, invocation, machine: host.start(invocation) };
      });
      const [table, xstate] = sides as [(typeof sides)[0], (typeof sides)[0]];
      const length = 1 + random.below(LONGEST);
      for (let i = 0; i < length && !isTerminal(table.invocation.state); i++) {
        const stepMs = random.below(50);
        // The first events lead into the interesting states more often than chance would.
        const event: InvocationEvent = i === 0 && random.below(4) > 0 ? { type: 'PREDICTED', reason: 'predicted' } : randomEvent(random);
        for (const side of sides) {
          side.shared.nowMs += stepMs;
          side.machine.send(event);
        }
        events++;
        const place = `seed ${SEED}, sequence ${sequence}, event ${i} (${event.type})`;
        const value = String(table.machine.getSnapshot().value);
        reached.add(value);
        if (value !== xstate.machine.getSnapshot().value) expect.fail(`${place}: state ${value} instead of ${String(xstate.machine.getSnapshot().value)}`);
        if (table.machine.getSnapshot().status !== xstate.machine.getSnapshot().status) expect.fail(`${place}: another status`);
        if (fieldsOf(table.invocation) !== fieldsOf(xstate.invocation)) expect(fieldsOf(table.invocation), place).toBe(fieldsOf(xstate.invocation));
        if (table.calls.join('|') !== xstate.calls.join('|')) expect(table.calls, place).toEqual(xstate.calls);
      }
    }
    expect(events).toBeGreaterThan(SEQUENCES * 3);
    const [table, xstate] = hosts.map(({ flow }) => ({ counts: [...flow.counts], taken: [...flow.taken] }));
    expect(table).toEqual(xstate);
    expect(table?.counts.reduce((sum, count) => sum + count)).toBe(SEQUENCES);
    expect([...reached].sort()).toEqual(['arriving', 'cancelled', 'classified', 'completed', 'delaying', 'dispatched', 'failed', 'timedOut']);
  });

  /** Runs random sequences of `events` on both forms; `start` begins one life and writes what its callbacks hear into `calls`. */
  function compare<E extends { readonly type: string }>(events: readonly E[], sequences: number, start: (engine: Engine, calls: string[]) => { send(event: E): void; getSnapshot(): { readonly value: unknown; readonly status: string } }): Set<string> {
    const reached = new Set<string>();
    for (let sequence = 0; sequence < sequences; sequence++) {
      const random = createRandom(SEED + 1, sequence);
      const sides = ENGINES.map((engine) => {
        const calls: string[] = [];
        return { calls, machine: start(engine, calls) };
      });
      const [table, xstate] = sides as [(typeof sides)[0], (typeof sides)[0]];
      const length = 1 + random.below(LONGEST);
      for (let i = 0; i < length && table.machine.getSnapshot().status === 'active'; i++) {
        const event = events[random.below(events.length)]!;
        for (const side of sides) side.machine.send(event);
        const place = `seed ${SEED + 1}, sequence ${sequence}, event ${i} (${event.type})`;
        const now = table.machine.getSnapshot(), oracle = xstate.machine.getSnapshot();
        reached.add(String(now.value));
        if (now.value !== oracle.value || now.status !== oracle.status) expect.fail(`${place}: ${String(now.value)} ${now.status} instead of ${String(oracle.value)} ${oracle.status}`);
        if (table.calls.join('|') !== xstate.calls.join('|')) expect(table.calls, place).toEqual(xstate.calls);
      }
    }
    return reached;
  }

  it('do the same to a node', () => {
    const events: NodeEvent[] = (['STATE_ARRIVED', 'SILENT', 'CONNECTION_LOST', 'SILENT_TOO_LONG', 'REGISTERED', 'DRAIN', 'RESTORE'] as const).map((type) => ({ type }));
    const hosts = { table: createMachineHost<NodeContext, NodeEvent>(nodeMachine, 'table'), xstate: createMachineHost<NodeContext, NodeEvent>(nodeMachine, 'xstate') };
    const reached = compare(events, 2_000, (engine, calls) => hosts[engine].start({ node: 3, entered: (node, status) => calls.push(`${node}:${status}`), isHeard: () => calls.length % 2 === 0 }));
    expect(reached).toContain('lost');
  });

  it('do the same to a sandbox', () => {
    const events: SandboxEvent[] = [
      { type: 'READY' }, { type: 'INVOKED' }, { type: 'RETURNED', reusable: true }, { type: 'RETURNED', reusable: false }, { type: 'STOPPED', cause: 'evicted' }, { type: 'EXITED', exitCode: 1, signal: '' },
    ];
    const hosts = { table: createMachineHost<SandboxContext, SandboxEvent>(sandboxMachine, 'table'), xstate: createMachineHost<SandboxContext, SandboxEvent>(sandboxMachine, 'xstate') };
    const reached = compare(events, 2_000, (engine, calls) => hosts[engine].start({ entered: (state, event) => calls.push(`${state} by ${event.type}`) }));
    expect([...reached].sort()).toEqual(['busy', 'gone', 'idle', 'starting', 'stopping']);
  });

  it('do the same to a workflow run', () => {
    const events: WorkflowEvent[] = [{ type: 'STEPS_COMPLETED' }, { type: 'STEP_FAILED', error: { code: 'FUNCTION_FAILED', message: '' } }, { type: 'CANCEL' }, { type: 'EXPIRE' }, { type: 'CALLS_ENDED' }, { type: 'CALLS_ENDED' }, { type: 'CALLS_ENDED' }];
    const hosts = { table: createMachineHost<WorkflowLife, WorkflowEvent>(workflowMachine, 'table'), xstate: createMachineHost<WorkflowLife, WorkflowEvent>(workflowMachine, 'xstate') };
    const reached = compare(events, 2_000, (engine, calls) => {
      const life: WorkflowLife = { cause: '', entered: (state, event) => void calls.push(`${state} by ${event.type} for ${life.cause}`) };
      return hosts[engine].start(life);
    });
    expect([...reached].sort()).toEqual(['cancelled', 'cancelling', 'completed', 'failed', 'running', 'timedOut']);
  });

  it('do the same to the model', () => {
    const events: ModelEvent[] = [
      { type: 'HISTORY_SUFFICED' }, { type: 'SNAPSHOT_RESTORED', version: 1 }, { type: 'UPDATE_DUE' }, { type: 'DRIFT_DETECTED' }, { type: 'VERSION_PUBLISHED', version: 2 },
      { type: 'TRAINING_FAILED', message: '' }, { type: 'POOL_LOST' }, { type: 'PREDICTIONS_LATE' }, { type: 'POOL_RECOVERED' }, { type: 'RESET' },
    ];
    const hosts = { table: createMachineHost<ModelContext, ModelEvent>(modelMachine, 'table'), xstate: createMachineHost<ModelContext, ModelEvent>(modelMachine, 'xstate') };
    const reached = compare(events, 2_000, (engine, calls) => hosts[engine].start({ entered: (state, event) => calls.push(`${state} by ${event.type}`) }));
    expect([...reached].sort()).toEqual(['bootstrapping', 'cold', 'degraded', 'serving', 'updating']);
  });

  it('hand over in the middle of a life: the interpreter goes on from a compiled snapshot', () => {
    const logic = compileMachine<Invocation, { invocation: Invocation }, InvocationEvent>(invocationMachine);
    const host: InvocationHost = { nowMs: 0, observer: { transitioned: () => {} } };
    const invocation = newInvocation(host);
    const compiled = createActor(logic as AnyActorLogic, { input: invocation } as never);
    compiled.start();
    compiled.send({ type: 'PREDICTED', reason: 'predicted' });
    compiled.send({ type: 'DISPATCH', reason: 'noLocalNode', node: 2 });
    const { value, context } = compiled.getSnapshot() as unknown as { value: 'dispatched'; context: { invocation: Invocation } };
    const snapshot = invocationMachine.resolveState({ value, context });
    const actor = createActor(invocationMachine, { snapshot, input: invocation });
    actor.start();
    actor.send({ type: 'CANCEL', reason: 'callerCancelled', error: { code: 'CANCELLED', message: 'no more' } });
    actor.send({ type: 'NODE_LOST', reason: 'nodeLost', error: { code: 'NODE_LOST', message: 'gone' } });
    expect(actor.getSnapshot().value).toBe('cancelled');
    expect(invocation.error?.code).toBe('CANCELLED');
  });
});
