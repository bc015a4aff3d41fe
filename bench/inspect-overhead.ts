/**
 * Bench `inspect-overhead`: what the inspector costs the loop. Two schedulers in one process take turns in short blocks, one with the
 * inspector as the daemon hooks it in (ring of transitions, detail of one in 100, traffic), one whose observer does nothing. Both count states and
 * edges in their machines and keep decision records: neither can be switched off. Beside it: what a shadow
 * policy (lookahead) makes of a decision, and what making one tick takes, four times a second.
 */
import { Inspector } from '../src/inspect/inspector.ts';
import { NodeCells } from '../src/inspect/node-cells.ts';
import { InspectFeed } from '../src/daemon/inspect-feed.ts';
import { createMachineFlow } from '../machines/flow.ts';
import { workflowMachine } from '../machines/workflow.ts';
import { arrivals, createWorld, type World } from './decision.ts';
import { overRounds, quantile, type Bench, type BenchContext, type BenchResult } from './harness.ts';

const NODES = 100;
/** Arrivals of one turn: short, so that whatever else the machine does falls on both. */
const BLOCK = 2_000;

function inspectedWorld(): World & { readonly inspector: Inspector } {
  const inspector: Inspector = new Inspector({ transitions: 65_536, keep: 1_024, sampleEvery: 100, functions: [], decisions: () => world.scheduler.decisions });
  const world: World = createWorld('table', NODES, {
    transitioned: (invocation, from, to, event) => inspector.transitioned(invocation, from, to, event), decided: (invocation) => inspector.decided(invocation), settled: (invocation) => inspector.settled(invocation),
  });
  return { ...world, inspector };
}

/** The inspector bench. */
export const inspectOverheadBench: Bench = {
  description: 'the inspector on ÷ off: decisions, whole lives, and one tick of its stream',
  async run(context: BenchContext): Promise<BenchResult> {
    const rounds = context.quick ? 12 : 60;
    const on = inspectedWorld(), shadowed = inspectedWorld();
    shadowed.scheduler.setShadow('lookahead');
    const off = createWorld('table', NODES, { transitioned() {}, settled() {} });
    let told = 0;
    const feed = new InspectFeed({
      scheduler: on.scheduler, inspector: on.inspector, cells: new NodeCells(on.scheduler), workflow: createMachineFlow(workflowMachine), model: undefined, nowMs: () => on.scheduler.nowMs, version: 'bench', startedAtMs: 0, counters: () => ({}), post: () => void told++,
    });
    context.progress(`inspect-overhead: ${NODES} nodes, ${rounds} rounds of ${BLOCK} arrivals on and off, in turns`);
    for (let warm = 0; warm < 5; warm++) for (const world of [on, off, shadowed]) arrivals(world, BLOCK, NODES, context.seed);
    const ratios: number[] = [], differences: number[] = [], lifeRatios: number[] = [], decisionsOn: number[] = [], decisionsOff: number[] = [], shadowRatios: number[] = [], ticks: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const measured = { on: { submit: 0, life: 0 }, off: { submit: 0, life: 0 } };
      // Who goes first changes: the second finds warmer caches.
      for (const which of round % 2 === 0 ? (['on', 'off'] as const) : (['off', 'on'] as const)) {
        const ends: number[] = [];
        const submit = quantile(arrivals(which === 'on' ? on : off, BLOCK, NODES, context.seed + round, ends), 0.5);
        measured[which] = { submit, life: submit + quantile(ends.sort((a, b) => a - b), 0.5) };
      }
      ratios.push(measured.on.submit / measured.off.submit);
      lifeRatios.push(measured.on.life / measured.off.life);
      differences.push(measured.on.life - measured.off.life);
      shadowRatios.push(quantile(arrivals(shadowed, BLOCK, NODES, context.seed + round), 0.5) / measured.on.submit);
      decisionsOn.push(measured.on.submit);
      decisionsOff.push(measured.off.submit);
      // All that happened in the round is told in one tick: more than fits, as under heavy load.
      const begin = performance.now();
      feed.push();
      ticks.push((performance.now() - begin) * 1_000);
    }
    if (told !== rounds) throw new Error(`bench inspect-overhead: ${told} ticks, expected ${rounds}`);
    on.scheduler.stop();
    shadowed.scheduler.stop();
    off.scheduler.stop();
    const samples = rounds * BLOCK;
    return {
      mode: 'micro',
      figures: [
        overRounds('overhead_ratio', '×', ratios, samples), overRounds('overhead_p50', 'µs', differences, samples), overRounds('life_ratio', '×', lifeRatios, samples),
        overRounds('decision_on_p50', 'µs', decisionsOn, samples), overRounds('decision_off_p50', 'µs', decisionsOff, samples), overRounds('shadow_ratio', '×', shadowRatios, samples), overRounds('tick_p50', 'µs', ticks, rounds),
      ],
      params: { nodes: NODES, sampleEvery: 100, rounds },
    };
  },
};
