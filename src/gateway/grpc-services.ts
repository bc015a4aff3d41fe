/** The gRPC doors: every service of the scheduler, each method either a submission or one control call to the loop. */
import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import { MetronomeError } from '../core/errors.ts';
import { MAX_SNAPSHOT_BYTES } from '../predictor/pool/snapshot-file.ts';
import { FunctionServiceService, type FunctionServiceServer, type GetBundleResponse } from '../rpc/gen/metronome/v1/function.ts';
import { SchedulerServiceService, type SchedulerServiceServer, type WatchTrafficResponse } from '../rpc/gen/metronome/v1/inspect.ts';
import { InvokeServiceService, type InvokeAsyncResponse, type InvokeRequest, type InvokeResponse, type InvokeServiceServer, type WatchInvocationsResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import { ModelServiceService, type ExportModelResponse, type ImportModelRequest, type ImportModelResponse, type ModelServiceServer } from '../rpc/gen/metronome/v1/model.ts';
import { NodeServiceService, type NodeServiceServer } from '../rpc/gen/metronome/v1/node.ts';
import { WorkflowServiceService, type WorkflowServiceServer } from '../rpc/gen/metronome/v1/workflow.ts';
import { clientStreamHandler, serverStreamHandler, unaryHandler, type CallObserver, type StreamWriter } from '../rpc/handlers.ts';
import { rpcService, type RpcService } from '../rpc/server.ts';
import { toStatus } from '../rpc/status.ts';
import { admit } from './admission.ts';
import { CANCELLED, DEADLINE_EXCEEDED, isDue, loopDeadlineAtMs } from './deadline.ts';
import { followTransitions } from './follow-transitions.ts';
import { followTraffic } from './follow-traffic.ts';
import type { GatewayConfig } from './gateway-config.ts';
import type { InspectHub } from './inspect-hub.ts';
import type { LoopClient } from './loop-client.ts';
import { asBuffer, exactBytes } from './payloads.ts';
import type { ControlMethod, ControlMethods, SettledItem } from './protocol.ts';
import { StreamSession } from './stream-session.ts';

/** What the doors work with. */
export interface GrpcServicesOptions {
  readonly loop: LoopClient;
  readonly hub: InspectHub;
  readonly config: GatewayConfig;
  /** Now on the loop's kind of clock, ms since 1970. */
  readonly nowMs: () => number;
  /** Told of every call that ended. */
  readonly observe: CallObserver;
}

const CHUNK_BYTES = 1024 * 1024;
/** Longest wait of GetInvocation, ms (proto). */
export const MAX_WAIT_MS = 60_000;
/** Largest bundle, bytes (proto: ApplyFunctionRequest.bundle). */
const MAX_BUNDLE_BYTES = 32 * 1024 * 1024;

/** All services of the gateway. */
export function createGrpcServices(options: GrpcServicesOptions): RpcService[] {
  const { loop, hub, config, nowMs, observe } = options;
  const control = <Method extends ControlMethod>(method: Method) =>
    unaryHandler<ControlMethods[Method][0], ControlMethods[Method][1]>((request, context) => loop.call(method, request, context.signal), observe);

  const invoke: InvokeServiceServer = {
    invoke: (call, callback) => invokeUnary(options, call, callback),
    invokeStream: (call) => void new StreamSession(call, { loop, limits: config, nowMs, observe }),
    invokeAsync: unaryHandler((request, context) => {
      if (request.request === undefined) throw new MetronomeError('INVALID_REQUEST', 'The field request is missing.', { component: 'gateway', violations: [{ field: 'request', description: 'is missing' }] });
      return submitAsync(options, request.request, firstValue(context.metadata, 'traceparent'));
    }, observe),
    getInvocation: unaryHandler((request, context) => loop.call('getInvocation', { ...request, waitMs: clampWaitMs(request.waitMs) }, context.signal), observe),
    listInvocations: control('listInvocations'),
    cancelInvocation: control('cancelInvocation'),
    watchInvocations: serverStreamHandler(
      (request, write: StreamWriter<WatchInvocationsResponse>, context) => followTransitions(loop, request, context.signal, (transitions, missed) => write({ transitions, missed })),
      observe,
    ),
  };
  const functions: FunctionServiceServer = {
    applyFunction: unaryHandler((request, context) => {
      if (request.bundle.byteLength > MAX_BUNDLE_BYTES) {
        throw new MetronomeError('PAYLOAD_TOO_LARGE', `The bundle has ${request.bundle.byteLength} bytes; the limit is ${MAX_BUNDLE_BYTES}.`, { component: 'gateway' });
      }
      return loop.call('applyFunction', { ...request, bundle: asBuffer(exactBytes(request.bundle)) }, context.signal);
    }, observe),
    getFunction: control('getFunction'),
    listFunctions: control('listFunctions'),
    deleteFunction: control('deleteFunction'),
    getBundle: serverStreamHandler(async (request, write: StreamWriter<GetBundleResponse>, context) => {
      const { bundle } = await loop.call('getBundle', { digest: request.digest }, context.signal);
      for (const chunk of chunksOf(asBuffer(bundle))) await write({ chunk });
    }, observe),
  };
  const workflows: WorkflowServiceServer = {
    applyWorkflow: control('applyWorkflow'),
    getWorkflow: control('getWorkflow'),
    listWorkflows: control('listWorkflows'),
    deleteWorkflow: control('deleteWorkflow'),
  };
  const nodes: NodeServiceServer = {
    registerNode: control('registerNode'),
    listNodes: control('listNodes'),
    drainNode: control('drainNode'),
    prewarmNode: control('prewarmNode'),
    evictNode: control('evictNode'),
  };
  const scheduler: SchedulerServiceServer = {
    explain: control('explain'),
    plan: control('plan'),
    listPolicies: control('listPolicies'),
    setPolicy: control('setPolicy'),
    getStatus: control('getStatus'),
    setShadowPolicy: control('setShadowPolicy'),
    readTransitions: control('readTransitions'),
    watchTraffic: serverStreamHandler((_request, write: StreamWriter<WatchTrafficResponse>, context) => followTraffic(hub, context.signal, write), observe),
  };
  const model: ModelServiceServer = {
    predict: control('predict'),
    observe: control('observe'),
    getModelStatus: control('getModelStatus'),
    exportModel: serverStreamHandler(async (_request, write: StreamWriter<ExportModelResponse>, context) => {
      const { bytes, version } = await loop.call('exportModel', {}, context.signal);
      for (const chunk of chunksOf(asBuffer(bytes))) await write({ chunk, version });
    }, observe),
    importModel: clientStreamHandler<ImportModelRequest, ImportModelResponse>(async (requests, context) => {
      const parts: Buffer[] = [];
      let size = 0;
      for await (const { chunk } of requests) {
        size += chunk.length;
        if (size > MAX_SNAPSHOT_BYTES) throw new MetronomeError('PAYLOAD_TOO_LARGE', `The snapshot has more than ${MAX_SNAPSHOT_BYTES} bytes.`, { component: 'gateway' });
        parts.push(chunk);
      }
      return loop.call('importModel', { bytes: exactBytes(Buffer.concat(parts)) }, context.signal);
    }, observe),
  };
  return [
    rpcService(InvokeServiceService, invoke),
    rpcService(FunctionServiceService, functions),
    rpcService(WorkflowServiceService, workflows),
    rpcService(NodeServiceService, nodes),
    rpcService(SchedulerServiceService, scheduler),
    rpcService(ModelServiceService, model),
  ];
}

/** Accepts a request durably; resolves with its id. Rejects like admit and submit, and with what the loop refused it for. */
export async function submitAsync(options: Pick<GrpcServicesOptions, 'loop' | 'config' | 'nowMs'>, request: InvokeRequest, traceparent: string): Promise<InvokeAsyncResponse> {
  const { loop, config, nowMs } = options;
  // No call deadline: it bounds the receipt, not the execution. And no cancellation: what may be durable stays.
  const item = admit(request, { ticket: loop.takeTicket(), mode: 'async', nowMs: nowMs(), deadlineAtMs: 0, traceparent }, config);
  const invocationId = await new Promise<string>((resolve, reject) => {
    loop.submit(item, {
      accepted: resolve,
      settled: ({ error }) => reject(error ? MetronomeError.fromRecord(error) : new MetronomeError('INTERNAL', 'The scheduler settled an asynchronous submission.', { component: 'gateway' })),
    });
  });
  return { invocationId };
}

/** Bytes in pieces that fit into a message. */
function* chunksOf(bytes: Buffer): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) yield bytes.subarray(start, start + CHUNK_BYTES);
}

/** A wait as the loop takes it: 0 to MAX_WAIT_MS. */
export function clampWaitMs(waitMs: number): number {
  return waitMs > 0 ? Math.min(waitMs, MAX_WAIT_MS) : 0;
}

/** The hot path of Invoke: no promise, no AbortSignal. */
function invokeUnary(options: GrpcServicesOptions, call: ServerUnaryCall<InvokeRequest, InvokeResponse>, callback: sendUnaryData<InvokeResponse>): void {
  const { loop, config, nowMs, observe } = options;
  const path = call.getPath();
  const fail = (thrown: unknown): void => {
    const status = toStatus(thrown);
    observe(path, status.code);
    callback(status);
  };
  try {
    const ticket = loop.takeTicket();
    const now = nowMs();
    const deadlineAtMs = loopDeadlineAtMs(call.getDeadline(), now);
    const item = admit(call.request, { ticket, mode: 'sync', nowMs: now, deadlineAtMs, traceparent: firstValue(call.metadata, 'traceparent') }, config);
    let over = false;
    loop.submit(item, {
      accepted: ignore,
      settled(outcome: SettledItem) {
        if (over) return;
        over = true;
        if (outcome.response === undefined) {
          fail(outcome.error ? MetronomeError.fromRecord(outcome.error) : new MetronomeError('INTERNAL', 'The scheduler settled the invocation without an outcome.', { component: 'gateway' }));
          return;
        }
        observe(path, 0);
        callback(null, outcome.response);
      },
    });
    // Also emitted after a normal end.
    call.on('cancelled', () => {
      if (over) return;
      over = true;
      const due = isDue(deadlineAtMs, nowMs());
      observe(path, due ? DEADLINE_EXCEEDED : CANCELLED);
      if (!due) loop.cancel(ticket);
    });
  } catch (thrown) {
    fail(thrown);
  }
}

function firstValue(metadata: ServerUnaryCall<unknown, unknown>['metadata'], key: string): string {
  const value = metadata.get(key)[0];
  return typeof value === 'string' ? value : '';
}

function ignore(): void {
  // A synchronous submission is never accepted.
}
