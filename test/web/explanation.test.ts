/** What the page says about a decision, read from the daemon's own JSON. */
import { describe, expect, it } from 'vitest';
import { ExplainResponse } from '../../src/rpc/gen/metronome/v1/inspect.ts';
import { readExplanation, whyChosen, whyNot } from '../../web/src/explanation.ts';
import { readModel } from '../../web/src/model-status.ts';
import { readRuns } from '../../web/src/recorded-runs.ts';
import { count, ms, percent, spaced } from '../../web/src/words.ts';

/** Through the daemon's own writer: zeros are left out, names of enums are long. */
const written = ExplainResponse.toJSON(ExplainResponse.fromPartial({
  invocation: { id: 'inv-1', function: 'count', state: 8, slaMs: 2_000, arrivedAtUnixMs: 1_000, endedAtUnixMs: 1_400, policy: 'metronome', node: 'node-2', phases: { delayedMs: 88, ranMs: 240, totalMs: 400, startState: 4 } },
  decisions: [{
    atUnixMs: 1_000.5, policy: 'metronome', action: 2, node: 'node-2', reason: 'waitForLocalNode', slackMs: 860, deadlineUnixMs: 1_860.5, predictedMs: 240, candidatesInAll: 3,
    candidates: [
      { node: 'node-2', locality: { class: 1, degree: 1, data: 0.46, infrastructure: 0.54 }, predictedMs: 240, spreadMs: 1, expectedWaitMs: 90, load: 1, startState: 4, p95Ms: 241 },
      { node: 'node-1', locality: { class: 2 }, predictedMs: 940, spreadMs: 76, room: 2, startState: 1, missingBytes: 20 * 1024 ** 2, p95Ms: 1_097 },
      { node: 'node-3', locality: { class: 1, degree: 0.5 }, predictedMs: 250, expectedWaitMs: 20, load: 1, startState: 3, p95Ms: 270 },
    ],
  }, { atUnixMs: 1_088, policy: 'metronome', action: 1, node: 'node-2', reason: 'localNodeReleased', slackMs: -5, predictedMs: 240, measuredMs: 252 }],
  transitions: [{ invocationId: 'inv-1', from: 4, to: 8, event: 'RESULT', reason: 'completed', atUnixMs: 1_400 }],
}));

describe('an explanation', () => {
  const explanation = readExplanation(written);
  const [delay, dispatch] = explanation.decisions;

  it('is read with its states as the machines name them, and with zeros where nothing was sent', () => {
    expect(explanation).toMatchObject({ id: 'inv-1', state: 'timedOut', startState: 'warm', totalMs: 400, phases: { predicted: 0, delayed: 88, ran: 240 } });
    expect(explanation.steps).toEqual([{ from: 'dispatched', to: 'timedOut', event: 'RESULT', reason: 'completed', node: '', delayingFor: '', atMs: 1_400 }]);
    expect(delay?.candidates[1]).toMatchObject({ isLocal: false, degree: 0, room: 2, start: 'cold', missingBytes: 20 * 1024 ** 2 });
  });

  it('says why it waits and for how long at most, and why it was sent', () => {
    expect(whyChosen(delay!, explanation.arrivedAtMs)).toBe('0.50 ms after its arrival, metronome let it wait for node-2, for at most 860 ms, because a busy local node is better enough to wait for it.');
    expect(whyChosen(dispatch!, explanation.arrivedAtMs)).toBe('88.0 ms after its arrival, metronome chose node-2, because the local node it waited for has room now. It was predicted to take 240 ms there, and took 252 ms (+5 %). It was 5.0 ms over its safe delay.');
  });

  it('says of every other node why not, by when it would have ended', () => {
    expect(delay?.candidates.map((each) => whyNot(each, delay))).toEqual([
      'waited for',
      'would end 610 ms later (20.0 MiB to fetch, cold start)',
      'full for about 20.0 ms, would end 60.0 ms earlier, wait included; metronome decides by other rules (waitForLocalNode)',
    ]);
  });

  it('of nothing at all is empty and not an error', () => {
    expect(readExplanation({})).toMatchObject({ id: '', decisions: [], steps: [], slaMs: 0 });
    expect(readModel(undefined)).toMatchObject({ predictor: '', functions: [] });
  });
});

describe('recorded runs', () => {
  const frame = { simulatedMs: 0, counts: [], nodes: [], transitions: [] };

  it('are taken alone or as a list', () => {
    expect(readRuns({ policy: 'a', frames: [frame], summary: {} })).toHaveLength(1);
    expect(readRuns([{ policy: 'a', frames: [frame], summary: {} }, { policy: 'b', frames: [frame], summary: {} }])).toHaveLength(2);
  });

  it.each([
    ['[]', 'There is no run in it.'],
    ['[{"frames":[]}]', 'In the run there is no "policy".'],
    ['[{"policy":"a","frames":[]}]', 'In the run there are no "frames".'],
    [JSON.stringify({ policy: 'a', frames: [frame, { simulatedMs: 1 }], summary: {} }), 'Frame 2 of the run lacks one of simulatedMs, counts, nodes, transitions.'],
    [JSON.stringify({ policy: 'a', frames: new Array(20_001).fill(frame), summary: {} }), 'the run has 20001 frames; at most 20000 can be played.'],
    [JSON.stringify([{ policy: 'a', frames: [frame], summary: {} }, { policy: 'a', frames: [frame] }]), 'In run 2 there is no "summary".'],
  ])('are refused with the place of the fault', (json, message) => {
    expect(() => readRuns(JSON.parse(json))).toThrow(message);
  });
});

describe('numbers in words', () => {
  it('are short and keep what matters', () => {
    expect([950, 999.4, 12_345, 2_500_000, 7e9].map(count)).toEqual(['950', '999', '12.3k', '2.5M', '7.0G']);
    expect([0, 0.004, 0.0999, 0.5, 0.994, 1, Number.NaN].map(percent)).toEqual(['0 %', '0.4 %', '10 %', '50 %', '99.4 %', '100 %', '–']);
    expect([0, 0.416, 12.34, 940.2, 12_345].map(ms)).toEqual(['0', '0.42', '12.3', '940', '12\u2009345']);
    expect(spaced('localNodeReleased')).toBe('local node released');
  });
});
