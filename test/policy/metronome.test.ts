import { describe, expect, it } from 'vitest';
import { createMetronomePolicy } from '../../src/policy/metronome.ts';
import { MAX_ALSO, createDecision } from '../../src/policy/policy.ts';
import { PAPER, decide, viewOf, type Row, type Said, type Situation } from './situation.ts';

const policy = createMetronomePolicy(PAPER);
const never = Infinity;

/** θ = 1000, α = 0.85, β = 0.1: the safe delay is 900 − waited − T_f. */
const TABLE: readonly (readonly [string, Situation, Partial<Said>])[] = [
  ['no local node: the fastest with room, at once',
    { rows: [{ T: 300, room: 1 }, { T: 200, room: 1 }, { T: 100, room: 0 }] },
    { action: 'dispatch', row: 1, reason: 'noLocalNode', slackMs: 700 }],
  ['the best local node has room: there',
    { rows: [{ T: 100, local: true, room: 1 }, { T: 300, room: 5 }] },
    { action: 'dispatch', row: 0, reason: 'bestNodeHasRoom', slackMs: 800 }],
  ['the best local node is busy and the gain is large: wait until arrival + 900 − T_f',
    { rows: [{ T: 100, local: true }, { T: 300, room: 1 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode', deadlineMs: 600, slackMs: 600 }],
  ['the same later: waited time counts, the deadline stays where it was',
    { rows: [{ T: 100, local: true }, { T: 300, room: 1 }], arrivedAtMs: 5_000, nowMs: 5_250 },
    { action: 'delay', row: 0, reason: 'waitForLocalNode', deadlineMs: 5_600, slackMs: 350 }],
  ['the gain is exactly α: too small, no waiting',
    { rows: [{ T: 255, local: true }, { T: 300, room: 1 }] },
    { action: 'dispatch', row: 1, reason: 'gainTooSmall', slackMs: 600 }],
  ['the gain is a hair more than α: wait',
    { rows: [{ T: 254.9, local: true }, { T: 300, room: 1 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode', deadlineMs: 600 }],
  ['the gain is too small, and a lesser local node is the best with room: there, not to a fallback node',
    { rows: [{ T: 100, local: true }, { T: 110, local: true, room: 1 }, { T: 300, room: 1 }] },
    { action: 'dispatch', row: 1, reason: 'bestNodeHasRoom', slackMs: 790 }],
  ['a lesser local node has room but is much worse: wait for the better one, with T_f of that node',
    { rows: [{ T: 100, local: true }, { T: 200, local: true, room: 1 }, { T: 300, room: 1 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode', deadlineMs: 700, also: [] }],
  ['the slack is used up at arrival: no waiting',
    { rows: [{ T: 100, local: true }, { T: 900, room: 1 }] },
    { action: 'dispatch', row: 1, reason: 'slackExhausted', slackMs: 0 }],
  ['the slack is used up by waiting: no more waiting',
    { rows: [{ T: 100, local: true }, { T: 300, room: 1 }], arrivedAtMs: 0, nowMs: 650 },
    { action: 'dispatch', row: 1, reason: 'slackExhausted', slackMs: -50 }],
  ['no fallback node at all, and a lesser local node has room: compared with that one',
    { rows: [{ T: 100, local: true }, { T: 105, local: true, room: 2 }] },
    { action: 'dispatch', row: 1, reason: 'bestNodeHasRoom', slackMs: 795 }],
  ['nothing has room and the local node gains over the mean of all, 200: wait for it until arrival + 900 − 200',
    { rows: [{ T: 100, local: true }, { T: 300 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode', deadlineMs: 700, slackMs: 700, also: [] }],
  ['nothing has room and the local node gains too little over the mean of all, 240 ≥ 0.85 × 270: wait for any, without a deadline of its own',
    { rows: [{ T: 240, local: true }, { T: 300 }] },
    { action: 'delay', row: -1, reason: 'noRoom', deadlineMs: never, slackMs: 0, also: [] }],
  ['nothing has room, and all nodes are alike: wait for any',
    { rows: [{ T: 100, local: true }, { T: 100, local: true }] },
    { action: 'delay', row: -1, reason: 'noRoom' }],
  ['nothing has room and no node is local: wait for any',
    { rows: [{ T: 100 }, { T: 300 }] },
    { action: 'delay', row: -1, reason: 'noRoom' }],
  ['nothing has room and the slack is used up: wait for any',
    { rows: [{ T: 100, local: true }, { T: 300 }], arrivedAtMs: 0, nowMs: 700 },
    { action: 'delay', row: -1, reason: 'noRoom' }],
  ['no node is ready',
    { rows: [] },
    { action: 'delay', row: -1, reason: 'noNodes', deadlineMs: never }],
  ['the function runs as often as it may, though a local node has room',
    { rows: [{ T: 100, local: true, room: 1 }], mayRun: false },
    { action: 'delay', row: -1, reason: 'concurrencyLimit', deadlineMs: never }],
  ['equal predictions: the node with the lower load',
    { rows: [{ T: 200, room: 1, load: 0.75 }, { T: 200, room: 1, load: 0.25 }, { T: 200, room: 1, load: 0.5 }] },
    { action: 'dispatch', row: 1, reason: 'noLocalNode' }],
  ['a node that is oversold has no room',
    { rows: [{ T: 100, room: -2 }, { T: 200, room: 1 }] },
    { action: 'dispatch', row: 1, reason: 'noLocalNode' }],
  ['other local nodes that are as good within the gain are named beside the target',
    { rows: [{ T: 110, local: true }, { T: 100, local: true }, { T: 117, local: true }, { T: 118, local: true }, { T: 105 }, { T: 400, room: 1 }] },
    { action: 'delay', row: 1, reason: 'waitForLocalNode', deadlineMs: 500, also: [0, 2] }],
  ['the local node is expected to have room when the slack is used up: not worth beginning',
    { rows: [{ T: 100, local: true, wait: 301 }, { T: 600, room: 1 }] },
    { action: 'dispatch', row: 1, reason: 'waitInVain', slackMs: 300 }],
  ['it is expected to have room just before: wait',
    { rows: [{ T: 100, local: true, wait: 300 }, { T: 600, room: 1 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode' }],
  ['more would be waited than three quarters of what is saved beyond α, 0.85 × 300 − 100 = 155: not worth beginning',
    { rows: [{ T: 100, local: true, wait: 117 }, { T: 300, room: 1 }] },
    { action: 'dispatch', row: 1, reason: 'waitInVain', slackMs: 600 }],
  ['no more would be waited than that: wait',
    { rows: [{ T: 100, local: true, wait: 116 }, { T: 300, room: 1 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode' }],
  ['at a mean load of 0.5 and with one waiter for two slots, what is saved is worth twice as much',
    { rows: [{ T: 100, local: true, wait: 232, load: 1 }, { T: 300, room: 1 }], cluster: { waiting: 1, readySlots: 2 } },
    { action: 'delay', row: 0, reason: 'waitForLocalNode' }],
  ['but not more',
    { rows: [{ T: 100, local: true, wait: 233, load: 1 }, { T: 300, room: 1 }], cluster: { waiting: 1, readySlots: 2 } },
    { action: 'dispatch', row: 1, reason: 'waitInVain' }],
  ['another local node, as good, has room in time: wait',
    { rows: [{ T: 100, local: true, wait: 900 }, { T: 110, local: true, wait: 116 }, { T: 300, room: 1 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode', also: [1] }],
  ['waits of 50 since the function last made a sandbox speak for making one: 0.75 × (0.85 × 250 − 100) = 84 is what may be waited',
    { rows: [{ T: 100, local: true, wait: 85 }, { T: 300, room: 1, startState: 2 }], rentMs: 50 },
    { action: 'dispatch', row: 1, reason: 'waitInVain' }],
  ['and as many as leave no gain end it: 0.85 × (300 − 183) < 100',
    { rows: [{ T: 100, local: true }, { T: 300, room: 1, startState: 2 }], rentMs: 183 },
    { action: 'dispatch', row: 1, reason: 'gainTooSmall' }],
  ['but not where there is no memory for one',
    { rows: [{ T: 100, local: true }, { T: 300, room: 1, startState: 2 }], rentMs: 183, full: [1] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode' }],
  ['nor where a sandbox is warm anyway',
    { rows: [{ T: 100, local: true }, { T: 300, room: 1, startState: 4 }], rentMs: 183 },
    { action: 'delay', row: 0, reason: 'waitForLocalNode' }],
  ['nodes that predictions cannot tell apart: the less loaded one',
    { rows: [{ T: 200, room: 1, load: 0.75, spread: 40 }, { T: 229, room: 1, load: 0.25, spread: 40 }] },
    { action: 'dispatch', row: 1, reason: 'noLocalNode' }],
  ['what differs by more than the spread, or than 1 − α, can be told apart',
    { rows: [{ T: 200, room: 1, load: 0.75, spread: 10 }, { T: 211, room: 1, load: 0.25, spread: 10 }, { T: 231, room: 1, load: 0, spread: 90 }] },
    { action: 'dispatch', row: 0, reason: 'noLocalNode' }],
  ['nothing has room, and the local node has none for long: wait for it all the same, for there is nothing to take now',
    { rows: [{ T: 100, local: true, wait: 5_000 }, { T: 300, wait: 4_000 }] },
    { action: 'delay', row: 0, reason: 'waitForLocalNode', deadlineMs: 700 }],
  ['a fallback node faster than every local one: at once',
    { rows: [{ T: 300, local: true }, { T: 100, room: 1 }] },
    { action: 'dispatch', row: 1, reason: 'gainTooSmall', slackMs: 800 }],
];

describe('policy metronome decides', () => {
  it.each(TABLE)('%s', (_name, situation, expected) => expect(decide(policy, situation)).toMatchObject(expected));

  it('never for a row without room, and never waits for a row with room, whatever the situation', () => {
    const shares = [80, 100, 117, 118, 200, 1_000];
    for (let code = 0; code < 6 ** 3 * 64; code++) {
      let rest = code;
      const draw = (below: number): number => {
        const digit = rest % below;
        rest = Math.floor(rest / below);
        return digit;
      };
      const rows: Row[] = Array.from({ length: 3 }, () => ({ T: shares[draw(6)]!, local: draw(2) === 1, room: draw(2) }));
      const { action, row, also, deadlineMs } = decide(policy, { rows });
      if (action === 'dispatch') expect(rows[row]!.room).toBeGreaterThan(0);
      else {
        for (const waited of [row, ...also]) if (waited >= 0) expect(rows[waited]).toMatchObject({ room: 0, local: true });
        if (row >= 0) expect(Number.isFinite(deadlineMs)).toBe(true);
        else expect(rows.every(({ room }) => room === 0)).toBe(true);
      }
    }
  });

  it(`with at most ${MAX_ALSO} nodes beside the target`, () => {
    const rows: Row[] = [{ T: 300, room: 1 }, ...Array.from({ length: 20 }, () => ({ T: 100, local: true }))];
    const { also } = decide(policy, { rows });
    expect(also).toHaveLength(MAX_ALSO);
    expect(new Set(also).size).toBe(MAX_ALSO);
  });

  it('anew each time: nothing of a former decision stays in the reused object', () => {
    const decision = createDecision();
    decide(policy, { rows: [{ T: 100, local: true }, { T: 100, local: true }, { T: 400, room: 1 }] }, decision);
    expect(decide(policy, { rows: [{ T: 100, room: 1 }] }, decision)).toEqual({ action: 'dispatch', row: 0, reason: 'noLocalNode', deadlineMs: never, slackMs: 800, also: [] });
    expect(decide(policy, { rows: [] }, decision)).toEqual({ action: 'delay', row: -1, reason: 'noNodes', deadlineMs: never, slackMs: 0, also: [] });
  });

  it('with the α and β it is given', () => {
    const patient = createMetronomePolicy({ ...PAPER, localityGain: 0.99, safetyMargin: 0.5 });
    expect(decide(patient, { rows: [{ T: 290, local: true }, { T: 300, room: 1 }] })).toMatchObject({ action: 'delay', deadlineMs: 200 });
  });
});

describe('the deadline of a waiter as of now', () => {
  const deadline = (situation: Situation): number | undefined => policy.deadlineMs?.(viewOf(situation));

  it('follows the prediction of the best node with room', () => {
    expect(deadline({ rows: [{ T: 100, local: true }, { T: 350, room: 1 }, { T: 250, room: 1 }], arrivedAtMs: 1_000, nowMs: 1_300 })).toBe(1_650);
    expect(deadline({ rows: [{ T: 100, local: true }, { T: 350, room: 1 }], arrivedAtMs: 1_000, nowMs: 1_300 })).toBe(1_550);
  });

  it('counts with the best of all nodes while none has room', () => {
    expect(deadline({ rows: [{ T: 100, local: true }, { T: 350 }] })).toBe(800);
  });

  it('is now when none of the nodes it waits for is expected to have room before, and some other has', () => {
    const rows: Row[] = [{ T: 100, local: true, wait: 700 }, { T: 350, room: 1 }];
    expect(deadline({ rows, lineNodes: [0], nowMs: 50 })).toBe(50);
    expect(deadline({ rows: [{ ...rows[0]!, wait: 148 }, rows[1]!], lineNodes: [0], nowMs: 50 })).toBe(550);
    expect(deadline({ rows: [rows[0]!, { T: 350, wait: 900 }], lineNodes: [0], nowMs: 50 })).toBe(800);
  });

  it('is now when more would still be waited than that is worth', () => {
    expect(deadline({ rows: [{ T: 100, local: true, wait: 149 }, { T: 350, room: 1 }], lineNodes: [0], nowMs: 50 })).toBe(50);
  });

  it('leaves the length of waits to the slack with a great waitPerGain', () => {
    const patient = createMetronomePolicy({ ...PAPER, waitPerGain: 1_000 });
    expect(decide(patient, { rows: [{ T: 100, local: true, wait: 600 }, { T: 300, room: 1 }] })).toMatchObject({ action: 'delay', row: 0 });
    expect(decide(patient, { rows: [{ T: 100, local: true, wait: 601 }, { T: 300, room: 1 }] })).toMatchObject({ action: 'dispatch', row: 1, reason: 'waitInVain' });
  });

  it('is the SLA less the margin when there are no nodes', () => {
    expect(deadline({ rows: [] })).toBe(900);
  });
});
