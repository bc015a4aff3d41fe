/**
 * Bench `scale`: what a decision costs and what a node and a function take in memory from ten to ten thousand nodes and to a million
 * functions; what is lost by looking at the candidates of the indexes only, in simulation; and a hundred thousand arrivals per second.
 */
import v8 from 'node:v8';
import vm from 'node:vm';
import { createRandom, type Random } from '../src/core/random.ts';
import { drawLines, writePlot } from '../src/report/plot.ts';
import { Simulation } from '../src/sim/simulation.ts';
import { popularArrivals } from '../src/workload/arrivals.ts';
import { qualityFigures } from './candidate-quality.ts';
import { arrivals, createWorld } from './decision.ts';
import { overRounds, quantile, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

/** Node counts and a value for each. */
type Curve = { readonly x: number; readonly y: number }[];

/** Slope of the line through the logarithms: y grows like x to this power. */
export function exponentOf(curve: Curve): number {
  const logs = curve.map(({ x, y }) => [Math.log(x), Math.log(y)] as const);
  const mean = (of: 0 | 1): number => logs.reduce((sum, pair) => sum + pair[of], 0) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  return logs.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / logs.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
}

v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc') as () => void; // what the flag provides

/** Heap and buffers that are in use, bytes. */
function inUse(): number {
  // Buffers are given back a little later than what held them.
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Ranks by a power law of exponent 1. */
function popular(random: Random, functions: number): () => number {
  return () => Math.min(functions - 1, Math.floor((functions + 1) ** random.uniform()) - 1);
}

/** p50 and p95 of a decision, µs, per round. */
function decisions(nodes: number, functions: number, mode: 'auto' | 'all', seed: number, rounds: number, count: number, fill: number): { p50: number[]; p95: number[] } {
  const world = createWorld('table', nodes, undefined, { functions, candidates: mode, maxNodes: nodes });
  const pick = popular(createRandom(seed, 3), functions);
  arrivals(world, fill, nodes, seed, undefined, pick);
  const p50: number[] = [], p95: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const times = arrivals(world, count, nodes, seed + 1 + round, undefined, pick);
    p50.push(quantile(times, 0.5));
    p95.push(quantile(times, 0.95));
  }
  world.scheduler.stop();
  return { p50, p95 };
}

/** Bytes of a scheduler with so many nodes, each with three warm functions and a package set. */
function memoryOf(nodes: number): number {
  const before = inUse();
  const world = createWorld('table', nodes, undefined, { functions: 1_000, maxNodes: nodes, rememberDecisions: 1 });
  for (let node = 0; node < nodes; node++) {
    for (let i = 0; i < 3; i++) world.scheduler.setWarm(`f${(7 * node + 311 * i) % 1_000}`, 'v1', node, 1, 0);
    world.scheduler.setPackages(`p${node % 1_000}`, node, true);
  }
  const after = inUse();
  world.scheduler.stop();
  return after - before;
}

/** A hundred thousand arrivals per second of virtual time on a thousand nodes of 32 slots. */
export function rush(perS: number, functions: number, durationMs: number, seed: number): { submitted: number; completed: number; cpuS: number; localShare: number } {
  const sim = new Simulation({ seed, nodes: Array.from({ length: 1_000 }, () => ({ slots: 32, cores: 32, memoryMb: 65_536, keepAliveMs: 600_000, zygoteMb: 0, objectQuotaBytes: 1e9 })) });
  for (let f = 0; f < functions; f++) sim.deploy({ name: `f${f}`, packageSet: `p${f}`, memoryMb: 128 }, { processMs: 20, importMs: 20, runMs: 60 + (f % 80) });
  const stream = popularArrivals({ seed, functions, perS }, durationMs);
  let submitted = 0;
  const next = (): void => {
    const arrival = stream.next();
    if (arrival.done === true) return;
    sim.at(arrival.value.atMs, () => {
      sim.submit(`f${arrival.value.rank}`);
      submitted++;
      next();
    });
  };
  next();
  const before = process.cpuUsage();
  sim.advance(durationMs);
  sim.settle(60_000);
  const { user, system } = process.cpuUsage(before);
  const { completed, localDispatches, dispatched } = sim.scheduler.counters;
  sim.stop();
  return { submitted, completed, cpuS: (user + system) / 1e6, localShare: localDispatches / dispatched };
}

/** The bench. */
export const scaleBench: Bench = {
  description: 'decisions and memory from 10 to 10 000 nodes and to a million functions, quality of indexed candidates, 100 000 arrivals per second',
  async run(context: BenchContext): Promise<BenchResult> {
    const { quick, seed, progress } = context;
    const figures: Figure[] = [];
    const rounds = quick ? 3 : 5;
    const counts = quick ? [10, 100, 1_000, 10_000] : [10, 30, 100, 300, 1_000, 3_000, 10_000];
    const times: Curve = [], scans: Curve = [], memory: Curve = [];
    // First of all: what other parts leave behind is not counted.
    memoryOf(100);
    for (const nodes of counts) {
      progress(`scale: memory of ${nodes} nodes`);
      const bytes = memoryOf(nodes);
      memory.push({ x: nodes, y: bytes });
      figures.push(overRounds(`memory_per_node_${nodes}`, 'B', [bytes / nodes], 1));
    }
    // What 1 000 functions take whatever the number of nodes is left out here.
    const [fewer, most] = memory.slice(-2);
    if (fewer !== undefined && most !== undefined) figures.push(overRounds('memory_per_further_node', 'B', [(most.y - fewer.y) / (most.x - fewer.x)], 1));
    for (const nodes of counts) {
      progress(`scale: decisions on ${nodes} nodes`);
      const { p50, p95 } = decisions(nodes, 1_000, 'auto', seed, rounds, 5_000, Math.max(10_000, 5 * nodes));
      figures.push(overRounds(`decision_${nodes}_p50`, 'µs', p50, rounds * 5_000), overRounds(`decision_${nodes}_p95`, 'µs', p95, rounds * 5_000));
      times.push({ x: nodes, y: quantile([...p50].sort((a, b) => a - b), 0.5) });
      const scanned = nodes > 3_000 ? 500 : 2_000;
      const scan = decisions(nodes, 1_000, 'all', seed, rounds, scanned, scanned);
      figures.push(overRounds(`scan_${nodes}_p50`, 'µs', scan.p50, rounds * scanned));
      scans.push({ x: nodes, y: quantile([...scan.p50].sort((a, b) => a - b), 0.5) });
    }
    // Tens of nodes share what a thousand functions take; the exponent is that of large clusters.
    const large = (curve: Curve): Curve => curve.filter(({ x }) => x >= 100);
    figures.push(overRounds('decision_exponent', '', [exponentOf(large(times))], times.length), overRounds('scan_exponent', '', [exponentOf(large(scans))], scans.length), overRounds('memory_exponent', '', [exponentOf(large(memory))], memory.length));

    for (const functions of quick ? [1_000, 1_000_000] : [1_000, 10_000, 100_000, 1_000_000]) {
      progress(`scale: ${functions} functions on 1 000 nodes`);
      const before = inUse();
      const world = createWorld('table', 1_000, undefined, { functions, maxNodes: 1_000, rememberDecisions: 1 });
      const deployed = inUse() - before;
      const pick = popular(createRandom(seed, 4), functions);
      arrivals(world, 10_000, 1_000, seed, undefined, pick);
      const p95 = Array.from({ length: rounds }, (_, round) => quantile(arrivals(world, 5_000, 1_000, seed + 1 + round, undefined, pick), 0.95));
      world.scheduler.stop();
      figures.push(overRounds(`functions_${functions}_decision_p95`, 'µs', p95, rounds * 5_000), overRounds(`functions_${functions}_bytes_each`, 'B', [deployed / functions], 1));
    }

    const seeds = Array.from({ length: quick ? 3 : 8 }, (_, i) => seed + i);
    const nodes = quick ? 200 : 400, durationMs = quick ? 6_000 : 15_000;
    for (const policy of ['metronome', 'lookahead']) {
      progress(`scale: quality of ${policy} on ${nodes} nodes, ${seeds.length} seeds, against the full scan`);
      figures.push(...qualityFigures(policy, nodes, durationMs, seeds));
    }

    progress('scale: 100 000 arrivals per second on 1 000 nodes');
    const functions = quick ? 10_000 : 100_000;
    const { submitted, completed, cpuS, localShare } = rush(100_000, functions, quick ? 500 : 3_000, seed);
    if (completed !== submitted) throw new Error(`bench scale: ${completed} of ${submitted} completed`);
    figures.push(overRounds('rush_invocations', '', [submitted], 1), overRounds('rush_invocations_per_second', '1/s', [submitted / cpuS], submitted), overRounds('rush_local_share', '%', [100 * localShare], submitted));

    if (context.out !== undefined) {
      const caption = `policy metronome, moving averages, 1 000 functions, 80 % of the slots used, median of ${rounds} rounds`;
      await writePlot(context.out, 'scale-decision', drawLines({
        title: 'What a decision costs', caption, x: { label: 'nodes', type: 'log' }, y: { label: 'µs, median', type: 'log' }, rules: [100],
        series: [{ name: 'indexed above 128 nodes', points: times }, { name: 'all nodes', points: scans }],
      }));
      await writePlot(context.out, 'scale-memory', drawLines({
        title: 'Memory of a scheduler', caption: '1 000 functions, three warm ones and a package set on each node', x: { label: 'nodes', type: 'log' }, y: { label: 'MB', type: 'log' },
        series: [{ name: 'heap and buffers', points: memory.map(({ x, y }) => ({ x, y: y / 1e6 })) }],
      }));
    }
    return { mode: 'sim', figures, params: { policy: 'metronome', predictor: 'moving-average', candidateLimit: 64, rounds, qualityNodes: nodes, qualitySeeds: seeds, qualityDurationMs: durationMs, rushNodes: 1_000, rushFunctions: functions } };
  },
};
