/** A loop that answers as told, at the other end of a memory line: for tests of the doors alone. */
import { MetronomeError, type ErrorCode } from '../../src/core/errors.ts';
import { startGateway, type Gateway } from '../../src/gateway/gateway.ts';
import { DEFAULT_GATEWAY_CONFIG, type GatewayConfig } from '../../src/gateway/gateway-config.ts';
import { createMemoryLine } from '../../src/gateway/lines.ts';
import type { ControlMethod, ControlMethods, GatewayMessage, Line, LoopMessage, SubmitItem } from '../../src/gateway/protocol.ts';
import { LocalityClass, Phases } from '../../src/rpc/gen/metronome/v1/common.ts';
import { InvokeResponse, type WatchInvocationsRequest } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { createClient, type SchedulerClient } from '../../src/rpc/client.ts';

type Handlers = { [Method in ControlMethod]?: (request: ControlMethods[Method][0]) => ControlMethods[Method][1] | Promise<ControlMethods[Method][1]> };

export interface FakeLoop {
  readonly submitted: SubmitItem[];
  readonly batches: number[];
  readonly cancelled: number[];
  readonly calls: { readonly method: ControlMethod; readonly request: unknown; readonly call: number }[];
  readonly ended: number[];
  readonly watches: { readonly call: number; readonly request: WatchInvocationsRequest }[];
  readonly handlers: Handlers;
  /** What gateway and loop told each other about its life. */
  readonly messages: GatewayMessage[];
  post(message: LoopMessage): void;
  settle(ticket: number, payload?: Uint8Array): void;
}

/**
 * Answers submissions by target: "echo" returns the payload, "hang" waits for a cancellation or settle(), "missing" is
 * FUNCTION_NOT_FOUND, "fails" is FUNCTION_FAILED, "full" is QUEUE_FULL, "nodeless" is NO_NODES. Asynchronous ones are accepted.
 */
export function createFakeLoop(line: Line<GatewayMessage, LoopMessage>): FakeLoop {
  const refusals: Record<string, ErrorCode> = { missing: 'FUNCTION_NOT_FOUND', fails: 'FUNCTION_FAILED', full: 'QUEUE_FULL', nodeless: 'NO_NODES' };
  const loop: FakeLoop = {
    submitted: [], batches: [], cancelled: [], calls: [], ended: [], watches: [], handlers: {}, messages: [],
    post: (message) => line.post(message),
    settle: (ticket, payload = new Uint8Array()) => line.post({ kind: 'settled', items: [{ ticket, response: responseFor(ticket, payload, 'application/json') }] }),
  };
  const submit = (items: readonly SubmitItem[]): void => {
    loop.batches.push(items.length);
    const settled = [];
    for (const item of items) {
      loop.submitted.push(item);
      const code = refusals[item.target];
      if (code !== undefined) {
        const failure = code === 'FUNCTION_FAILED' ? { functionError: { type: 'TypeError', message: 'x is not a function', stack: 'at handler' }, invocationId: `inv-${item.ticket}` } : {};
        settled.push({ ticket: item.ticket, error: { code, message: `refused: ${item.target}`, component: 'scheduler', ...failure, ...(code === 'QUEUE_FULL' ? { retryAfterMs: 1_500 } : {}) } });
      } else if (item.target !== 'hang' && item.mode === 'sync') {
        settled.push({ ticket: item.ticket, response: responseFor(item.ticket, item.payload, item.contentType) });
      } else if (item.mode === 'async') {
        line.post({ kind: 'accepted', items: [{ ticket: item.ticket, invocationId: `inv-${item.ticket}` }] });
      }
    }
    if (settled.length > 0) line.post({ kind: 'settled', items: settled });
  };
  const answer = async (call: number, method: ControlMethod, request: unknown): Promise<void> => {
    loop.calls.push({ method, request, call });
    // The request fits its method: the gateway's promise, which the table cannot express.
    const handler = loop.handlers[method] as ((request: unknown) => unknown) | undefined;
    try {
      if (handler === undefined) throw new MetronomeError('UNIMPLEMENTED', `no handler for ${method}`);
      line.post({ kind: 'reply', call, response: await handler(request) });
    } catch (thrown) {
      line.post({ kind: 'failed', call, error: MetronomeError.from(thrown).toRecord() });
    }
  };
  line.onMessage((message) => {
    loop.messages.push(message);
    if (message.kind === 'submit') submit(message.items);
    else if (message.kind === 'call') void answer(message.call, message.method, message.request);
    else if (message.kind === 'watch') loop.watches.push(message);
    else if (message.kind === 'endCall') loop.ended.push(message.call);
    else if (message.kind === 'cancel') {
      loop.cancelled.push(...message.tickets);
      line.post({ kind: 'settled', items: message.tickets.map((ticket) => ({ ticket, error: { code: 'CANCELLED' as const, message: 'cancelled', component: 'scheduler' } })) });
    }
  });
  return loop;
}

export function responseFor(ticket: number, payload: Uint8Array, contentType: string): InvokeResponse {
  return InvokeResponse.fromPartial({
    invocationId: `inv-${ticket}`,
    payload: Buffer.from(payload),
    contentType,
    node: 'n1',
    reason: 'bestNodeHasRoom',
    attempt: 1,
    locality: { class: LocalityClass.LOCAL, degree: 1, data: 1, infrastructure: 1 },
    phases: Phases.fromPartial({ predictedMs: 0.1, dispatchedMs: 0.5, ranMs: 2, totalMs: 3 }),
  });
}

export interface TestGateway {
  readonly gateway: Gateway;
  readonly loop: FakeLoop;
  readonly client: SchedulerClient;
  readonly address: string;
  readonly http: string;
  close(): Promise<void>;
}

/** A gateway on free ports with a fake loop behind it, serving. */
export async function startTestGateway(overrides: Partial<GatewayConfig> = {}): Promise<TestGateway> {
  const [gatewayEnd, loopEnd] = createMemoryLine<GatewayMessage, LoopMessage>();
  const loop = createFakeLoop(loopEnd);
  const gateway = await startGateway({ line: gatewayEnd, config: { ...DEFAULT_GATEWAY_CONFIG, version: 'test', ...overrides } });
  const address = `127.0.0.1:${gateway.grpcPort}`;
  const client = createClient({ address, channelOptions: { 'grpc.use_local_subchannel_pool': 1 } });
  loop.post({ kind: 'serving', serving: true });
  return {
    gateway, loop, client, address,
    http: `http://127.0.0.1:${gateway.httpPort}`,
    async close() {
      client.close();
      await gateway.stop(0);
      gatewayEnd.close();
    },
  };
}

/** The error that a promise rejects with; fails when it does not. */
export async function failure(promise: Promise<unknown>): Promise<MetronomeError> {
  const outcome = await promise.then(() => undefined, (error: unknown) => error);
  if (!(outcome instanceof MetronomeError)) throw new Error(`expected a MetronomeError, got ${String(outcome)}`);
  return outcome;
}
