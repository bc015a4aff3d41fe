/** The lists that the page asks for, page by page. */
import { describe, expect, it } from 'vitest';
import type { Invocation } from '../../src/core/invocation.ts';
import { createInspectDesk } from '../../src/daemon/inspect-desk.ts';
import { createRandom } from '../../src/core/random.ts';
import { createCluster } from '../scheduler/cluster.ts';

/** Invocations that live and that ended, many of them of the same moment, ended in another order than they came. */
function setUp() {
  const cluster = createCluster({ slots: [2, 3], traces: false });
  const { scheduler, clock, settled } = cluster;
  cluster.deploy('f');
  cluster.deploy('g');
  const random = createRandom(5);
  const all: Invocation[] = [];
  for (let burst = 0; burst < 6; burst++) {
    for (let i = 0; i < 9; i++) all.push(cluster.submit(i % 3 === 0 ? 'g' : 'f', 10 + random.below(200)));
    clock.advance(70);
  }
  const remembered = new Map(settled.map((each) => [each.id, each]));
  const none = (): never => {
    throw new Error('Not asked for here.');
  };
  const desk = createInspectDesk({ scheduler, work: { remembered }, cells: { all: none, one: none }, nowMs: () => clock.nowMs() });
  return { all, desk, settled, scheduler };
}

describe('the list of invocations', () => {
  it.each([1, 4, 7, 500])('in pages of %i has every one once, the newest first, though many came at the same time and ended in another order', (limit) => {
    const { all, desk, settled, scheduler } = setUp();
    expect(settled.length).toBeGreaterThan(10);
    expect(scheduler.live.size).toBeGreaterThan(10);
    expect(settled.map(({ seq }) => seq)).not.toEqual(settled.map(({ seq }) => seq).sort((a, b) => a - b));
    for (const name of ['', 'g']) {
      const seen: string[] = [];
      let beforeMs = 0, beforeSeq = 0;
      for (let pages = 0; pages <= all.length; pages++) {
        const { invocations, more } = desk.invocations({ state: '', function: name, node: '', limit, beforeMs, beforeSeq });
        expect(invocations.length).toBeLessThanOrEqual(limit);
        seen.push(...invocations.map(({ id }) => id));
        const last = invocations.at(-1);
        if (!more || last === undefined) break;
        ({ arrivedAtMs: beforeMs, seq: beforeSeq } = last);
      }
      expect(seen).toEqual(all.filter(({ functionName }) => name === '' || functionName === name).map(({ id }) => id).reverse());
    }
    scheduler.stop();
  });

  it('without a number goes on with what came earlier', () => {
    const { all, desk, scheduler } = setUp();
    const at = all[20]!.arrivedAtMs;
    const { invocations } = desk.invocations({ state: '', function: '', node: '', limit: 500, beforeMs: at, beforeSeq: 0 });
    expect(invocations.map(({ id }) => id)).toEqual(all.filter(({ arrivedAtMs }) => arrivedAtMs < at).map(({ id }) => id).reverse());
    scheduler.stop();
  });
});
