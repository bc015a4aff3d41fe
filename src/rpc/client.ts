/**
 * The scheduler's API as promises and async iterables: for the CLI, agents, benches, tests and Node programs.
 * Every failure is a MetronomeError.
 */
import { Client, Metadata, credentials, type CallOptions as GrpcCallOptions, type ChannelOptions, type ClientReadableStream } from '@grpc/grpc-js';
import { MetronomeError } from '../core/errors.ts';
import { callError, unreachable } from './call-error.ts';
import { ApplyFunctionRequest, DeleteFunctionRequest, FunctionServiceService, GetBundleRequest, GetFunctionRequest, ListFunctionsRequest } from './gen/metronome/v1/function.ts';
import { ExplainRequest, GetStatusRequest, ListPoliciesRequest, PlanRequest, ReadTransitionsRequest, SchedulerServiceService, SetPolicyRequest, SetShadowPolicyRequest, WatchTrafficRequest } from './gen/metronome/v1/inspect.ts';
import { CancelInvocationRequest, GetInvocationRequest, InvokeAsyncRequest, InvokeRequest, InvokeServiceService, ListInvocationsRequest, WatchInvocationsRequest } from './gen/metronome/v1/invoke.ts';
import { ExportModelRequest, GetModelStatusRequest, ImportModelRequest, ModelServiceService, ObserveRequest, PredictRequest } from './gen/metronome/v1/model.ts';
import { DrainNodeRequest, EvictNodeRequest, ListNodesRequest, NodeServiceService, PrewarmNodeRequest, RegisterNodeRequest } from './gen/metronome/v1/node.ts';
import { ApplyWorkflowRequest, DeleteWorkflowRequest, GetWorkflowRequest, ListWorkflowsRequest, WorkflowServiceService } from './gen/metronome/v1/workflow.ts';
import { openInvokeStream, type InvokeStream, type InvokeStreamOptions } from './invoke-stream.ts';
import { completeMessage, type MessageCodec, type PartialMessage } from './partial.ts';
import { MAX_MESSAGE_BYTES } from './limits.ts';

/** Where the scheduler is. */
export interface ClientOptions {
  /** host:port of the gateway's gRPC door. */
  readonly address: string;
  /** Further or other channel options of grpc-js; `'grpc.use_local_subchannel_pool': 1` gives a connection of its own. */
  readonly channelOptions?: ChannelOptions;
}

/** What a single call may be given. */
export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** Deadline from now, ms. Default: none. */
  readonly timeoutMs?: number;
  /** Further metadata; lower-case keys. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A call with one request and one response. Fields left out get their defaults. */
export type UnaryCall<Request, Response> = (request: PartialMessage<Request>, options?: CallOptions) => Promise<Response>;
/** A call with one request and many responses. Leaving the loop cancels it. */
export type StreamCall<Request, Response> = (request: PartialMessage<Request>, options?: CallOptions) => AsyncIterable<Response>;
/** A call with many requests and one response. */
export type UploadCall<Request, Response> = (requests: Iterable<PartialMessage<Request>> | AsyncIterable<PartialMessage<Request>>, options?: CallOptions) => Promise<Response>;

/** A connection to the scheduler. Made by {@link createClient}. */
export type SchedulerClient = ReturnType<typeof createClient>;

/** Opens a connection lazily: the first call connects. */
export function createClient(options: ClientOptions) {
  const { address } = options;
  const channel = new Client(address, credentials.createInsecure(), {
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    // A scheduler that comes back is found within a second, not after grpc-js's default backoff of up to two minutes.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 1_000,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_channelz': 0,
    ...options.channelOptions,
  });
  const unary = <Request, Response>(method: Method<Request, Response>, codec: MessageCodec<Request>): UnaryCall<Request, Response> =>
    (request, callOptions) => callUnary(channel, address, method, completeMessage(codec, request), callOptions);
  const stream = <Request, Response>(method: Method<Request, Response>, codec: MessageCodec<Request>): StreamCall<Request, Response> =>
    (request, callOptions) => callStream(channel, address, method, completeMessage(codec, request), callOptions);

  const upload = <Request, Response>(method: Method<Request, Response>, codec: MessageCodec<Request>): UploadCall<Request, Response> =>
    (requests, callOptions) => callUpload(channel, address, method, codec, requests, callOptions);

  const { invoke, invokeAsync, getInvocation, listInvocations, cancelInvocation, watchInvocations } = InvokeServiceService;
  const { applyFunction, getFunction, listFunctions, deleteFunction, getBundle } = FunctionServiceService;
  const { applyWorkflow, getWorkflow, listWorkflows, deleteWorkflow } = WorkflowServiceService;
  const { registerNode, listNodes, drainNode, prewarmNode, evictNode } = NodeServiceService;
  const { explain, plan, listPolicies, setPolicy, getStatus, setShadowPolicy, readTransitions, watchTraffic } = SchedulerServiceService;
  const { predict, observe, getModelStatus, exportModel, importModel } = ModelServiceService;
  return {
    address,
    invoke: unary(invoke, InvokeRequest),
    invokeAsync: unary(invokeAsync, InvokeAsyncRequest),
    getInvocation: unary(getInvocation, GetInvocationRequest),
    listInvocations: unary(listInvocations, ListInvocationsRequest),
    cancelInvocation: unary(cancelInvocation, CancelInvocationRequest),
    watchInvocations: stream(watchInvocations, WatchInvocationsRequest),
    /** Many invocations in flight on one stream, batched in both directions. */
    openInvokeStream: (streamOptions: InvokeStreamOptions = {}): InvokeStream => openInvokeStream(channel, address, streamOptions),

    applyFunction: unary(applyFunction, ApplyFunctionRequest),
    getFunction: unary(getFunction, GetFunctionRequest),
    listFunctions: unary(listFunctions, ListFunctionsRequest),
    deleteFunction: unary(deleteFunction, DeleteFunctionRequest),
    getBundle: stream(getBundle, GetBundleRequest),

    applyWorkflow: unary(applyWorkflow, ApplyWorkflowRequest),
    getWorkflow: unary(getWorkflow, GetWorkflowRequest),
    listWorkflows: unary(listWorkflows, ListWorkflowsRequest),
    deleteWorkflow: unary(deleteWorkflow, DeleteWorkflowRequest),

    registerNode: unary(registerNode, RegisterNodeRequest),
    listNodes: unary(listNodes, ListNodesRequest),
    drainNode: unary(drainNode, DrainNodeRequest),
    prewarmNode: unary(prewarmNode, PrewarmNodeRequest),
    evictNode: unary(evictNode, EvictNodeRequest),

    explain: unary(explain, ExplainRequest),
    plan: unary(plan, PlanRequest),
    listPolicies: unary(listPolicies, ListPoliciesRequest),
    setPolicy: unary(setPolicy, SetPolicyRequest),
    getStatus: unary(getStatus, GetStatusRequest),
    setShadowPolicy: unary(setShadowPolicy, SetShadowPolicyRequest),
    readTransitions: unary(readTransitions, ReadTransitionsRequest),
    watchTraffic: stream(watchTraffic, WatchTrafficRequest),

    predict: unary(predict, PredictRequest),
    observe: unary(observe, ObserveRequest),
    getModelStatus: unary(getModelStatus, GetModelStatusRequest),
    exportModel: stream(exportModel, ExportModelRequest),
    importModel: upload(importModel, ImportModelRequest),

    /** Connects, waiting at most `timeoutMs` for the other side to listen. Fails with UNAVAILABLE. */
    waitForReady: (timeoutMs: number): Promise<void> =>
      new Promise((resolve, reject) => {
        channel.waitForReady(Date.now() + timeoutMs, (error) => (error ? reject(unreachable(address, error)) : resolve()));
      }),
    /** Closes the connection; calls in flight fail. */
    close: (): void => channel.close(),
  };
}

interface Method<Request, Response> {
  readonly path: string;
  readonly requestSerialize: (value: Request) => Buffer;
  readonly responseDeserialize: (value: Buffer) => Response;
}

function callUnary<Request, Response>(channel: Client, address: string, method: Method<Request, Response>, request: Request, options: CallOptions = {}): Promise<Response> {
  return new Promise((resolve, reject) => {
    const { signal } = options;
    if (signal?.aborted) {
      reject(cancelled());
      return;
    }
    let onAbort: (() => void) | undefined;
    const call = channel.makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, request, toMetadata(options), toGrpcOptions(options), (error, response) => {
      if (onAbort) signal?.removeEventListener('abort', onAbort);
      if (error) reject(callError(address, error));
      else if (response === undefined) reject(new MetronomeError('INTERNAL', `The scheduler at ${address} answered ${method.path} with nothing.`));
      else resolve(response);
    });
    if (signal) {
      onAbort = (): void => call.cancel();
      signal.addEventListener('abort', onAbort, { once: true });
    }
  });
}

async function* callStream<Request, Response>(channel: Client, address: string, method: Method<Request, Response>, request: Request, options: CallOptions = {}): AsyncGenerator<Response, void, undefined> {
  const { signal } = options;
  if (signal?.aborted) throw cancelled();
  const call: ClientReadableStream<Response> = channel.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, request, toMetadata(options), toGrpcOptions(options));
  const onAbort = (): void => call.cancel();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const message of call) yield message as Response;
  } catch (thrown) {
    throw callError(address, thrown);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    // When the reader left the loop early, the cancellation surfaces as an 'error' event that nobody waits for.
    call.on('error', () => {});
    call.cancel();
  }
}

async function callUpload<Request, Response>(channel: Client, address: string, method: Method<Request, Response>, codec: MessageCodec<Request>, requests: Iterable<PartialMessage<Request>> | AsyncIterable<PartialMessage<Request>>, options: CallOptions = {}): Promise<Response> {
  const { signal } = options;
  if (signal?.aborted) throw cancelled();
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  let isOver = false;
  const call = channel.makeClientStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, toMetadata(options), toGrpcOptions(options), (error, response) => {
    isOver = true;
    if (error) reject(callError(address, error));
    else if (response === undefined) reject(new MetronomeError('INTERNAL', `The scheduler at ${address} answered ${method.path} with nothing.`));
    else resolve(response);
  });
  const onAbort = (): void => call.cancel();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const request of requests) {
      if (isOver) break; // refused before all was sent
      if (!call.write(completeMessage(codec, request))) await Promise.race([new Promise((go) => call.once('drain', go)), promise]);
    }
    call.end();
    return await promise;
  } catch (error) {
    // What was to be sent could not be made: the call ends with it, and what becomes of it nobody asks any more.
    promise.catch(() => {});
    if (!isOver) call.cancel();
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

function cancelled(): MetronomeError {
  return new MetronomeError('CANCELLED', 'The call was cancelled before it was sent.');
}

function toMetadata(options: CallOptions): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
  return metadata;
}

function toGrpcOptions(options: CallOptions): GrpcCallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

