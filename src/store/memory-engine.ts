/** The store's operations on maps. It copies bytes in and out, so that nobody can change what is stored. */
import { MetronomeError } from '../core/errors.ts';
import {
  PAGE_BYTES, PAGE_ROWS, PRUNE_BUNDLES, PRUNE_ROWS, bundleNotFound, checkDigest, duplicateId, invocationNotFound, type Engine, type OpenPage,
} from './engine.ts';
import type { StoredEntry, StoredInvocation } from './store.ts';

interface Row {
  readonly sequence: number;
  value: StoredInvocation;
}

interface Bundle {
  readonly bytes: Uint8Array;
  usedAtMs: number;
}

interface FunctionEntry {
  readonly bytes: Uint8Array;
  readonly bundleDigest: string;
}

const EMPTY = new Uint8Array();
/** Counted for each entry beside its bytes. */
const ENTRY_BYTES = 256;

/** An engine that holds at most `maxBytes`. */
export function createMemoryEngine(maxBytes: number): Engine {
  const functions = new Map<string, FunctionEntry>();
  const workflows = new Map<string, { readonly bytes: Uint8Array }>();
  const bundles = new Map<string, Bundle>();
  const invocations = new Map<string, Row>();
  const open = new Map<string, Row>();
  const ended = new Map<string, Row>();
  const keys = new Map<string, string>();
  let usedBytes = 0;
  let sequence = 0;
  let writes = 0;

  /** Counts `bytes` more (or fewer), or refuses before anything changed. */
  const reserve = (bytes: number): void => {
    if (bytes > 0 && usedBytes + bytes > maxBytes) {
      throw new MetronomeError('STORE_FULL', `The store holds ${usedBytes} of at most ${maxBytes} bytes; ${bytes} more do not fit. Prune ended invocations or raise the limit.`);
    }
    usedBytes += bytes;
    writes++;
  };
  const touchBundle = (digest: string, atMs: number): void => {
    const bundle = bundles.get(digest);
    if (bundle) bundle.usedAtMs = Math.max(bundle.usedAtMs, atMs);
  };
  const mustGet = (id: string): Row => {
    const row = invocations.get(id);
    if (row === undefined) throw invocationNotFound(id);
    return row;
  };
  const forget = (row: Row): void => {
    const { id, request, outcome } = row.value;
    invocations.delete(id);
    ended.delete(id);
    const key = keyOf(row.value);
    if (keys.get(key) === id) keys.delete(key);
    usedBytes -= request.byteLength + outcome.byteLength + ENTRY_BYTES;
  };

  return {
    putFunction({ name, bytes, bundleDigest, atMs }) {
      if (bundleDigest !== '' && !bundles.has(bundleDigest)) throw bundleNotFound(name, bundleDigest);
      const before = functions.get(name);
      reserve(bytes.byteLength - (before === undefined ? -ENTRY_BYTES : before.bytes.byteLength));
      if (before) touchBundle(before.bundleDigest, atMs);
      touchBundle(bundleDigest, atMs);
      functions.set(name, { bytes: bytes.slice(), bundleDigest });
    },
    deleteFunction({ name, atMs }) {
      const before = functions.get(name);
      if (before === undefined) return false;
      reserve(-before.bytes.byteLength - ENTRY_BYTES);
      touchBundle(before.bundleDigest, atMs);
      return functions.delete(name);
    },
    listFunctions: ({ afterName }) => entriesAfter(functions, afterName),

    putBundle({ digest, bytes, atMs }) {
      checkDigest(digest, bytes);
      if (bundles.has(digest)) {
        touchBundle(digest, atMs);
        return;
      }
      reserve(bytes.byteLength + ENTRY_BYTES);
      bundles.set(digest, { bytes: bytes.slice(), usedAtMs: atMs });
    },
    getBundle: ({ digest }) => bundles.get(digest)?.bytes.slice(),
    pruneBundles({ usedBeforeMs }) {
      const needed = new Set(Array.from(functions.values(), (entry) => entry.bundleDigest));
      let removed = 0;
      for (const [digest, bundle] of bundles) {
        if (removed === PRUNE_BUNDLES) break;
        if (needed.has(digest) || bundle.usedAtMs >= usedBeforeMs) continue;
        bundles.delete(digest);
        reserve(-bundle.bytes.byteLength - ENTRY_BYTES);
        removed++;
      }
      return removed;
    },

    putWorkflow({ name, bytes }) {
      const before = workflows.get(name);
      reserve(bytes.byteLength - (before === undefined ? -ENTRY_BYTES : before.bytes.byteLength));
      workflows.set(name, { bytes: bytes.slice() });
    },
    deleteWorkflow({ name }) {
      const before = workflows.get(name);
      if (before === undefined) return false;
      reserve(-before.bytes.byteLength - ENTRY_BYTES);
      return workflows.delete(name);
    },
    listWorkflows: ({ afterName }) => entriesAfter(workflows, afterName),

    acceptInvocation({ invocation, keyWindowMs }) {
      if (invocations.has(invocation.id)) throw duplicateId(invocation.id);
      if (invocation.idempotencyKey !== '') {
        const known = invocations.get(keys.get(keyOf(invocation)) ?? '');
        if (known !== undefined && known.value.acceptedAtMs > invocation.acceptedAtMs - keyWindowMs) return { duplicateOf: known.value.id };
      }
      reserve(invocation.request.byteLength + ENTRY_BYTES);
      const value: StoredInvocation = {
        ...invocation, request: invocation.request.slice(), status: 'accepted', node: '', nodeEpoch: 0, attempt: 0, endedAtMs: 0, outcome: EMPTY,
      };
      const row = { sequence: ++sequence, value };
      invocations.set(value.id, row);
      open.set(value.id, row);
      if (value.idempotencyKey !== '') keys.set(keyOf(value), value.id);
      return { duplicateOf: undefined };
    },
    markDispatched({ id, node, nodeEpoch, attempt }) {
      const row = mustGet(id);
      if (row.value.status === 'ended' || row.value.attempt > attempt) return false;
      reserve(0);
      row.value = { ...row.value, status: 'dispatched', node, nodeEpoch, attempt };
      return true;
    },
    endInvocation({ id, outcome, endedAtMs }) {
      const row = mustGet(id);
      if (row.value.status === 'ended') return false;
      reserve(outcome.byteLength);
      row.value = { ...row.value, status: 'ended', endedAtMs, outcome: outcome.slice() };
      open.delete(id);
      ended.set(id, row);
      return true;
    },
    getInvocation({ id }) {
      const row = invocations.get(id);
      return row && copyOf(row.value);
    },
    listOpenInvocations({ after }): OpenPage {
      const rows: StoredInvocation[] = [];
      let bytes = 0;
      let last = after;
      for (const row of open.values()) {
        if (row.sequence <= after) continue;
        if (rows.length === PAGE_ROWS || bytes >= PAGE_BYTES) return { rows, next: last };
        rows.push(copyOf(row.value));
        bytes += row.value.request.byteLength;
        last = row.sequence;
      }
      return { rows, next: undefined };
    },
    pruneEnded({ endedBeforeMs, keepAtMost }) {
      const oldestFirst = [...ended.values()].sort((a, b) => a.value.endedAtMs - b.value.endedAtMs || a.sequence - b.sequence);
      const surplus = oldestFirst.length - keepAtMost;
      let removed = 0;
      for (const row of oldestFirst) {
        if (removed === PRUNE_ROWS || (row.value.endedAtMs >= endedBeforeMs && removed >= surplus)) break;
        forget(row);
        removed++;
      }
      if (removed > 0) writes++;
      return removed;
    },
    stats() {
      let bundleBytes = 0;
      for (const bundle of bundles.values()) bundleBytes += bundle.bytes.byteLength;
      return {
        functions: functions.size, workflows: workflows.size, bundles: bundles.size, bundleBytes,
        openInvocations: open.size, endedInvocations: ended.size, usedBytes, maxBytes, transactions: 0, writes,
      };
    },
  };
}

function keyOf(invocation: { readonly target: string; readonly idempotencyKey: string }): string {
  return `${invocation.target}\0${invocation.idempotencyKey}`;
}

function copyOf(invocation: StoredInvocation): StoredInvocation {
  return { ...invocation, request: invocation.request.slice(), outcome: invocation.outcome.slice() };
}

/** One page, by name; the order is that of UTF-8 bytes as in SQLite. */
function entriesAfter(entries: ReadonlyMap<string, { readonly bytes: Uint8Array }>, afterName: string): readonly StoredEntry[] {
  const names = [...entries.keys()].filter((name) => Buffer.compare(Buffer.from(name), Buffer.from(afterName)) > 0);
  names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return names.slice(0, PAGE_ROWS).map((name) => ({ name, bytes: entries.get(name)?.bytes.slice() ?? EMPTY }));
}
