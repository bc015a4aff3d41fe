import { describe, expect, it } from 'vitest';
import { createDataLocalityPolicy } from '../../src/policy/data-locality.ts';
import { decide, type Row } from './situation.ts';

const free = (more: Partial<Row> = {}): Row => ({ T: 100, room: 1, ...more });

describe('policy data-locality', () => {
  const policy = createDataLocalityPolicy();

  it.each<[string, Row[], number, string]>([
    ['a free node with data', [free(), free({ kinds: 1, load: 0.9 })], 1, 'hasData'],
    ['the least loaded of those with data', [free({ kinds: 1, load: 0.5 }), free({ kinds: 3, load: 0.25 })], 1, 'hasData'],
    ['the one with most bytes among equally loaded ones', [free({ kinds: 1, missing: 900 }), free({ kinds: 1, missing: 100 }), free({ kinds: 1, missing: 500 })], 1, 'hasData'],
    ['the first of equals', [free({ kinds: 1 }), free({ kinds: 1 })], 0, 'hasData'],
    ['the least loaded free node when those with data are busy', [free({ kinds: 1, room: 0 }), free({ load: 0.5 }), free({ load: 0.25 })], 2, 'leastLoaded'],
    ['the least loaded free node when nobody has data, warm or not', [free({ kinds: 6, load: 0.5 }), free({ load: 0.25 })], 1, 'leastLoaded'],
    ['by data and load, whatever is predicted', [free({ T: 1 }), free({ T: 999, kinds: 1 })], 1, 'hasData'],
  ])('takes %s', (_name, rows, row, reason) => expect(decide(policy, { rows })).toMatchObject({ action: 'dispatch', row, reason }));

  it('never waits for a better node, only for room', () => {
    expect(decide(policy, { rows: [free({ kinds: 7, room: 0, local: true })] })).toEqual({ action: 'delay', row: -1, reason: 'noRoom', deadlineMs: Infinity, slackMs: 0, also: [] });
  });
});
