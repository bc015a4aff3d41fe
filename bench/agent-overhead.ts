/**
 * Bench `agent-overhead`: what node metrics cost. A real agent process is watched from outside by the CPU time that the kernel
 * accounts to its threads, in turns with 50 ms pushes and with one push per 10 s; the difference (state_core_share) is sampling, comparing
 * and pushing. The bench takes the scheduler's place, with both streams open and nothing to do. What sampling alone costs
 * (metrics_core_share) is the time of the samples themselves, taken in the bench's own process at the same interval.
 */
import { mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, type ClientReadableStream } from '@grpc/grpc-js';
import { openNodeMetrics } from '../src/agent/metrics/node-metrics.ts';
import { superviseProcess } from '../src/cli/cluster/supervised-process.ts';
import { AgentServiceClient, type WatchStateResponse } from '../src/rpc/gen/metronome/v1/agent.ts';
import { NodeServiceService, type RegisterNodeRequest, type RegisterNodeResponse } from '../src/rpc/gen/metronome/v1/node.ts';
import { unaryHandler } from '../src/rpc/handlers.ts';
import { createRpcServer, rpcService } from '../src/rpc/server.ts';
import { overRounds, quantile, type Bench } from './harness.ts';

const FAST_MS = 50;
const SLOW_MS = 10_000;
const SETTLE_MS = 3_000;
const SAMPLES_PER_ROUND = 40;

/** The agent-overhead bench. */
export const agentOverheadBench: Bench = {
  description: 'CPU that node metrics cost at 50 ms: the samples alone, and with pushing an agent measured from outside',
  async run({ quick, progress }) {
    const rounds = quick ? 5 : 9;
    const windowMs = quick ? 3_000 : 6_000;
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-'));
    await mkdir(join(dir, 'logs'));
    const scheduler = await createRpcServer({
      host: '127.0.0.1', port: 0, reflection: false,
      services: [rpcService(NodeServiceService, { registerNode: unaryHandler<RegisterNodeRequest, RegisterNodeResponse>(() => ({ pushIntervalMs: FAST_MS })) })],
    });
    const agent = superviseProcess({
      name: 'agent', logFile: join(dir, 'logs/agent.log'), cwd: process.cwd(), env: process.env, onEvent: ({ name, kind }) => progress(`${name}: ${kind}`),
      args: () => ['agent', '--exit-with-parent', '--log-level', 'warn', '--scheduler', `127.0.0.1:${scheduler.port}`, '--name', 'node-1', '--data-dir', join(dir, 'agent'), '--grpc-port', '0', '--data-port', '0'],
    });
    let client: AgentServiceClient | undefined;
    try {
      const { grpcAddress } = await agent.start();
      const pid = agent.pid ?? 0;
      client = new AgentServiceClient(String(grpcAddress), credentials.createInsecure());
      const dispatch = client.dispatch().on('error', ignore);
      let messages = 0;
      let withMetrics = 0;
      let watching: ClientReadableStream<WatchStateResponse> | undefined;
      const watch = (intervalMs: number): void => {
        const former = watching;
        watching = client?.watchState({ intervalMs }).on('error', ignore).on('data', ({ metrics }: WatchStateResponse) => {
          messages++;
          if (metrics !== undefined) withMetrics++;
        });
        former?.cancel();
      };
      progress(`agent-overhead: ${rounds} rounds of ${windowMs / 1_000} s at ${FAST_MS} ms and at ${SLOW_MS} ms`);
      watch(FAST_MS);
      await sleep(SETTLE_MS);
      const shares: number[] = [], idle: number[] = [], told: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const share = { [FAST_MS]: 0, [SLOW_MS]: 0 };
        // In turns, each pair the other way round: a drift of the machine hits both.
        for (const intervalMs of round % 2 === 0 ? [FAST_MS, SLOW_MS] as const : [SLOW_MS, FAST_MS] as const) {
          watch(intervalMs);
          await sleep(300);
          messages = withMetrics = 0;
          const beforeNs = await cpuNs(pid);
          const begin = performance.now();
          await sleep(windowMs);
          share[intervalMs] = (await cpuNs(pid) - beforeNs) / 1e6 / (performance.now() - begin);
          if (intervalMs !== FAST_MS) continue;
          if (messages < windowMs / FAST_MS / 2) throw new Error(`bench agent-overhead: only ${messages} pushes in ${windowMs} ms`);
          told.push(withMetrics / messages);
        }
        shares.push(share[FAST_MS] - share[SLOW_MS]);
        idle.push(share[FAST_MS]);
      }
      dispatch.cancel();
      watching?.cancel();

      progress(`agent-overhead: ${rounds * SAMPLES_PER_ROUND} samples`);
      const reader = openNodeMetrics('auto');
      const times: number[] = [], sampling: number[] = [];
      for (let round = 0; round < rounds; round++) {
        let sumMs = 0;
        for (let i = 0; i < SAMPLES_PER_ROUND; i++) {
          await sleep(FAST_MS);
          const begin = performance.now();
          reader.sample();
          const tookMs = performance.now() - begin;
          times.push(tookMs * 1_000);
          sumMs += tookMs;
        }
        sampling.push(sumMs / SAMPLES_PER_ROUND / FAST_MS);
      }
      reader.close();
      times.sort((a, b) => a - b);
      return {
        mode: 'real',
        figures: [
          overRounds('metrics_core_share', 'core', sampling, times.length), overRounds('state_core_share', 'core', shares, rounds), overRounds('idle_core_share', 'core', idle, rounds), overRounds('told_share', '', told, rounds),
          overRounds('sample_p50', 'µs', [quantile(times, 0.5)], times.length), overRounds('sample_p95', 'µs', [quantile(times, 0.95)], times.length),
        ],
        params: { intervalMs: FAST_MS, comparedToMs: SLOW_MS, windowMs, rounds, source: reader.source },
      };
    } finally {
      client?.close();
      await agent.stop(5_000);
      await scheduler.stop(0);
      await rm(dir, { recursive: true, force: true });
    }
  },
};

/** CPU time of all threads of a process so far, nanoseconds. */
async function cpuNs(pid: number): Promise<number> {
  let sum = 0;
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    // A thread that just ended takes its part along; the agent's threads live as long as it does.
    const text = await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').catch(() => '0');
    sum += Number(text.split(' ')[0]);
  }
  return sum;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Streams that are cancelled say so. */
function ignore(): void {}
