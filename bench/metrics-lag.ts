/**
 * Bench `metrics-lag`: how old the scheduler's picture of the chosen node is when it decides, and how long after its release a slot is seen to be
 * free. Both are measured by the scheduler itself, at every dispatch and every result (GetStatus counters), over real processes with 50 ms pushes.
 */
import { openBenchCluster, warmUp } from './cluster.ts';
import { overRounds, type Bench } from './harness.ts';

const NODES = 3;
const SLOTS = 2;
const RATE = 50;

/** The metrics-lag bench. */
export const metricsLagBench: Bench = {
  description: "age of the node state at a decision, and how late a release is seen (50 ms pushes, three agents)",
  async run({ quick, progress }) {
    const bench = await openBenchCluster(NODES, SLOTS, progress);
    const { client } = bench;
    try {
      await warmUp(client, NODES * SLOTS, 'noop');
      const rounds = 3;
      const seconds = quick ? 3 : 8;
      const columns: Record<string, number[]> = { stateAgeP50Ms: [], stateAgeP95Ms: [], releaseSeenP50Ms: [], releaseSeenP95Ms: [] };
      for (let round = 0; round < rounds; round++) {
        progress(`metrics-lag: round ${round + 1} of ${rounds}: ${RATE}/s for ${seconds} s`);
        const calls: Promise<unknown>[] = [];
        const begin = performance.now();
        for (let i = 0; i < RATE * seconds; i++) {
          // Not in step with the 50 ms pushes: 20.3 ms apart.
          const restMs = begin + i * (1_000 / RATE + 0.3) - performance.now();
          if (restMs > 0) await new Promise((resolve) => setTimeout(resolve, restMs));
          calls.push(client.invoke({ function: 'noop' }));
        }
        await Promise.all(calls);
        const { counters } = await client.getStatus({});
        for (const [name, values] of Object.entries(columns)) values.push(counters[name] ?? Number.NaN);
      }
      const n = rounds * RATE * seconds;
      return {
        mode: 'real',
        figures: [
          overRounds('state_age_p50', 'ms', columns['stateAgeP50Ms'] ?? [], n), overRounds('state_age_p95', 'ms', columns['stateAgeP95Ms'] ?? [], n),
          overRounds('release_seen_p50', 'ms', columns['releaseSeenP50Ms'] ?? [], n), overRounds('release_seen_p95', 'ms', columns['releaseSeenP95Ms'] ?? [], n),
        ],
        params: { nodes: NODES, slotsPerNode: SLOTS, ratePerSecond: RATE, pushIntervalMs: 50, seconds, rounds },
      };
    } finally {
      await bench.close();
    }
  },
};
