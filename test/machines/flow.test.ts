import { describe, expect, it } from 'vitest';
import { edgesOf } from '../../machines/flow.ts';
import { createMachineHost, type Engine } from '../../machines/host.ts';
import { workflowMachine, type WorkflowEvent, type WorkflowLife } from '../../machines/workflow.ts';
import { MACHINES } from '../../src/inspect/diagrams.ts';
import { outlineOf } from '../../src/inspect/mermaid.ts';

describe('the flow of machines', () => {
  it.each(MACHINES.map(({ machine }) => ({ id: machine.id, machine })))('numbers states and edges of the $id machine as its diagram does', ({ machine }) => {
    const { states, edges } = outlineOf(machine);
    const names = states.map(({ name }) => name);
    expect(edgesOf(machine).map(({ from, to }) => [names[from], names[to]])).toEqual(edges.map(({ from, to }) => [from, to]));
  });

  it.each<Engine>(['table', 'xstate'])('counts who is where and which way it came, on engine %s', (engine) => {
    const host = createMachineHost<WorkflowLife, WorkflowEvent>(workflowMachine, engine);
    const start = () => host.start({ cause: '', entered() {} });
    const [done, cancelled] = [start(), start(), start()];
    done?.send({ type: 'STEPS_COMPLETED' });
    cancelled?.send({ type: 'CANCEL' });
    cancelled?.send({ type: 'CANCEL' }); // changes nothing
    cancelled?.send({ type: 'CALLS_ENDED' });
    const { states, edges } = outlineOf(workflowMachine);
    const counts = Object.fromEntries(states.map(({ name }, index) => [name, host.flow.counts[index]]));
    expect(counts).toEqual({ running: 1, cancelling: 0, completed: 1, failed: 0, cancelled: 1, timedOut: 0 });
    const taken = edges.flatMap(({ from, event, guard }, index) => (host.flow.taken[index] === 0 ? [] : [`${from} ${event} ${guard} ${host.flow.taken[index]}`]));
    expect(taken).toEqual(['running STEPS_COMPLETED  1', 'running CANCEL  1', 'cancelling CALLS_ENDED wasCancelled 1']);
  });
});
