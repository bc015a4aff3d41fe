/**
 * The synchronous half of a store: one small operation per request, each all or nothing. The SQLite engine runs in a
 * worker thread, the memory engine in place; engine-store.ts turns either into a Store. Long work is cut into pages here,
 * so that no request holds up the others.
 */
import { hash } from 'node:crypto';
import { MetronomeError } from '../core/errors.ts';
import type { Acceptance, AcceptedInvocation, StoredEntry, StoredInvocation } from './store.ts';

/** Rows in one page of a listing. */
export const PAGE_ROWS = 256;
/** Bytes after which a page of a listing ends early. */
export const PAGE_BYTES = 4 * 1024 ** 2;
/** Rows that one pruning request removes. */
export const PRUNE_ROWS = 1_000;
/** Bundles that one pruning request removes; they are large. */
export const PRUNE_BUNDLES = 8;

/** One page of open invocations. */
export interface OpenPage {
  readonly rows: readonly StoredInvocation[];
  /** Where the next page begins; undefined after the last one. */
  readonly next: number | undefined;
}

/** What the engine counts itself. */
export interface EngineStats {
  readonly functions: number;
  readonly workflows: number;
  readonly bundles: number;
  readonly bundleBytes: number;
  readonly openInvocations: number;
  readonly endedInvocations: number;
  readonly usedBytes: number;
  readonly maxBytes: number;
  readonly transactions: number;
  readonly writes: number;
}

/** Arguments and result of every operation. `…AtMs` is the time of the request: engines have no clock. */
export interface Operations {
  putFunction: { args: { name: string; bytes: Uint8Array; bundleDigest: string; atMs: number }; result: void };
  deleteFunction: { args: { name: string; atMs: number }; result: boolean };
  listFunctions: { args: { afterName: string }; result: readonly StoredEntry[] };
  putBundle: { args: { digest: string; bytes: Uint8Array; atMs: number }; result: void };
  getBundle: { args: { digest: string }; result: Uint8Array | undefined };
  /** Removes at most PRUNE_BUNDLES; 0 means that it is done. */
  pruneBundles: { args: { usedBeforeMs: number }; result: number };
  putWorkflow: { args: { name: string; bytes: Uint8Array }; result: void };
  deleteWorkflow: { args: { name: string }; result: boolean };
  listWorkflows: { args: { afterName: string }; result: readonly StoredEntry[] };
  acceptInvocation: { args: { invocation: AcceptedInvocation; keyWindowMs: number }; result: Acceptance };
  markDispatched: { args: { id: string; node: string; nodeEpoch: number; attempt: number }; result: boolean };
  endInvocation: { args: { id: string; outcome: Uint8Array; endedAtMs: number }; result: boolean };
  getInvocation: { args: { id: string }; result: StoredInvocation | undefined };
  listOpenInvocations: { args: { after: number }; result: OpenPage };
  /** Removes at most PRUNE_ROWS; fewer means that it is done. */
  pruneEnded: { args: { endedBeforeMs: number; keepAtMost: number }; result: number };
  stats: { args: Record<string, never>; result: EngineStats };
}

/** Name of an operation. */
export type Operation = keyof Operations;

/** All operations as functions. What they throw as MetronomeError changed nothing. */
export type Engine = { readonly [K in Operation]: (args: Operations[K]['args']) => Operations[K]['result'] };

const READS: ReadonlySet<Operation> = new Set<Operation>(['listFunctions', 'getBundle', 'listWorkflows', 'getInvocation', 'listOpenInvocations', 'stats']);

/** True for operations that change state. */
export function isWrite(operation: Operation): boolean {
  return !READS.has(operation);
}

/** Throws OBJECT_CORRUPT unless the bytes have that SHA-256. */
export function checkDigest(digest: string, bytes: Uint8Array): void {
  const actual = hash('sha256', bytes, 'hex');
  if (actual !== digest) {
    throw new MetronomeError('OBJECT_CORRUPT', `The bundle has the SHA-256 ${actual}, not ${digest} as announced. Send it again.`);
  }
}

/** The error for a function that refers to code that was never stored. */
export function bundleNotFound(name: string, digest: string): MetronomeError {
  return new MetronomeError('BUNDLE_NOT_FOUND', `Function "${name}" refers to the bundle ${digest}, which is not stored. Store the bundle first.`);
}

/** The error for an id that is not known. */
export function invocationNotFound(id: string): MetronomeError {
  return new MetronomeError('INVOCATION_NOT_FOUND', `Invocation "${id}" is unknown or no longer remembered.`, { invocationId: id });
}

/** The error for an id that is used twice: ids are random, so this is a defect. */
export function duplicateId(id: string): MetronomeError {
  return new MetronomeError('INTERNAL', `Invocation "${id}" was accepted already; ids must be unique.`, { invocationId: id });
}
