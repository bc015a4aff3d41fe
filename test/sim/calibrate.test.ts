import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { createRandom } from '../../src/core/random.ts';
import { lognormal } from '../../src/core/distributions.ts';
import { calibrate } from '../../src/sim/calibrate.ts';
import type { CalibrationSample } from '../../src/sim/calibration-samples.ts';
import { Host, Processor } from '../../src/sim/processor.ts';
import { formatProfiles, parseProfiles } from '../../src/sim/profile-file.ts';

const MIB = 1024 ** 2;
const sample = (more: Partial<CalibrationSample>): CalibrationSample => ({ function: 'f', application: '', startState: 4, inputBytes: MIB, movedBytes: 0, fetchedMs: 0.5, initialisedMs: 0, ranMs: 100, ...more });
/** Warm runs of sizes from 1 to 8 MiB that cost 20 ms + 5 ms/MiB, with noise. */
const runs = (noise: number, count = 400): CalibrationSample[] => {
  const random = createRandom(3);
  return Array.from({ length: count }, (_, i) => sample({ inputBytes: (1 + (i % 8)) * MIB, ranMs: lognormal(random, 20 + 5 * (1 + (i % 8)), noise) }));
};

describe('calibration', () => {
  it('finds what a run costs, how that grows with the input, and how much it varies', () => {
    const [fit] = calibrate(runs(0.2)).functions;
    expect(fit?.profile.runMs).toBeCloseTo(20, -0.7);
    expect(fit?.profile.runMsPerMib).toBeCloseTo(5, 0);
    expect(fit?.profile.noise).toBeCloseTo(0.2, 1);
    expect(fit?.medianError).toBeLessThan(0.2);
    expect(fit?.explained).toBeGreaterThan(0.3);
  });

  it('gets means right although some runs take far longer', () => {
    const samples = runs(0.1).map((each, i) => (i % 20 === 0 ? { ...each, ranMs: 4 * each.ranMs } : each));
    const { runMs = 0, runMsPerMib = 0, noise = 0 } = calibrate(samples).functions[0]?.profile ?? {};
    const predicted = samples.map(({ inputBytes }) => (runMs + (runMsPerMib * inputBytes) / MIB) * Math.exp(noise ** 2 / 2)).reduce((a, b) => a + b, 0);
    expect(predicted / samples.map(({ ranMs }) => ranMs).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 1);
  });

  it('learns every rung of the ladder of starts, and that first runs take longer', () => {
    const starts = [...Array.from({ length: 6 }, () => sample({ startState: 1, initialisedMs: 1_200, startedMs: 50, ranMs: 250 })), ...Array.from({ length: 6 }, () => sample({ startState: 2, initialisedMs: 200, startedMs: 50, ranMs: 250 })), ...Array.from({ length: 6 }, () => sample({ startState: 3, initialisedMs: 9, ranMs: 250 }))];
    const [fit] = calibrate([...starts, ...Array.from({ length: 20 }, (_, i) => sample({ inputBytes: (1 + (i % 8)) * MIB }))]).functions;
    expect(fit?.profile).toMatchObject({ installMs: 1_000, processMs: 50, importMs: 150, zygoteMs: 9, warmMs: 0.5, runMs: 100, runMsPerMib: expect.closeTo(0, 9) as number, freshFactor: 2.5 });
    expect(fit?.byStartState).toEqual([6, 6, 6, 20]);
    expect(fit?.assumed).toEqual([]);
  });

  it('says what it could not learn', () => {
    const [fit] = calibrate(Array.from({ length: 8 }, () => sample({}))).functions;
    expect(fit?.assumed).toEqual(['cost in proportion to the input: its sizes hardly differ', 'start with packages', 'installation: none was seen', 'start from a zygote', 'first runs in new sandboxes as those of the other functions']);
    expect(calibrate(Array.from({ length: 4 }, () => sample({}))).functions).toEqual([]);
  });

  it('takes out what a busy machine added', () => {
    const samples = Array.from({ length: 60 }, (_, i) => (i % 3 === 0 ? sample({ ranMs: 150, cpuUtilisation: 1 }) : sample({ ranMs: 100, cpuUtilisation: 0.4 })));
    const calibration = calibrate(samples);
    expect([calibration.busySlowdown, calibration.busySamples]).toEqual([1.5, 20]);
    expect(calibration.functions[0]?.profile.runMsPerMib).toBeCloseTo(100, 6);
    expect(calibration.functions[0]?.profile.noise).toBe(0);
  });

  it('finds the contention of one machine under all nodes from what ran at the same time', () => {
    // Made by the simulator's own processors: jobs of 100 ms on four nodes of a machine with two cores.
    const clock = createVirtualClock(1);
    const host = new Host(2, 0.3);
    const processors = Array.from({ length: 4 }, () => new Processor(clock, 2, host));
    const random = createRandom(5);
    const samples: CalibrationSample[] = [];
    for (let i = 0; i < 200; i++) {
      clock.setTimer(i * 70 + 40 * random.uniform(), () => {
        const beganAtMs = clock.nowMs();
        processors[i % 4]?.start(100, 1, () => samples.push(sample({ fetchedMs: 0, beganAtMs, ranMs: clock.nowMs() - beganAtMs })));
      });
    }
    clock.advance(100_000);
    const { contention, functions: [fit] } = calibrate(samples, { hostCores: 2 });
    expect(contention).toBeCloseTo(0.3, 5);
    expect(fit?.profile.runMsPerMib).toBeCloseTo(100, 1);
  });

  it('takes the bytes of outputs from what the next stage read, and their number from its fan-out', () => {
    const run = (bytes: number): CalibrationSample[] => [
      sample({ function: 'split', application: 'a', inputBytes: bytes }),
      ...Array.from({ length: 4 }, () => sample({ function: 'work', application: 'a', stage: 1, fanOut: 4, inputBytes: bytes / 4 })),
      sample({ function: 'merge', application: 'a', stage: 2, fanOut: 1, inputBytes: bytes / 10 }),
    ];
    const { functions } = calibrate([1, 2, 4, 8, 12, 16].flatMap((mib) => run(mib * MIB)));
    expect(Object.fromEntries(functions.map(({ function: name, profile }) => [name, profile.output]))).toEqual({
      split: { count: 4, share: 1, bytes: 0 }, work: { count: 1, share: 0.1, bytes: 0 }, merge: { count: 0, share: 0, bytes: 0 },
    });
  });

  it('takes shares from all calls where every one was part of a workflow, however often each input was used', () => {
    // The input of 9 MiB three times as often as that of 1 MiB: a mean over different inputs would say 7 ÷ 5.
    const { functions } = calibrate([1, 9, 9, 9, 1, 9, 9, 9].flatMap((mib) => [sample({ function: 'check', application: 'a', stage: 0, fanOut: 1, inputBytes: mib * MIB }), sample({ function: 'work', application: 'a', stage: 1, fanOut: 1, inputBytes: mib * MIB })]));
    expect(functions.find(({ function: name }) => name === 'check')?.profile.output).toEqual({ count: 1, share: 1, bytes: 0 });
  });

  it('tells what is in inputs of one size from noise', () => {
    const samples = Array.from({ length: 40 }, (_, i) => sample({ content: i % 2 === 0 ? 'short' : 'long', ranMs: i % 2 === 0 ? 100 : 300 }));
    const [fit] = calibrate(samples).functions;
    expect(fit?.profile.noise).toBeGreaterThan(0.5);
    const { profile, factors } = fit!.byContent!;
    const meanMs = (content: string): number => (factors[content] ?? Number.NaN) * profile.runMsPerMib * Math.exp(profile.noise ** 2 / 2);
    expect(profile.noise).toBeLessThan(0.05);
    // Each as if it had once been an ordinary one of 200 ms, of 21.
    expect(meanMs('short')).toBeCloseTo((20 * 100 + 200) / 21, -1);
    expect(meanMs('long')).toBeCloseTo((20 * 300 + 200) / 21, -1);
    expect(calibrate(samples.map(({ content: _content, ...rest }) => rest)).functions[0]?.byContent).toBeUndefined();
  });

  it('gives what a warm start takes on an idle core, as the simulator wants it', () => {
    // A node with a quarter of a core: 8 ms and 400 ms on the clock are 2 ms and 100 ms of a core.
    const samples = Array.from({ length: 10 }, (_, i) => sample({ node: 'n', beganAtMs: 10_000 * i, fetchedMs: 0, initialisedMs: 8, ranMs: 400 }));
    const { profile } = calibrate(samples, { hostCores: 2, nodeCores: 0.25 }).functions[0]!;
    expect(profile.warmMs).toBeCloseTo(2, 6);
    expect(profile.runMsPerMib).toBeCloseTo(100, 6);
  });

  it('measures what transfers get', () => {
    const samples = Array.from({ length: 20 }, (_, i) => sample({ movedBytes: (1 + i) * MIB, fetchedMs: 5 + ((1 + i) * MIB) / 25_000 }));
    expect(calibrate(samples).link).toEqual({ bytesPerMs: 25_000, latencyMs: expect.closeTo(5, 3), transfers: 20 });
    expect(calibrate(samples, { linkBytesPerMs: 50_000 }).link).toMatchObject({ bytesPerMs: 50_000, latencyMs: expect.closeTo(5 + (10.5 * MIB) / 50_000, 0) as number });
  });

  it('survives its file', () => {
    const calibration = calibrate(runs(0.1));
    const { note, functions } = parseProfiles(formatProfiles(calibration, 'a test'), 'p.json');
    expect(note).toBe('a test');
    expect(functions).toEqual({ f: calibration.functions[0]?.profile });
  });

  it.each([
    ['{', 'p.json is not JSON'],
    ['{"metronome":"observations","format":1,"note":"","functions":{}}', 'metronome: must say "profiles": the file is none that `metronome sim calibrate` wrote'],
    ['{"metronome":"profiles","format":1,"note":"","functions":{"f":{"installMs":-1}}}', 'functions.f.installMs: Too small'],
  ])('refuses the file %s', (text, message) => expect(() => parseProfiles(text, 'p.json')).toThrow(message));
});

describe('a sandbox that has run only a few times', () => {
  const young = (n: number): number => 100 * (1 + 2 / (1 + n));

  it('is told from what runs cost later, whether its age was recorded or is counted', () => {
    for (const recorded of [true, false]) {
      const samples = Array.from({ length: 6 }, (_, s) => Array.from({ length: 12 }, (_unused, n) => sample({ node: `n${s}`, startState: n === 0 ? 2 : 4, initialisedMs: n === 0 ? 80 : 0, inputBytes: (1 + (n % 8)) * MIB, ranMs: young(n), ...(recorded ? { earlierRuns: n } : {}) }))).flat();
      const { profile } = calibrate(samples).functions[0]!;
      expect(profile.freshFactor).toBeCloseTo(3, 1);
      expect(profile.runMs + profile.runMsPerMib).toBeCloseTo(100, -0.5);
      expect(profile.noise).toBeLessThan(0.05);
    }
  });
});
