/** The Store over an engine, wherever that engine runs: checks bounds, stamps times, walks pages. */
import type { Clock } from '../core/clock.ts';
import { MetronomeError, type ErrorCode } from '../core/errors.ts';
import { PRUNE_ROWS, type Operation, type Operations } from './engine.ts';
import { MAX_BUNDLE_BYTES, MAX_MESSAGE_BYTES, type AcceptedInvocation, type Store, type StoredEntry, type StoredInvocation } from './store.ts';

/** How to reach the engine. */
export interface EngineLink {
  /** Runs one operation; `bytes` is what the request carries, for the bounds of queues. */
  call<K extends Operation>(operation: K, args: Operations[K]['args'], bytes: number): Promise<Operations[K]['result']>;
  /** What waits for the engine. */
  waiting(): { readonly waiting: number; readonly waitingBytes: number };
  readonly failed: Promise<MetronomeError>;
  close(): Promise<void>;
}

/** A store over `link`. */
export function createEngineStore(link: EngineLink, clock: Clock, keyWindowMs: number): Store {
  // Methods are async so that a broken bound rejects instead of throwing.
  return {
    async putFunction(name, bytes, bundleDigest) {
      checkName('function name', name);
      checkBytes('function', bytes, MAX_MESSAGE_BYTES);
      if (bundleDigest !== '') checkDigestText(bundleDigest);
      await link.call('putFunction', { name, bytes: own(bytes), bundleDigest, atMs: clock.nowMs() }, bytes.byteLength);
    },
    deleteFunction: async (name) => link.call('deleteFunction', { name, atMs: clock.nowMs() }, 0),
    listFunctions: () => allEntries((afterName) => link.call('listFunctions', { afterName }, 0)),
    async putBundle(digest, bytes) {
      checkDigestText(digest);
      checkBytes('bundle', bytes, MAX_BUNDLE_BYTES);
      await link.call('putBundle', { digest, bytes: own(bytes), atMs: clock.nowMs() }, bytes.byteLength);
    },
    getBundle: async (digest) => link.call('getBundle', { digest }, 0),
    async pruneBundles(graceMs) {
      checkNumber('graceMs', graceMs);
      const usedBeforeMs = clock.nowMs() - graceMs;
      let total = 0;
      for (;;) {
        const removed = await link.call('pruneBundles', { usedBeforeMs }, 0);
        if (removed === 0) return total;
        total += removed;
      }
    },
    async putWorkflow(name, bytes) {
      checkName('workflow name', name);
      checkBytes('workflow', bytes, MAX_MESSAGE_BYTES);
      await link.call('putWorkflow', { name, bytes: own(bytes) }, bytes.byteLength);
    },
    deleteWorkflow: async (name) => link.call('deleteWorkflow', { name }, 0),
    listWorkflows: () => allEntries((afterName) => link.call('listWorkflows', { afterName }, 0)),
    async acceptInvocation(invocation) {
      checkInvocation(invocation);
      // Field by field: what else the caller's object carries must not travel to the worker.
      const { id, target, kind, idempotent, request, acceptedAtMs, deadlineAtMs, idempotencyKey } = invocation;
      const row = { id, target, kind, idempotent, request: own(request), acceptedAtMs, deadlineAtMs, idempotencyKey };
      return link.call('acceptInvocation', { invocation: row, keyWindowMs }, request.byteLength);
    },
    async markDispatched(id, node, nodeEpoch, attempt) {
      checkName('node', node);
      checkCount('nodeEpoch', nodeEpoch);
      checkCount('attempt', attempt);
      return link.call('markDispatched', { id, node, nodeEpoch, attempt }, 0);
    },
    async endInvocation(id, outcome, endedAtMs) {
      checkBytes('outcome', outcome, MAX_MESSAGE_BYTES, 'RESULT_TOO_LARGE');
      checkNumber('endedAtMs', endedAtMs);
      return link.call('endInvocation', { id, outcome: own(outcome), endedAtMs }, outcome.byteLength);
    },
    getInvocation: async (id) => link.call('getInvocation', { id }, 0),
    listOpenInvocations: () => openInvocations(link),
    async pruneEnded(olderThanMs, keepAtMost) {
      checkNumber('olderThanMs', olderThanMs);
      checkCount('keepAtMost', keepAtMost);
      const endedBeforeMs = clock.nowMs() - olderThanMs;
      let total = 0;
      for (;;) {
        const removed = await link.call('pruneEnded', { endedBeforeMs, keepAtMost }, 0);
        total += removed;
        if (removed < PRUNE_ROWS) return total;
      }
    },
    async stats() {
      const waiting = link.waiting();
      return { ...(await link.call('stats', {}, 0)), ...waiting };
    },
    failed: link.failed,
    close: () => link.close(),
  };
}

async function allEntries(page: (afterName: string) => Promise<readonly StoredEntry[]>): Promise<readonly StoredEntry[]> {
  const all: StoredEntry[] = [];
  for (;;) {
    const rows = await page(all.at(-1)?.name ?? '');
    if (rows.length === 0) return all;
    all.push(...rows);
  }
}

async function* openInvocations(link: EngineLink): AsyncGenerator<StoredInvocation, void, undefined> {
  let after: number | undefined = 0;
  while (after !== undefined) {
    const page: Operations['listOpenInvocations']['result'] = await link.call('listOpenInvocations', { after }, 0);
    yield* page.rows;
    after = page.next;
  }
}

/** A view on a larger buffer is copied: a structured clone would copy all of that buffer. */
function own(bytes: Uint8Array): Uint8Array {
  const isWhole = bytes.byteLength === bytes.buffer.byteLength && Object.getPrototypeOf(bytes) === Uint8Array.prototype;
  return isWhole ? bytes : new Uint8Array(bytes);
}

function checkInvocation(invocation: AcceptedInvocation): void {
  const { id, target, idempotencyKey, request, acceptedAtMs, deadlineAtMs } = invocation;
  if (id === '' || id.length > 128) throw invalid('id', `An invocation id has 1 to 128 characters; "${id.slice(0, 140)}" has ${id.length}.`);
  checkName('target', target);
  if (idempotencyKey.length > 255) throw invalid('idempotency_key', `An idempotency key has at most 255 characters; this one has ${idempotencyKey.length}.`);
  checkBytes('request', request, MAX_MESSAGE_BYTES);
  checkNumber('acceptedAtMs', acceptedAtMs);
  checkNumber('deadlineAtMs', deadlineAtMs);
}

function checkName(what: string, name: string): void {
  if (name === '' || name.length > 255) throw invalid(what, `A ${what} has 1 to 255 characters; "${name.slice(0, 40)}" has ${name.length}.`);
}

function checkDigestText(digest: string): void {
  if (!/^[0-9a-f]{64}$/.test(digest)) throw invalid('digest', `A digest is a SHA-256 in lower-case hex, 64 characters; "${digest.slice(0, 80)}" is not.`);
}

function checkNumber(what: string, value: number): void {
  if (!(Number.isFinite(value) && value >= 0)) throw invalid(what, `${what} must be a finite number of at least 0; it is ${value}.`);
}

function checkCount(what: string, value: number): void {
  if (!(Number.isSafeInteger(value) && value >= 0)) throw invalid(what, `${what} must be a whole number of at least 0; it is ${value}.`);
}

function checkBytes(what: string, bytes: Uint8Array, maxBytes: number, code: ErrorCode = 'PAYLOAD_TOO_LARGE'): void {
  if (bytes.byteLength > maxBytes) throw new MetronomeError(code, `The ${what} has ${bytes.byteLength} bytes; at most ${maxBytes} can be stored.`);
}

function invalid(field: string, description: string): MetronomeError {
  return new MetronomeError('INVALID_REQUEST', description, { violations: [{ field, description }] });
}
