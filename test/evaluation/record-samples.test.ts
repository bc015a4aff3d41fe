import { describe, expect, it } from 'vitest';
import { bytesRead, samplesOfCell } from '../../src/evaluation/record-samples.ts';
import { WorkflowSpec } from '../../src/rpc/gen/metronome/v1/workflow.ts';
import type { ApplicationModel } from '../../src/sim/applications.ts';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import { record, step } from './records.ts';

const MIB = 1024 ** 2;
const functionOf = (name: string, profile: Partial<typeof PLAIN_PROFILE>) => ({ name, memoryMb: 128, slaMs: 10_000, timeoutMs: 60_000, packageSet: name, profile: { ...PLAIN_PROFILE, ...profile } });
const LOG: ApplicationModel = {
  name: 'log',
  workflow: WorkflowSpec.fromPartial({ name: 'log', slaMs: 20_000, timeoutMs: 600_000, steps: [{ name: 'split', function: 'log-split' }, { name: 'analyze', function: 'log-analyze', after: ['split'], forEach: 'objects' }] }),
  functions: [functionOf('log-split', { output: { count: 2, share: 1, bytes: 0, side: 0.25 } }), functionOf('log-analyze', {})],
};
const INPUTS = [{ bytes: 8 * MIB, node: 0 }, { bytes: 4 * MIB, node: 1 }];
const LINK = MIB; // a MiB takes a ms

describe('samples of an evaluation', () => {
  it('have the inputs that were planned, and of later steps those that the simulator gives', () => {
    const sizes = bytesRead(LOG, INPUTS);
    expect(sizes.map((read) => [...read])).toEqual([[['log-split', [8 * MIB]], ['log-analyze', [2 * MIB, 4 * MIB, 4 * MIB]]], [['log-split', [4 * MIB]], ['log-analyze', [MIB, 2 * MIB, 2 * MIB]]]]);
    const steps = [step({ fetchMs: 9, initMs: 40, runMs: 100, startState: 'packages', queuedMs: 5, delayedMs: 6 }), ...[70, 30, 80].map((runMs) => step({ function: 'log-analyze', runMs, fetchMs: 0.5 }))];
    const samples = samplesOfCell({ application: LOG, calls: [{ copy: 0, input: 1 }, { copy: 3, input: 0 }], warmUp: 1, records: [record({ index: 0, startedAtMs: 1_000, steps })] }, INPUTS, sizes, 0, LINK);
    expect(samples.map(({ function: name, inputBytes, movedBytes, ranMs, stage, fanOut, content, beganAtMs, earlierRuns }) => [name, inputBytes / MIB, movedBytes / MIB, ranMs, stage, fanOut, content, beganAtMs, earlierRuns])).toEqual([
      ['log-split', 8, 8, 100, 0, 1, '0', 1_011, 0],
      ['log-analyze', 4, 0, 70, 1, 3, '0', 1_160, 1], ['log-analyze', 2, 0, 30, 1, 3, '0', 1_160, 2], ['log-analyze', 4, 0, 80, 1, 3, '0', 1_160, 3],
    ]);
  });

  it('leave out what failed, count the runs of each sandbox, and keep cells apart', () => {
    const calls = [{ copy: 0, input: 0 }, { copy: 0, input: 0 }, { copy: 1, input: 0 }, { copy: 0, input: 0 }];
    const records = [record({ index: 0, steps: [step({ startState: 'packages' })] }), record({ index: 1, ok: false, problem: 'x', startedAtMs: 10 }), record({ index: 2, startedAtMs: 20 }), record({ index: 3, startedAtMs: 30 })];
    const [first, second] = [0, 1].map((number) => samplesOfCell({ application: LOG, calls, warmUp: 0, records }, INPUTS, bytesRead(LOG, INPUTS), number, LINK));
    expect(first?.map(({ earlierRuns }) => earlierRuns)).toEqual([0, 1, 1]);
    expect(second?.map(({ earlierRuns }) => earlierRuns)).toEqual([0, 1, 1]);
    expect((second?.[0]?.beganAtMs ?? 0) - (first?.at(-1)?.beganAtMs ?? 0)).toBeGreaterThan(10_000_000);
  });
});
