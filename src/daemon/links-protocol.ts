/**
 * The messages between the scheduler's loop and the thread in which all agents' streams end. Batches of plain data; node
 * scalars do not travel here but through the shared table (src/scheduler/cluster-view.ts).
 */
import type { ErrorRecord } from '../core/errors.ts';
import type { RunResult } from '../core/invocation.ts';
import type { Execute, StoredPackage, WarmState, ZygoteState } from '../rpc/gen/metronome/v1/agent.ts';
import type { FunctionMessage as DeployedFunction } from '../rpc/gen/metronome/v1/function.ts';

/** An Execute without the definition, which the thread adds to the first one of a version on each stream. */
export type ExecuteCommand = Omit<Execute, 'definition'>;

/** One command for one node. */
export type LinkCommand =
  /** `connection`: that of the node's last snapshot when it was decided; on a later one it is not sent, for the snapshot counts it as missing. */
  | { readonly kind: 'execute'; readonly node: number; readonly connection: number; readonly execute: ExecuteCommand }
  | { readonly kind: 'cancel'; readonly node: number; readonly id: string }
  | { readonly kind: 'acknowledge'; readonly node: number; readonly id: string }
  | { readonly kind: 'retain'; readonly node: number; readonly owner: string; readonly objectIds: string[]; readonly ttlMs: number }
  | { readonly kind: 'release'; readonly node: number; readonly owner: string; readonly objectIds: string[] };

/** From the loop to the thread. */
export type LinksRequest =
  | { readonly kind: 'connect'; readonly node: number; readonly address: string; readonly epoch: number; readonly intervalMs: number }
  | { readonly kind: 'disconnect'; readonly node: number }
  | { readonly kind: 'define'; readonly definition: DeployedFunction }
  | { readonly kind: 'undefine'; readonly name: string }
  | { readonly kind: 'commands'; readonly items: readonly LinkCommand[] }
  | { readonly kind: 'prewarm'; readonly call: number; readonly node: number; readonly definition: DeployedFunction; readonly count: number; readonly zygotes: boolean }
  | { readonly kind: 'evict'; readonly call: number; readonly node: number; readonly functionName: string; readonly count: number; readonly zygotes: boolean }
  | { readonly kind: 'stop' };

/** What changed on a node apart from scalars; in a snapshot, everything. */
export interface LocalityChange {
  readonly warm: readonly WarmState[];
  readonly zygotes: readonly ZygoteState[];
  readonly packageSetsAdded: readonly string[];
  readonly packageSetsRemoved: readonly string[];
  readonly packagesAdded: readonly StoredPackage[];
  readonly packagesRemoved: readonly string[];
  readonly objectsAdded: readonly { readonly id: string; readonly sizeBytes: number }[];
  readonly objectsRemoved: readonly string[];
}

/** One fact about one node. */
export type LinkEvent =
  | { readonly kind: 'snapshot'; readonly node: number; readonly epoch: number; readonly slots: number; readonly running: readonly string[]; readonly connection: number; readonly change: LocalityChange }
  | { readonly kind: 'delta'; readonly node: number; readonly change: LocalityChange }
  | { readonly kind: 'started'; readonly node: number; readonly id: string; readonly startState: number }
  | { readonly kind: 'result'; readonly node: number; readonly id: string; readonly result: RunResult }
  | { readonly kind: 'rejected'; readonly node: number; readonly id: string; readonly error: ErrorRecord }
  | { readonly kind: 'disconnected'; readonly node: number }
  /** Nobody listens at its address. */
  | { readonly kind: 'gone'; readonly node: number }
  /** The answer to a prewarm (how many are idle) or an evict (how many ended). */
  | { readonly kind: 'answered'; readonly call: number; readonly count: number; readonly error?: ErrorRecord };

/** From the thread to the loop. */
export interface LinksReport {
  readonly items: readonly LinkEvent[];
}

/** What the thread is born with. */
export interface LinksData {
  readonly nodeTable: SharedArrayBuffer;
}
