/**
 * The messages between the front doors (gateway) and the scheduler's loop. The gateway runs in a thread or process
 * of its own; all that passes is plain data in batches, so either side can be tested alone.
 */
import type { ErrorRecord } from '../core/errors.ts';
import type { Hello, InvocationList, NodeDetail, NodeList, Tick, TransitionsEvent } from '../inspect/page-api.ts';
import type { ApplyFunctionRequest, ApplyFunctionResponse, DeleteFunctionRequest, DeleteFunctionResponse, GetFunctionRequest, GetFunctionResponse, ListFunctionsRequest, ListFunctionsResponse } from '../rpc/gen/metronome/v1/function.ts';
import type { ExplainRequest, ExplainResponse, GetStatusRequest, GetStatusResponse, ListPoliciesRequest, ListPoliciesResponse, PlanRequest, PlanResponse, ReadTransitionsRequest, ReadTransitionsResponse, SetPolicyRequest, SetPolicyResponse, SetShadowPolicyRequest, SetShadowPolicyResponse } from '../rpc/gen/metronome/v1/inspect.ts';
import type { CancelInvocationRequest, CancelInvocationResponse, GetInvocationRequest, GetInvocationResponse, InvokeResponse, ListInvocationsRequest, ListInvocationsResponse, Transition, WatchInvocationsRequest } from '../rpc/gen/metronome/v1/invoke.ts';
import type { GetModelStatusRequest, GetModelStatusResponse, ImportModelResponse, ObserveRequest, ObserveResponse, PredictRequest, PredictResponse } from '../rpc/gen/metronome/v1/model.ts';
import type { DrainNodeRequest, DrainNodeResponse, EvictNodeRequest, EvictNodeResponse, ListNodesRequest, ListNodesResponse, PrewarmNodeRequest, PrewarmNodeResponse, RegisterNodeRequest, RegisterNodeResponse } from '../rpc/gen/metronome/v1/node.ts';
import type { ApplyWorkflowRequest, ApplyWorkflowResponse, DeleteWorkflowRequest, DeleteWorkflowResponse, GetWorkflowRequest, GetWorkflowResponse, ListWorkflowsRequest, ListWorkflowsResponse } from '../rpc/gen/metronome/v1/workflow.ts';
import type { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';

/** A two-way line for plain data: a MessagePort, a Worker, or a child process's IPC channel. */
export interface Line<Incoming, Outgoing> {
  post(message: Outgoing): void;
  onMessage(listener: (message: Incoming) => void): void;
  close(): void;
}

/** Asks the loop to run something. */
export interface SubmitItem {
  /** Chosen by the gateway, unique among what is in flight. */
  readonly ticket: number;
  /** sync: settled when it ended. async: accepted when it is durable; never settled. */
  readonly mode: 'sync' | 'async';
  /** Function or workflow name. */
  readonly target: string;
  readonly payload: Uint8Array;
  readonly contentType: string;
  readonly inputs: readonly ObjectRef[];
  readonly idempotencyKey: string;
  /** 0: the function's own. */
  readonly slaMs: number;
  /** Absolute, ms since 1970; 0: none. The gateway takes the earlier of timeout_ms and the gRPC deadline. */
  readonly deadlineAtMs: number;
  readonly localityKey: string;
  readonly policy: string;
  readonly traceparent: string;
}

/** The end of a synchronous submission: exactly one of response and error. */
export interface SettledItem {
  readonly ticket: number;
  readonly response?: InvokeResponse;
  readonly error?: ErrorRecord;
}

/** Everything the control plane answers: one request, one response. */
export interface ControlMethods {
  getInvocation: [GetInvocationRequest, GetInvocationResponse];
  listInvocations: [ListInvocationsRequest, ListInvocationsResponse];
  cancelInvocation: [CancelInvocationRequest, CancelInvocationResponse];
  applyFunction: [ApplyFunctionRequest, ApplyFunctionResponse];
  getFunction: [GetFunctionRequest, GetFunctionResponse];
  listFunctions: [ListFunctionsRequest, ListFunctionsResponse];
  deleteFunction: [DeleteFunctionRequest, DeleteFunctionResponse];
  /** The whole bundle; the gateway cuts it into chunks. */
  getBundle: [{ digest: string }, { bundle: Uint8Array }];
  applyWorkflow: [ApplyWorkflowRequest, ApplyWorkflowResponse];
  getWorkflow: [GetWorkflowRequest, GetWorkflowResponse];
  listWorkflows: [ListWorkflowsRequest, ListWorkflowsResponse];
  deleteWorkflow: [DeleteWorkflowRequest, DeleteWorkflowResponse];
  registerNode: [RegisterNodeRequest, RegisterNodeResponse];
  listNodes: [ListNodesRequest, ListNodesResponse];
  drainNode: [DrainNodeRequest, DrainNodeResponse];
  prewarmNode: [PrewarmNodeRequest, PrewarmNodeResponse];
  evictNode: [EvictNodeRequest, EvictNodeResponse];
  explain: [ExplainRequest, ExplainResponse];
  plan: [PlanRequest, PlanResponse];
  listPolicies: [ListPoliciesRequest, ListPoliciesResponse];
  setPolicy: [SetPolicyRequest, SetPolicyResponse];
  getStatus: [GetStatusRequest, GetStatusResponse];
  predict: [PredictRequest, PredictResponse];
  observe: [ObserveRequest, ObserveResponse];
  getModelStatus: [GetModelStatusRequest, GetModelStatusResponse];
  /** The whole snapshot; the gateway cuts it into chunks and puts it together. */
  exportModel: [object, { bytes: Uint8Array; version: number }];
  importModel: [{ bytes: Uint8Array }, ImportModelResponse];
  setShadowPolicy: [SetShadowPolicyRequest, SetShadowPolicyResponse];
  readTransitions: [ReadTransitionsRequest, ReadTransitionsResponse];
  inspectInvocations: [InspectInvocationsRequest, InvocationList];
  inspectNodes: [{ limit: number }, NodeList];
  inspectNode: [{ name: string }, NodeDetail];
}

/** What invocations the page wants to see: all that fit every part that is given. */
export interface InspectInvocationsRequest {
  /** Name of a state; '': any. */
  readonly state: string;
  /** '': any. */
  readonly function: string;
  /** It runs there or waits for it; '': any. */
  readonly node: string;
  /** 1 to 500. */
  readonly limit: number;
  /** Arrived before; 0: any. */
  readonly beforeMs: number;
  /** Those of the same time come in with a smaller number than this; 0: none. */
  readonly beforeSeq: number;
}

export type ControlMethod = keyof ControlMethods;

/** From the gateway to the loop. */
export type GatewayMessage =
  | { readonly kind: 'submit'; readonly items: readonly SubmitItem[] }
  /** The callers of these tickets went away or cancelled; their settlements still come. */
  | { readonly kind: 'cancel'; readonly tickets: readonly number[] }
  | { readonly kind: 'call'; readonly call: number; readonly method: ControlMethod; readonly request: unknown }
  /** Opens a stream of transitions under this call number; endCall closes it. endCall also comes when a caller gives up waiting for a reply. */
  | { readonly kind: 'watch'; readonly call: number; readonly request: WatchInvocationsRequest }
  | { readonly kind: 'endCall'; readonly call: number }
  /** Somebody reads what the inspector tells, or nobody does any more. */
  | { readonly kind: 'inspect'; readonly wanted: boolean }
  /** The gateway listens. */
  | { readonly kind: 'listening'; readonly grpcPort: number; readonly httpPort: number }
  /** The gateway could not start, or broke; it is about to end. */
  | { readonly kind: 'fatal'; readonly error: ErrorRecord };

/** From the loop to the gateway. */
export type LoopMessage =
  /** Asynchronous submissions that are durable now. */
  | { readonly kind: 'accepted'; readonly items: readonly { readonly ticket: number; readonly invocationId: string }[] }
  /** Synchronous submissions that ended, and submissions of either kind that were refused (error). */
  | { readonly kind: 'settled'; readonly items: readonly SettledItem[] }
  | { readonly kind: 'reply'; readonly call: number; readonly response: unknown }
  | { readonly kind: 'failed'; readonly call: number; readonly error: ErrorRecord }
  /** `missed`: all that this watcher missed so far. */
  | { readonly kind: 'transitions'; readonly call: number; readonly transitions: readonly Transition[]; readonly missed: number }
  /** What the inspector tells while somebody reads it, four times a second. */
  | { readonly kind: 'inspected'; readonly hello: Hello; readonly tick: Tick; readonly transitions: TransitionsEvent }
  /** Readiness: false while starting and from the beginning of a drain. */
  | { readonly kind: 'serving'; readonly serving: boolean }
  /** Finish what is in flight (at most graceMs), then stop listening and end. */
  | { readonly kind: 'stop'; readonly graceMs: number };
