/** The scheduler's side of one agent, for benches: both streams, and calls that resolve with the Result. */
import { credentials } from '@grpc/grpc-js';
import { AgentServiceClient, type DispatchResponse, type Result, type WatchStateResponse, type ZygoteState } from '../src/rpc/gen/metronome/v1/agent.ts';
import type { FunctionMessage } from '../src/rpc/gen/metronome/v1/function.ts';

/** A client of an agent. */
export interface BenchAgentClient {
  /** Runs a function once with an empty event; rejects when the agent refuses or the function fails. */
  run(definition: FunctionMessage): Promise<Result>;
  /** Resolves when a zygote with this package set is ready (true), or none is (false). */
  whenZygote(packageSet: string, isReady: boolean): Promise<void>;
  /** Ends what is idle, or the zygotes, of a function. */
  evict(functionName: string, zygotes: boolean): Promise<number>;
  close(): void;
}

/** How long anything may take, ms. */
const PATIENCE_MS = 180_000;

/** Opens the streams. */
export function openAgentClient(address: string): BenchAgentClient {
  const stub = new AgentServiceClient(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1, 'grpc.max_receive_message_length': 64 * 1024 ** 2 });
  const pending = new Map<string, { resolve(result: Result): void; reject(error: Error): void }>();
  const ready = new Map<string, number>();
  const waiting = new Set<() => void>();
  let calls = 0;
  const dispatch = stub.dispatch();
  dispatch.on('error', () => {}); // the end of it
  dispatch.on('data', ({ events }: DispatchResponse) => {
    for (const { invocationId, result, rejected } of events) {
      if (result === undefined && rejected === undefined) continue;
      const call = pending.get(invocationId);
      pending.delete(invocationId);
      dispatch.write({ commands: [{ acknowledge: invocationId }] });
      if (rejected !== undefined) call?.reject(new Error(`${rejected.code}: ${rejected.message}`));
      else if (result?.error !== undefined) call?.reject(new Error(`${result.error.code}: ${result.error.message}`));
      else if (result !== undefined) call?.resolve(result);
    }
  });
  const states = stub.watchState({ intervalMs: 50 });
  states.on('error', () => {}); // likewise
  states.on('data', ({ zygotes }: WatchStateResponse) => {
    zygotes.forEach(({ packageSet, idle }: ZygoteState) => ready.set(packageSet, idle));
    for (const look of waiting) look();
  });
  return {
    run(definition) {
      const invocationId = `call-${calls++}`;
      const { promise, resolve, reject } = Promise.withResolvers<Result>();
      pending.set(invocationId, { resolve, reject });
      dispatch.write({
        commands: [{
          execute: {
            invocationId, attempt: 1, function: definition.spec?.name ?? '', version: definition.version, payload: Buffer.alloc(0), contentType: 'application/json', inputs: [], holderUrls: {}, deadlineUnixMs: 0, traceparent: '', owner: '', ownerTtlMs: 0, definition,
          },
        }],
      });
      return promise;
    },
    whenZygote(packageSet, isReady) {
      return new Promise((resolve, reject) => {
        const end = (error?: Error): void => {
          waiting.delete(look);
          clearTimeout(timer);
          if (error === undefined) resolve();
          else reject(error);
        };
        const look = (): void => {
          if ((ready.get(packageSet) ?? 0) > 0 === isReady) end();
        };
        const timer = setTimeout(() => end(new Error(`The zygote of ${packageSet} is ${isReady ? 'not ready' : 'still there'} after ${PATIENCE_MS} ms.`)), PATIENCE_MS);
        waiting.add(look);
        look();
      });
    },
    evict: (functionName, zygotes) => new Promise((resolve, reject) => stub.evict({ function: functionName, count: 0, zygotes }, (error, response) => (error === null ? resolve(response.evicted) : reject(error)))),
    close() {
      dispatch.cancel();
      states.cancel();
      stub.close();
    },
  };
}
