/** Rows by node: whatever is written and cleared, in any order, the sparse form says what a plain map says. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DENSE_NODES, NodeRows } from '../../src/scheduler/node-rows.ts';

const BLANK = Float64Array.of(0, 1);
const step = fc.record({ node: fc.nat(40), column: fc.nat(1), value: fc.nat(2), clears: fc.boolean() });

describe('rows by node', () => {
  it.each([['dense', DENSE_NODES], ['sparse', 100 * DENSE_NODES]])('hold what was written last, %s', (_form, maxNodes) => {
    // Far apart or close together: both long and short chains of cells.
    fc.assert(fc.property(fc.array(step, { maxLength: 200 }), fc.constantFrom(1, 6, 4_096), (steps, stride) => {
      const rows = new NodeRows(maxNodes, BLANK);
      const truth = new Map<number, [number, number]>();
      for (const { node: n, column, value, clears } of steps) {
        const node = (n * stride) % maxNodes;
        const before = truth.get(node);
        if (clears) {
          rows.clear(node);
          truth.delete(node);
        } else {
          const after: [number, number] = before === undefined ? [0, 1] : [...before];
          after[column] = value;
          const change = rows.set(node, column, value);
          if (after[0] === 0 && after[1] === 1) truth.delete(node);
          else truth.set(node, after);
          if (maxNodes > DENSE_NODES) expect(change).toBe(Number(truth.has(node)) - Number(before !== undefined));
        }
      }
      for (let n = 0; n <= 40; n++) {
        const node = (n * stride) % maxNodes;
        expect([rows.get(node, 0), rows.get(node, 1)]).toEqual(truth.get(node) ?? [0, 1]);
      }
      if (maxNodes <= DENSE_NODES) return;
      expect([...rows.nodes()].sort((a, b) => a - b)).toEqual([...truth.keys()].sort((a, b) => a - b));
      expect(rows.size).toBe(truth.size);
      expect(rows.cells).toBeLessThanOrEqual(Math.max(4, 8 * truth.size));
    }));
  });

  it('allocate nothing for writing what is there, and give back what they had', () => {
    const rows = new NodeRows(10_000, BLANK);
    rows.set(7, 1, 1);
    expect(rows.values).toBe(BLANK);
    for (let node = 0; node < 5_000; node++) rows.set(node, 0, 1);
    for (let node = 0; node < 5_000; node++) rows.set(node, 0, 0);
    expect(rows.values).toBe(BLANK);
    expect(rows.cells).toBe(0);
  });
});
