/**
 * Durable state behind one narrow, asynchronous interface: functions, workflows, code bundles and asynchronous invocations.
 * Implementations: SQLite (sqlite-store.ts, the embedded default) and memory (memory-store.ts, simulator and tests).
 * What a promise of this interface reports as done survives `kill -9` of the process (SQLite) — see `synchronous` for power loss.
 */
import type { MetronomeError } from '../core/errors.ts';

/** Largest bundle, bytes. */
export const MAX_BUNDLE_BYTES = 32 * 1024 ** 2;
/** Largest function, workflow, request or outcome message, bytes. The configured payload limits lie far below. */
export const MAX_MESSAGE_BYTES = 16 * 1024 ** 2;
/** How long an idempotency key names the same invocation, ms. */
export const IDEMPOTENCY_WINDOW_MS = 3_600_000;

/** A named message: the protobuf bytes of a Function or a Workflow. */
export interface StoredEntry {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** An asynchronous invocation as it is accepted. */
export interface AcceptedInvocation {
  /** Unique; 1 to 128 characters. */
  readonly id: string;
  /** Name of the function or workflow; 1 to 255 characters. */
  readonly target: string;
  readonly kind: 'function' | 'workflow';
  /** True when it may be run again after an interruption. */
  readonly idempotent: boolean;
  /** Protobuf bytes of the InvokeRequest. */
  readonly request: Uint8Array;
  /** When it arrived, ms since 1970-01-01 UTC. */
  readonly acceptedAtMs: number;
  /** When it is given up, ms since 1970-01-01 UTC; 0: never. */
  readonly deadlineAtMs: number;
  /** '' for none; at most 255 characters. */
  readonly idempotencyKey: string;
}

/** How far an asynchronous invocation got. `dispatched`: it may have run. */
export type StoredStatus = 'accepted' | 'dispatched' | 'ended';

/** An asynchronous invocation as it is remembered. */
export interface StoredInvocation extends AcceptedInvocation {
  readonly status: StoredStatus;
  /** Node of the last dispatch; '' before the first. */
  readonly node: string;
  /** Agent process of the last dispatch; 0 before the first. */
  readonly nodeEpoch: number;
  /** 1 for the first dispatch; 0 before it. */
  readonly attempt: number;
  /** 0 until it ended. */
  readonly endedAtMs: number;
  /** Protobuf bytes of the Invocation with response or error; empty until it ended. */
  readonly outcome: Uint8Array;
}

/** What became of an acceptance. */
export interface Acceptance {
  /** Set when the idempotency key and target are known already: the id to use; nothing was stored. */
  readonly duplicateOf: string | undefined;
}

/** Counts for metrics and `metronome doctor`. */
export interface StoreStats {
  readonly functions: number;
  readonly workflows: number;
  readonly bundles: number;
  readonly bundleBytes: number;
  readonly openInvocations: number;
  readonly endedInvocations: number;
  /** Bytes that the state occupies. */
  readonly usedBytes: number;
  /** Bound of usedBytes. */
  readonly maxBytes: number;
  /** Write transactions since it was opened; far fewer than writes under load (group commit). */
  readonly transactions: number;
  /** Writes since it was opened. */
  readonly writes: number;
  /** Requests that wait for the disk now. */
  readonly waiting: number;
  /** Bytes that these requests carry. */
  readonly waitingBytes: number;
}

/**
 * Durable state. Requests take effect in the order in which they are made; a write is committed when its promise resolves.
 * Byte arrays that are handed in must not change until the promise settles.
 *
 * Every operation may reject with: QUEUE_FULL (too much waits for the disk), STORE_FULL (disk or `maxBytes` used up; nothing
 * half-done), STATE_CORRUPT (the file cannot be read), INVALID_REQUEST (a bound above is broken), PAYLOAD_TOO_LARGE,
 * DRAINING (after `close`), or with the error of `failed`.
 */
export interface Store {
  /**
   * Creates or replaces a function.
   * @param bundleDigest SHA-256 of its code, lower-case hex; '' if it has none. BUNDLE_NOT_FOUND when that was not stored.
   */
  putFunction(name: string, bytes: Uint8Array, bundleDigest: string): Promise<void>;
  /** Resolves to false when there was none. */
  deleteFunction(name: string): Promise<boolean>;
  /** All functions by name. */
  listFunctions(): Promise<readonly StoredEntry[]>;

  /** Stores code; known code is only marked as used now. OBJECT_CORRUPT when the bytes do not have that SHA-256. */
  putBundle(digest: string, bytes: Uint8Array): Promise<void>;
  /** The code, or undefined. */
  getBundle(digest: string): Promise<Uint8Array | undefined>;
  /** Removes code that no function refers to and that was last put or referred to more than `graceMs` ago; resolves to how many. */
  pruneBundles(graceMs: number): Promise<number>;

  /** Creates or replaces a workflow. */
  putWorkflow(name: string, bytes: Uint8Array): Promise<void>;
  /** Resolves to false when there was none. */
  deleteWorkflow(name: string): Promise<boolean>;
  /** All workflows by name. */
  listWorkflows(): Promise<readonly StoredEntry[]>;

  /** Remembers an invocation. An id that is known already is INTERNAL. */
  acceptInvocation(invocation: AcceptedInvocation): Promise<Acceptance>;
  /**
   * Notes that an invocation is about to be sent. Await it before sending what is not idempotent.
   * Resolves to false, and the invocation must not be sent, when it ended or a later attempt is noted. INVOCATION_NOT_FOUND if unknown.
   */
  markDispatched(id: string, node: string, nodeEpoch: number, attempt: number): Promise<boolean>;
  /** Notes the end. The first end stands: false when it had ended before. INVOCATION_NOT_FOUND if unknown. */
  endInvocation(id: string, outcome: Uint8Array, endedAtMs: number): Promise<boolean>;
  /** The invocation, or undefined. */
  getInvocation(id: string): Promise<StoredInvocation | undefined>;
  /**
   * What has not ended, in the order of acceptance, read in bounded pages while it is iterated. What is accepted or ends
   * meanwhile may or may not appear; nothing appears twice.
   */
  listOpenInvocations(): AsyncIterable<StoredInvocation>;
  /**
   * Forgets invocations that ended more than `olderThanMs` ago, and the oldest ended ones beyond `keepAtMost`; resolves to how many.
   * A forgotten invocation frees its idempotency key.
   */
  pruneEnded(olderThanMs: number, keepAtMost: number): Promise<number>;

  stats(): Promise<StoreStats>;
  /** Resolves when the store broke by itself and why; every promise has then been rejected. Never settles otherwise. */
  readonly failed: Promise<MetronomeError>;
  /** Finishes what waits, then lets go of the files. Further requests reject with DRAINING. May be called again. */
  close(): Promise<void>;
}
