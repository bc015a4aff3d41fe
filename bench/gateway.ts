/**
 * Bench `gateway`: a warm no-op function over gRPC through the real processes (client here; scheduler with gateway, agents and sandboxes
 * elsewhere). Open loop at 100/s, safe against coordinated omission: latencies count from when a request should have left.
 * `added` is what everything but the handler costs. Closed loop over InvokeStream for the throughput; every reply is counted.
 */
import { openBenchCluster, warmUp } from './cluster.ts';
import { overRounds, quantile, type Bench, type Figure } from './harness.ts';

const NODES = 3;
const SLOTS = 2;
const RATE = 100;
const IN_FLIGHT = 64;

/** The gateway bench. */
export const gatewayBench: Bench = {
  description: 'a warm no-op through gateway, scheduler and agent: added latency at 100/s, throughput over InvokeStream',
  async run({ quick, progress }) {
    const bench = await openBenchCluster(NODES, SLOTS, progress);
    const { client } = bench;
    try {
      progress('gateway: warming up');
      await warmUp(client, NODES * SLOTS, 'noop');
      const rounds = quick ? 2 : 3;
      const seconds = quick ? 3 : 4;
      const p50: number[] = [], p99: number[] = [], throughput: number[] = [], closedP50: number[] = [];
      let lost = 0, sent = 0, warm = 0;
      for (let round = 0; round < rounds; round++) {
        progress(`gateway: round ${round + 1} of ${rounds}: ${RATE}/s for ${seconds} s, then closed loops`);
        const added: number[] = [];
        const calls: Promise<void>[] = [];
        const count = RATE * seconds;
        const begin = performance.now() + 50;
        for (let i = 0; i < count; i++) {
          const dueMs = begin + (i * 1_000) / RATE;
          const restMs = dueMs - performance.now();
          if (restMs > 0) await new Promise((resolve) => setTimeout(resolve, restMs));
          sent++;
          calls.push(client.invoke({ function: 'noop' }).then(
            ({ phases }) => {
              added.push(performance.now() - dueMs - (phases?.ranMs ?? 0));
              if (phases?.startState === 4) warm++;
            },
            () => void lost++,
          ));
        }
        await Promise.all(calls);
        added.sort((a, b) => a - b);
        p50.push(quantile(added, 0.5));
        p99.push(quantile(added, 0.99));

        // One after the other, without a timer in between: what a caller in a loop sees.
        const alone: number[] = [];
        for (let i = 0; i < 300; i++) {
          const at = performance.now();
          await client.invoke({ function: 'noop' });
          alone.push(performance.now() - at);
        }
        closedP50.push(quantile(alone.sort((a, b) => a - b), 0.5));

        const stream = client.openInvokeStream({ maxInFlight: IN_FLIGHT });
        const endMs = performance.now() + seconds * 1_000;
        let done = 0;
        const startMs = performance.now();
        await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
          while (performance.now() < endMs) {
            sent++;
            try {
              await stream.invoke({ function: 'noop' });
              done++;
            } catch {
              lost++;
            }
          }
        }));
        throughput.push(done / ((performance.now() - startMs) / 1_000));
        await stream.close();
      }
      const figures: Figure[] = [
        overRounds('added_p50', 'ms', p50, rounds * RATE * seconds), overRounds('added_p99', 'ms', p99, rounds * RATE * seconds),
        overRounds('closed_loop_p50', 'ms', closedP50, rounds * 300), overRounds('throughput', '1/s', throughput, rounds),
        overRounds('lost', '', [lost], sent), overRounds('warm_share', '', [warm / (rounds * RATE * seconds)], rounds * RATE * seconds),
      ];
      return { mode: 'real', figures, params: { nodes: NODES, slotsPerNode: SLOTS, ratePerSecond: RATE, inFlight: IN_FLIGHT, seconds, rounds, function: 'apps/hello noop (node)' } };
    } finally {
      await bench.close();
    }
  },
};
