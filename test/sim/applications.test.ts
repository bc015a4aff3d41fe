import { describe, expect, it } from 'vitest';
import { COMPLETED } from '../../src/core/invocation.ts';
import { POLICY_NAMES } from '../../src/policy/registry.ts';
import { WorkflowSpec } from '../../src/rpc/gen/metronome/v1/workflow.ts';
import { runApplications, type ApplicationModel, type ApplicationsOptions } from '../../src/sim/applications.ts';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';

const MIB = 1024 ** 2;
const functionOf = (name: string, profile: Partial<typeof PLAIN_PROFILE>) => ({ name, memoryMb: 128, slaMs: 10_000, timeoutMs: 60_000, packageSet: `p-${name}`, profile: { ...PLAIN_PROFILE, noise: 0, ...profile } });
/** split → work for each part → merge, as the video and log applications. */
const SPLIT: ApplicationModel = {
  name: 'cutting',
  workflow: WorkflowSpec.fromPartial({
    name: 'cutting', slaMs: 20_000, timeoutMs: 600_000,
    steps: [{ name: 'split', function: 'split' }, { name: 'work', function: 'work', after: ['split'], forEach: 'objects' }, { name: 'merge', function: 'merge', after: ['work'] }],
  }),
  functions: [functionOf('split', { runMs: 10, output: { count: 2, share: 1, bytes: 0, bytesPerObject: 4 * MIB, most: 5, side: 0.01 } }), functionOf('work', { runMs: 0, runMsPerMib: 20, output: { count: 1, share: 0.5, bytes: 0 } }), functionOf('merge', { runMs: 5 })],
};
const options = (more: Partial<ApplicationsOptions> = {}): ApplicationsOptions => ({
  seed: 1, policy: 'metronome', applications: [SPLIT], copies: 2, inputs: [{ bytes: 16 * MIB, node: 0 }, { bytes: 2 * MIB, node: 1 }], warmUp: 2, concurrency: 2,
  cluster: { nodes: 3, node: { slots: 4, cores: 4, memoryMb: 4_096, keepAliveMs: 60_000, zygoteMb: 512, objectQuotaBytes: 1e12 }, bytesPerMs: 25_000 },
  requests: Array.from({ length: 12 }, (_, i) => ({ application: 'cutting', copy: i % 2, input: i % 2 })), ...more,
});

describe('an application in the simulator', () => {
  it('runs all steps of its workflow, each part of the input in a call of its own', () => {
    const { executions, digest } = runApplications(options());
    expect(executions).toHaveLength(10);
    for (const { problem, steps, request, latencyMs } of executions) {
      expect(problem).toBeUndefined();
      // 16 MiB make four parts, 2 MiB the least of two; and one of another kind.
      expect(steps.map(({ function: name }) => name)).toEqual(['split', ...Array<string>(request % 2 === 0 ? 5 : 3).fill('work'), 'merge']);
      expect(steps.every(({ invocation }) => invocation.state === COMPLETED)).toBe(true);
      expect(latencyMs).toBeGreaterThan(20);
    }
    const large = executions.find(({ request }) => request % 2 === 0)?.steps ?? [];
    expect(large.map(({ invocation }) => invocation.inputBytes)).toContain(4 * MIB);
    expect(large.at(-1)?.invocation.inputBytes).toBeCloseTo(8.08 * MIB, -4);
    expect(large.at(-1)?.invocation).toMatchObject({ stage: 2, predecessors: 1, fanOut: 1 });
    expect(digest).toBe(runApplications(options()).digest);
  });

  it('does the same work under every policy', () => {
    const work = POLICY_NAMES.map((policy) => {
      const { executions } = runApplications(options({ policy, applications: [{ ...SPLIT, functions: SPLIT.functions.map((each) => ({ ...each, profile: { ...each.profile, noise: 0.3, freshFactor: 1 } })) }], cluster: { ...options().cluster, node: { ...options().cluster.node, cores: 64 } } }));
      return executions.flatMap(({ request, steps }) => steps.map(({ function: name, invocation }) => `${request} ${name} ${invocation.inputBytes} ${invocation.result?.ranMs.toFixed(3)}`)).sort();
    });
    for (const each of work) expect(each).toEqual(work[0]);
  }, 60_000);

  it('takes longer on an input of which that is known, in the functions of which it is', () => {
    const calm = { warmUp: 0, concurrency: 1, requests: [0, 1].map((input) => ({ application: 'cutting', copy: 0, input })) };
    const ranMs = (factors?: Record<string, number>): Map<string, number> => new Map(runApplications(options({ ...calm, inputs: [{ bytes: 16 * MIB, node: 0, ...(factors === undefined ? {} : { factors }) }, { bytes: 2 * MIB, node: 1 }] })).executions.flatMap(({ request, steps }) => steps.map(({ function: name, invocation }) => [`${name} ${request}`, invocation.result?.ranMs ?? Number.NaN] as const)));
    const plain = ranMs(), known = ranMs({ split: 3 });
    for (const [call, ms] of plain) expect(known.get(call), call).toBeCloseTo(call === 'split 0' ? 3 * ms : ms, 6);
  });

  it('gives its last step all that is left of the target of the whole run, and the earlier ones less than that', () => {
    const { executions } = runApplications(options({ warmUp: 0 }));
    for (const { steps, slaMs } of executions) {
      const atStep = (name: string) => steps.find(({ function: each }) => each === name)!.invocation;
      expect(atStep('merge').slaMs).toBeCloseTo(slaMs - (atStep('merge').arrivedAtMs - atStep('split').arrivedAtMs), 6);
      expect(atStep('split').slaMs).toBeLessThan(slaMs);
      expect(atStep('work').slaMs).toBeLessThan(slaMs - (atStep('work').arrivedAtMs - atStep('split').arrivedAtMs));
    }
  });

  describe('of three steps that may just wait once', () => {
    // The parts lie where split ran: there 600 ms for each, one after the other; elsewhere 200 ms more for its transfer, but at once. Then 700 ms for merge. Who waits ends after 1 920 ms and more, who does not after about 1 600.
    const slow: ApplicationModel = {
      name: 'slow',
      workflow: WorkflowSpec.fromPartial({
        name: 'slow', slaMs: 1_900, timeoutMs: 600_000,
        steps: [{ name: 'split', function: 'split' }, { name: 'work', function: 'work', after: ['split'], forEach: 'objects' }, { name: 'merge', function: 'merge', after: ['work'] }],
      }),
      functions: [functionOf('split', { runMs: 10, output: { count: 2, share: 1, bytes: 0 } }), functionOf('work', { runMs: 600, output: { count: 1, share: 0, bytes: 10 } }), functionOf('merge', { runMs: 700 })],
    };
    const run = (policy: string, greedySteps: boolean) => runApplications(options({
      policy, greedySteps, scheduler: { waitPerGain: 1_000 }, applications: [slow], copies: 1, inputs: [0, 1, 2, 3].map((node) => ({ bytes: 10e6, node })), warmUp: 40, concurrency: 2,
      requests: Array.from({ length: 80 }, (_, i) => ({ application: 'slow', copy: 0, input: i % 4 })), cluster: { ...options().cluster, nodes: 6, node: { ...options().cluster.node, slots: 1, cores: 1 }, installed: true },
    })).executions;
    const missedByWaiting = (executions: ReturnType<typeof run>): number => executions.filter(({ latencyMs, slaMs, steps }) => latencyMs > slaMs && latencyMs - Math.max(...steps.map(({ invocation }) => invocation.delayedMs)) <= slaMs).length;

    it('misses the target by waiting in the second step when that leaves no time for the third', () => expect(missedByWaiting(run('metronome', true))).toBeGreaterThan(10));

    it.each(['metronome', 'lookahead'])('does not with %s when every step leaves time for the later ones', (policy) => {
      const executions = run(policy, false);
      expect(executions).toHaveLength(40);
      expect(executions.filter(({ latencyMs, slaMs }) => latencyMs > slaMs).map(({ latencyMs }) => latencyMs)).toEqual([]);
    });
  });

  it('never has more executions under way than clients, and comes at its times without any', () => {
    const spans = (concurrency: number): { from: number; to: number }[] => runApplications(options({ concurrency, warmUp: 0, requests: options().requests.map((each, i) => ({ ...each, atMs: 10 * (i + 1) })) })).executions.map(({ startedAtMs, latencyMs }) => ({ from: startedAtMs, to: startedAtMs + latencyMs }));
    const most = (all: { from: number; to: number }[]): number => Math.max(...all.map(({ from }) => all.filter((other) => other.from <= from && other.to > from).length));
    expect(most(spans(2))).toBe(2);
    expect(spans(0).map(({ from }) => from).sort((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => expect.closeTo(10 * (i + 1), 6)));
    expect(most(spans(0))).toBeGreaterThan(2);
  });

  it('ends with the reason when a step fails for good', () => {
    const { executions } = runApplications(options({ cluster: { ...options().cluster, node: { ...options().cluster.node, objectQuotaBytes: 4 * MIB } }, warmUp: 0 }));
    expect(executions).toHaveLength(12);
    expect(executions.map(({ problem }) => problem).filter((problem) => problem !== undefined)[0]).toMatch(/^STEP_FAILED: Step "\w+.*" \(function \w+\) of workflow "cutting" failed with OBJECT_LOST/);
  });

  it.each([
    [{ requests: [{ application: 'knitting', copy: 0, input: 0 }] }, 'Request 0 is about application "knitting" and input 0; there is no such application.'],
    [{ requests: [{ application: 'cutting', copy: 0, input: 7 }] }, 'there is no such input.'],
    [{ requests: [{ application: 'cutting', copy: 0, input: 0 }], concurrency: 0 }, 'Request 0 says not when it comes'],
  ])('is refused when the request makes no sense: %o', (more, message) => expect(() => runApplications(options(more))).toThrow(message));
});
