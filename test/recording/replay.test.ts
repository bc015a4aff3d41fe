import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { POLICY_NAMES } from '../../src/policy/registry.ts';
import { Recorder } from '../../src/recording/recorder.ts';
import { INPUTS, QUESTIONS } from '../../src/recording/inputs.ts';
import { createMovingAveragePredictor } from '../../src/predictor/moving-average.ts';
import { factsOf } from '../../src/recording/history.ts';
import { replayRecording } from '../../src/recording/replay.ts';
import { Scheduler } from '../../src/scheduler/scheduler.ts';
import { MemorySink, recordSimulation } from './recorded-simulation.ts';

const FAULTS = { kill: 8, hang: 6, disconnect: 10, loseData: 6, slow: 6, drain: 8, forgetWarm: 20, lateMessages: 10, duplicateResults: 10 };

describe('the seam', () => {
  it('knows every method of the scheduler as an input or as a mere question', () => {
    const methods = Object.getOwnPropertyNames(Scheduler.prototype).filter((name) => name !== 'constructor');
    expect(methods.toSorted()).toEqual([...INPUTS, ...QUESTIONS].toSorted());
  });
});

describe('a replay', () => {
  it.each(POLICY_NAMES)('makes every decision of policy %s again, with faults all along', (policy) => {
    const recorded = recordSimulation({ scheduler: { policy, pools: { windowMs: 1_000 } }, faults: FAULTS });
    const { counters } = recorded.sim.scheduler;
    const report = replayRecording(recorded.reader());
    expect(report.difference).toBeUndefined();
    expect(report).toMatchObject({ end: 'inOrder', missing: 0, dispatches: counters.dispatched, entries: recorded.recorder.counters.entries - 1 });
    expect(report.decisions).toBeGreaterThanOrEqual(counters.decisions);
    expect(counters.dispatched).toBeGreaterThan(200);
  });

  it('makes them again when predictions come later, and with interpreted machines', () => {
    const recorded = recordSimulation({ scheduler: { engine: 'xstate' }, durationMs: 6_000, faults: FAULTS, predictor: ({ clock }) => {
      const averages = createMovingAveragePredictor();
      let ready: (ticket: number) => void = () => {};
      return {
        ...averages,
        listen: (listener) => void (ready = listener),
        predict(subject, rows, ticket) {
          if (ticket < 0 || ticket % 3 === 0) return averages.predict(subject, rows, ticket);
          clock.setTimer(clock.nowMs() + 1 + (ticket % 5), () => ready(ticket));
          return false;
        },
      };
    } });
    const report = replayRecording(recorded.reader());
    expect(report).toMatchObject({ difference: undefined, end: 'inOrder' });
    expect([...factsOf(recorded.reader())].filter(({ fact }) => fact.kind === 'later').length).toBeGreaterThan(50);
  });

  it('says where another parameter leads elsewhere, with both sides', () => {
    const recorded = recordSimulation({ perS: 80 });
    const report = replayRecording(recorded.reader(), { scheduler: { safetyMargin: 0.4 } });
    expect(report.difference).toMatchObject({ input: expect.any(String), invocation: expect.stringMatching(/^s0/) });
    expect(report.difference?.recorded).toMatch(/policy metronome decided for s0\w+: (?:delay for|dispatch to) n\d/);
    expect(report.difference?.replayed).toMatch(/policy metronome decided for s0\w+: (?:delay for|dispatch to) n\d[\s\S]*predicted [\d.]+ ± [\d.]+ ms, (?:local|fallback), room/);
    expect(report.difference?.replayed).not.toBe(report.difference?.recorded);
  });

  it('stops where entries were left out, and says how many', () => {
    const sink = new MemorySink();
    const recorded = recordSimulation({ sink, onArrival: (index) => void (sink.hasRoom = index < 100 || index > 300) });
    const { counters } = recorded.recorder;
    expect(counters.gaps).toBe(1);
    expect(counters.dropped).toBeGreaterThan(200);
    const report = replayRecording(recorded.reader());
    expect(report).toMatchObject({ difference: undefined, end: 'gap', missing: counters.dropped });
    expect(report.decisions).toBeGreaterThan(50);
  });

  it('is told of a gap that was open when the recording ended', () => {
    const sink = new MemorySink();
    const { recorder, reader } = recordSimulation({ sink, durationMs: 6_000, onArrival(index) {
      sink.hasRoom = index < 100;
      sink.takes = index < 100 || index > 150;
    } });
    expect(recorder.counters.gaps).toBe(1);
    expect(replayRecording(reader())).toMatchObject({ difference: undefined, end: 'gap', missing: recorder.counters.dropped });
  });

  it('leaves out what cannot be written, and harms nobody by it', () => {
    const recorder = new Recorder({ clock: createVirtualClock(1), sink: new MemorySink(), context: () => ({ functions: [], nodes: [] }) });
    const odd = { get name(): string { throw new Error('it does not want to be read'); } };
    expect(recorder.call('putFunction', [odd], () => 7)).toBe(7);
    expect(() => recorder.flush()).not.toThrow();
    expect(recorder.counters).toEqual({ entries: 0, dropped: 1, gaps: 1 });
    // Arguments that are none: the scheduler says what it thinks of them, and the next call is recorded.
    expect(() => recorder.call('submit', [], () => { throw new TypeError('no request'); })).toThrow('no request');
    expect(recorder.isInside).toBe(false);
    recorder.call('drain', [], () => {});
    expect(recorder.counters.entries).toBeGreaterThan(0);
  });

  it('ends where a killed process left off', () => {
    const recorded = recordSimulation({ faults: FAULTS });
    recorded.sink.blocks.pop();
    expect(replayRecording(recorded.reader())).toMatchObject({ difference: undefined, end: 'cutOff' });
  });
});
