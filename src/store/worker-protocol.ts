/** What the store and its worker thread say to each other. Requests travel in batches, answers too. */
import type { ErrorRecord } from '../core/errors.ts';
import type { Operation, Operations } from './engine.ts';

/** Handed to the worker at its start. */
export interface WorkerSettings {
  readonly dir: string;
  readonly lockWaitMs: number;
  readonly maxBytes: number;
  readonly synchronous: 'normal' | 'full';
}

/** One request; `id` counts up. */
export type WorkerRequest<K extends Operation = Operation> = {
  [P in K]: { readonly id: number; readonly operation: P; readonly args: Operations[P]['args']; readonly bytes: number };
}[K];

/** One answer. */
export type WorkerAnswer =
  | { readonly id: number; readonly ok: true; readonly value: Operations[Operation]['result'] }
  | { readonly id: number; readonly ok: false; readonly error: ErrorRecord };

/** To the worker. `close` comes last. */
export type ToWorker = { readonly kind: 'requests'; readonly requests: readonly WorkerRequest[] } | { readonly kind: 'close' };

/** From the worker: first `ready` or `failed`, then answers; `failed` and `closed` come last. */
export type FromWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'answers'; readonly answers: readonly WorkerAnswer[] }
  | { readonly kind: 'failed'; readonly error: ErrorRecord }
  | { readonly kind: 'closed' };
