/** Whatever the graph and whatever the order of completions: each step runs once per element, after its predecessors, and the run ends once. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WorkflowSpec } from '../../src/rpc/gen/metronome/v1/workflow.ts';
import { findCycle, terminalSteps } from '../../src/workflow/graph.ts';
import { MAX_CALLS_PER_STEP, createWorkflowRun, type StepCall, type WorkflowOutcome, type WorkflowRun } from '../../src/workflow/run.ts';

/** Edges only from earlier to later steps, then the steps are listed in any order. */
const dags = fc
  .array(fc.record({ links: fc.array(fc.nat(), { maxLength: 4 }), forEach: fc.constantFrom('', '', 'objects', 'payload'), width: fc.nat({ max: 4 }), key: fc.nat() }), { minLength: 1, maxLength: 12 })
  .map((drafts) =>
    drafts
      .map(({ links, forEach, width, key }, i) => {
        const after = i === 0 ? [] : [...new Set(links.map((link) => `s${link % i}`))];
        // After several steps the payload is an object, which cannot be fanned out over.
        return { name: `s${i}`, after, forEach: forEach === 'payload' && after.length !== 1 ? 'objects' : forEach, width, key };
      })
      .sort((a, b) => a.key - b.key),
  )
  .filter(staysInBounds);

/** No step may get more calls or inputs than a run allows: what happens then is tested by hand. */
function staysInBounds(steps: readonly { readonly name: string; readonly after: readonly string[]; readonly width: number }[]): boolean {
  const made = new Map<string, { readonly calls: number; readonly outputs: number }>();
  return steps.toSorted((a, b) => Number(a.name.slice(1)) - Number(b.name.slice(1))).every(({ name, after, width }) => {
    const before = after.map((other) => made.get(other) ?? { calls: 0, outputs: 0 });
    const inputs = before.reduce((sum, { outputs }) => sum + outputs, 0);
    const calls = Math.max(4, inputs, ...before.map((other) => other.calls));
    made.set(name, { calls, outputs: calls * width });
    return calls <= MAX_CALLS_PER_STEP;
  });
}

describe('a workflow run on random graphs', () => {
  it.each([['later', false], ['inside submit', true]] as const)('is orderly when calls complete %s', (_name, isAtOnce) => {
    fc.assert(
      fc.property(dags, fc.array(fc.nat(), { minLength: 1, maxLength: 50 }), (steps, choices) => {
        const spec = WorkflowSpec.fromPartial({ name: 'w', slaMs: 1, timeoutMs: 1, steps: steps.map(({ name, after, forEach }) => ({ name, function: `f-${name}`, after, forEach })) });
        const widthOf = new Map(steps.map(({ name, width }) => [name, width]));
        const open: StepCall[] = [];
        const started = new Map<string, StepCall[]>();
        const completed = new Map<string, Set<number>>();
        const ends: WorkflowOutcome[] = [];
        const isDone = (name: string): boolean => {
          const calls = started.get(name) ?? [];
          // A step without calls is done as soon as its own predecessors are.
          if (calls.length === 0) return (steps.find((step) => step.name === name)?.after ?? []).every(isDone) && spec.steps.find((step) => step.name === name)?.forEach !== '';
          return completed.get(name)?.size === calls[0]?.count;
        };
        const finish = (call: StepCall): void => {
          let seen = completed.get(call.step);
          if (seen === undefined) completed.set(call.step, (seen = new Set()));
          expect(seen.has(call.index)).toBe(false);
          seen.add(call.index);
          // Every call returns as many elements and objects as its step is wide.
          const names = Array.from({ length: widthOf.get(call.step) ?? 0 }, (_, i) => `${call.label}/${i}`);
          const outputs = names.map((id) => ({ id, sizeBytes: 1, digest: '', holders: [], name: id }));
          expect(run.stepCompleted(call.call, { payload: Buffer.from(JSON.stringify(names)), contentType: 'application/json', outputs })).toBe(true);
        };
        const run: WorkflowRun = createWorkflowRun({
          id: 'r', spec, payload: Buffer.from('[1,2]'), contentType: 'application/json', inputs: [], slaMs: 0, arrivedAtMs: 0, deadlineAtMs: 0, nowMs: () => 0,
          cancelCall: () => expect.unreachable('nothing fails here'),
          onEnd: (outcome) => void ends.push(outcome),
          submit: (call) => {
            expect(ends).toEqual([]);
            for (const name of spec.steps.find((step) => step.name === call.step)?.after ?? []) expect(isDone(name), `${call.label} before ${name} was done`).toBe(true);
            started.set(call.step, [...(started.get(call.step) ?? []), call]);
            if (isAtOnce) finish(call);
            else open.push(call);
          },
        });
        run.start();
        for (let i = 0; open.length > 0; i++) {
          expect(ends).toEqual([]);
          const [call] = open.splice((choices[i % choices.length] ?? 0) % open.length, 1);
          if (call !== undefined) finish(call);
        }

        expect(ends.map(({ kind }) => kind)).toEqual(['completed']);
        for (const step of spec.steps) {
          const calls = started.get(step.name) ?? [];
          expect(calls.map(({ index }) => index)).toEqual(calls.map((_, i) => i));
          for (const call of calls) expect(call.count).toBe(calls.length);
          if (step.forEach === '') expect(calls).toHaveLength(1);
          else {
            const before = step.after.flatMap((name) => (started.get(name) ?? []).map(() => widthOf.get(name) ?? 0));
            const [only] = step.after;
            const predecessor = spec.steps.find(({ name }) => name === only);
            // Over objects: all that the predecessors made. Over the payload: of one call its elements, of a fan-out one element for each call.
            const expected = step.forEach === 'objects' ? before.reduce((sum, width) => sum + width, 0) : predecessor?.forEach === '' ? (widthOf.get(only ?? '') ?? 0) : (started.get(only ?? '') ?? []).length;
            expect(calls).toHaveLength(expected);
          }
        }
        const numbers = [...started.values()].flat().map(({ call }) => call).sort((a, b) => a - b);
        expect(numbers).toEqual(numbers.map((_, i) => i));
        expect(run.progress().every(({ state, completed: done, count }) => state === 'completed' && done === count)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('ends exactly once and cancels exactly what was under way when a call fails or the run is cancelled at any moment', () => {
    fc.assert(
      fc.property(dags, fc.array(fc.nat(), { minLength: 1, maxLength: 30 }), fc.nat({ max: 20 }), fc.boolean(), (steps, choices, when, byCancel) => {
        const spec = WorkflowSpec.fromPartial({ name: 'w', slaMs: 1, timeoutMs: 1, steps: steps.map(({ name, after, forEach }) => ({ name, function: 'f', after, forEach })) });
        const open = new Set<number>();
        let ends = 0;
        const run = createWorkflowRun({
          id: 'r', spec, payload: Buffer.from('[1,2,3]'), contentType: '', inputs: [], slaMs: 0, arrivedAtMs: 0, deadlineAtMs: 0, nowMs: () => 0,
          submit: ({ call }) => void open.add(call),
          cancelCall: (call) => expect(open.delete(call)).toBe(true),
          onEnd: () => void ends++,
        });
        run.start();
        for (let i = 0; ends === 0 && open.size > 0; i++) {
          const call = [...open][(choices[i % choices.length] ?? 0) % open.size] ?? -1;
          if (i < when) {
            open.delete(call);
            run.stepCompleted(call, { payload: Buffer.from('["x","y"]'), contentType: '', outputs: [{ id: `o${call}`, sizeBytes: 0, digest: '', holders: [], name: '' }] });
          } else if (byCancel) {
            run.cancel();
          } else {
            open.delete(call);
            run.stepFailed(call, { code: 'FUNCTION_CRASHED', message: 'gone' });
          }
        }
        expect(ends).toBe(1);
        expect(run.hasEnded).toBe(true);
        expect(open.size).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});

describe('findCycle', () => {
  it('finds none in an acyclic graph, in any order of the steps', () => {
    fc.assert(fc.property(dags, (steps) => findCycle(steps) === undefined));
  });

  it('finds one as soon as an edge closes a path, and what it names is a cycle', () => {
    fc.assert(
      fc.property(dags, fc.nat(), (steps, pick) => {
        const withEdge = steps.filter(({ after }) => after.length > 0);
        const step = withEdge[pick % Math.max(1, withEdge.length)];
        const [earlier] = step?.after ?? [];
        if (step === undefined || earlier === undefined) return;
        const closed = steps.map(({ name, after }) => ({ name, after: name === earlier ? [...after, step.name] : after }));
        const cycle = findCycle(closed) ?? [];
        expect(cycle.length).toBeGreaterThan(1);
        expect(cycle[0]).toBe(cycle.at(-1));
        // Each of them comes after the one before it.
        for (let i = 1; i < cycle.length; i++) expect(closed.find(({ name }) => name === cycle[i])?.after).toContain(cycle[i - 1]);
      }),
    );
  });

  it('does not blow up on a dense graph', () => {
    const steps = Array.from({ length: 64 }, (_, i) => ({ name: `s${i}`, after: Array.from({ length: i }, (_unused, j) => `s${j}`) }));
    expect(findCycle(steps)).toBeUndefined();
    expect(terminalSteps(steps).map(({ name }) => name)).toEqual(['s63']);
  });
});
