/**
 * The store's operations on one SQLite database. Runs wherever it is created; sqlite-worker.ts puts it in a thread of its own.
 * Operations check first and write then, so that a refused one leaves an open transaction usable.
 */
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { MetronomeError } from '../core/errors.ts';
import {
  PAGE_BYTES, PAGE_ROWS, PRUNE_BUNDLES, PRUNE_ROWS, bundleNotFound, checkDigest, duplicateId, invocationNotFound, type Engine, type OpenPage,
} from './engine.ts';
import { APPLICATION_ID, MIGRATIONS } from './migrations.ts';
import { fromSqlite } from './sqlite-errors.ts';
import type { StoredEntry, StoredInvocation, StoredStatus } from './store.ts';

/** How the database is opened. */
export interface SqliteEngineOptions {
  readonly file: string;
  /** Bound of the database file, bytes. */
  readonly maxBytes: number;
  /** 'normal' survives the death of the process; 'full' also that of the machine, at one fsync per transaction. */
  readonly synchronous: 'normal' | 'full';
}

/** An engine with transactions. */
export interface SqliteEngine {
  readonly operations: Engine;
  begin(): void;
  /** Commits; `writes` is how many of its operations wrote. */
  commit(writes: number): void;
  /** Undoes the open transaction, if SQLite did not do so by itself. */
  rollback(): void;
  /** Closes the database; statements end with it. */
  close(): void;
}

type Row = Record<string, SQLOutputValue>;

const EMPTY = new Uint8Array();
const INVOCATION_COLUMNS = `i.sequence, i.id, i.target, i.kind, i.idempotent, i.accepted_at_ms, i.deadline_at_ms, i.idempotency_key, i.status,
  i.node, i.node_epoch, i.attempt, i.ended_at_ms, r.bytes AS request, o.bytes AS outcome
  FROM invocations i JOIN requests r USING (sequence) LEFT JOIN outcomes o USING (sequence)`;

/** Opens or creates the database and brings its schema up to date. Throws STATE_CORRUPT, PERMISSION_DENIED, STORE_FULL. */
export function openSqliteEngine(options: SqliteEngineOptions): SqliteEngine {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(options.file, { timeout: 5_000, enableForeignKeyConstraints: true });
    prepareDatabase(database, options);
    return createEngine(database);
  } catch (thrown) {
    database?.close();
    throw fromSqlite(thrown, options.file);
  }
}

function prepareDatabase(database: DatabaseSync, { file, maxBytes, synchronous }: SqliteEngineOptions): void {
  const version = pragma(database, 'user_version');
  const isEmpty = pragma(database, 'schema_version') === 0;
  if (!isEmpty && pragma(database, 'application_id') !== APPLICATION_ID) {
    throw new MetronomeError('STATE_CORRUPT', `"${file}" is a database of another program. Use another data directory, or move the file away to start empty.`);
  }
  if (version > MIGRATIONS.length) {
    throw new MetronomeError(
      'STATE_CORRUPT',
      `"${file}" was written by a newer Metronome (schema ${version}; this one knows up to ${MIGRATIONS.length}). Run the newer version, or move the file away to start empty.`,
    );
  }
  // auto_vacuum only takes effect before the first table.
  if (isEmpty) database.exec('PRAGMA auto_vacuum = INCREMENTAL');
  database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous === 'full' ? 'FULL' : 'NORMAL'};`);
  // Fewer, larger checkpoints; a WAL that one large bundle blew up shrinks again.
  database.exec('PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384; PRAGMA trusted_schema = OFF;');
  database.exec(`PRAGMA max_page_count = ${Math.max(1, Math.floor(maxBytes / pragma(database, 'page_size')))}`);
  for (const [index, step] of MIGRATIONS.entries()) {
    if (index < version) continue;
    database.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${index + 1}; COMMIT`);
  }
}

function createEngine(database: DatabaseSync): SqliteEngine {
  const sql = (text: string): StatementSync => database.prepare(text);
  const bundleByDigest = sql('SELECT key FROM bundles WHERE digest = ?');
  const touchBundle = sql('UPDATE bundles SET used_at_ms = max(used_at_ms, ?) WHERE digest = ?');
  const insertBundle = sql('INSERT INTO bundles (digest, size_bytes, used_at_ms) VALUES (?, ?, ?)');
  const insertBundleBytes = sql('INSERT INTO bundle_bytes (key, bytes) VALUES (?, ?)');
  const selectBundle = sql('SELECT bytes FROM bundles JOIN bundle_bytes USING (key) WHERE digest = ?');
  const deleteBundles = sql(`DELETE FROM bundles WHERE key IN (
    SELECT key FROM bundles WHERE used_at_ms < ? AND digest NOT IN (SELECT bundle_digest FROM functions) LIMIT ${PRUNE_BUNDLES})`);
  const digestOfFunction = sql('SELECT bundle_digest FROM functions WHERE name = ?');
  const upsertFunction = sql(`INSERT INTO functions (name, bundle_digest, bytes) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET bundle_digest = excluded.bundle_digest, bytes = excluded.bytes`);
  const deleteFunction = sql('DELETE FROM functions WHERE name = ?');
  const pageOfFunctions = sql(`SELECT name, bytes FROM functions WHERE name > ? ORDER BY name LIMIT ${PAGE_ROWS}`);
  const upsertWorkflow = sql('INSERT INTO workflows (name, bytes) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes');
  const deleteWorkflow = sql('DELETE FROM workflows WHERE name = ?');
  const pageOfWorkflows = sql(`SELECT name, bytes FROM workflows WHERE name > ? ORDER BY name LIMIT ${PAGE_ROWS}`);
  const stateById = sql('SELECT sequence, status, attempt FROM invocations WHERE id = ?');
  // The last one with the key: an older one may be out of its window.
  const invocationByKey = sql(`SELECT id, accepted_at_ms FROM invocations
    WHERE idempotency_key = ? AND idempotency_key <> '' AND target = ? ORDER BY sequence DESC LIMIT 1`);
  const insertInvocation = sql(`INSERT INTO invocations (id, target, kind, idempotent, accepted_at_ms, deadline_at_ms, idempotency_key, status)
    VALUES (?, ?, ?, ?, ?, ?, ?, 'accepted')`);
  const insertRequest = sql('INSERT INTO requests (sequence, bytes) VALUES (?, ?)');
  const updateDispatched = sql(`UPDATE invocations SET status = 'dispatched', node = ?, node_epoch = ?, attempt = ? WHERE sequence = ?`);
  const updateEnded = sql(`UPDATE invocations SET status = 'ended', ended_at_ms = ? WHERE sequence = ?`);
  const insertOutcome = sql('INSERT INTO outcomes (sequence, bytes) VALUES (?, ?)');
  const selectInvocation = sql(`SELECT ${INVOCATION_COLUMNS} WHERE i.id = ?`);
  const selectOpen = sql(`SELECT ${INVOCATION_COLUMNS} WHERE i.sequence > ? AND i.status <> 'ended' ORDER BY i.sequence`);
  const countEnded = sql(`SELECT count(*) AS n FROM invocations WHERE status = 'ended'`);
  const deleteEnded = sql(`DELETE FROM invocations WHERE sequence IN (
    SELECT sequence FROM invocations WHERE status = 'ended' AND ended_at_ms < ? ORDER BY ended_at_ms, sequence LIMIT ?)`);
  const counts = sql(`SELECT (SELECT count(*) FROM functions) AS functions, (SELECT count(*) FROM workflows) AS workflows,
    (SELECT count(*) FROM bundles) AS bundles, (SELECT coalesce(sum(size_bytes), 0) FROM bundles) AS bundle_bytes,
    (SELECT count(*) FROM invocations WHERE status <> 'ended') AS open, (SELECT count(*) FROM invocations WHERE status = 'ended') AS ended`);
  let transactions = 0;
  let writes = 0;

  const mustGetState = (id: string): Row => {
    const state = stateById.get(id);
    if (state === undefined) throw invocationNotFound(id);
    return state;
  };

  const operations: Engine = {
    putFunction({ name, bytes, bundleDigest, atMs }) {
      if (bundleDigest !== '' && bundleByDigest.get(bundleDigest) === undefined) throw bundleNotFound(name, bundleDigest);
      const before = digestOfFunction.get(name);
      if (before) touchBundle.run(atMs, text(before['bundle_digest']));
      touchBundle.run(atMs, bundleDigest);
      upsertFunction.run(name, bundleDigest, bytes);
    },
    deleteFunction({ name, atMs }) {
      const before = digestOfFunction.get(name);
      if (before === undefined) return false;
      touchBundle.run(atMs, text(before['bundle_digest']));
      deleteFunction.run(name);
      return true;
    },
    listFunctions: ({ afterName }) => entries(pageOfFunctions, afterName),

    putBundle({ digest, bytes, atMs }) {
      checkDigest(digest, bytes);
      if (touchBundle.run(atMs, digest).changes !== 0) return;
      const { lastInsertRowid } = insertBundle.run(digest, bytes.byteLength, atMs);
      insertBundleBytes.run(lastInsertRowid, bytes);
    },
    getBundle({ digest }) {
      const row = selectBundle.get(digest);
      return row && blob(row['bytes']);
    },
    pruneBundles({ usedBeforeMs }) {
      const removed = Number(deleteBundles.run(usedBeforeMs).changes);
      if (removed === 0) giveBackSpace(database);
      return removed;
    },

    putWorkflow({ name, bytes }) {
      upsertWorkflow.run(name, bytes);
    },
    deleteWorkflow: ({ name }) => deleteWorkflow.run(name).changes !== 0,
    listWorkflows: ({ afterName }) => entries(pageOfWorkflows, afterName),

    acceptInvocation({ invocation, keyWindowMs }) {
      const { id, target, kind, idempotent, request, acceptedAtMs, deadlineAtMs, idempotencyKey } = invocation;
      if (stateById.get(id) !== undefined) throw duplicateId(id);
      if (idempotencyKey !== '') {
        const known = invocationByKey.get(idempotencyKey, target);
        if (known !== undefined && number(known['accepted_at_ms']) > acceptedAtMs - keyWindowMs) return { duplicateOf: text(known['id']) };
      }
      const { lastInsertRowid } = insertInvocation.run(id, target, kind, idempotent ? 1 : 0, acceptedAtMs, deadlineAtMs, idempotencyKey);
      insertRequest.run(lastInsertRowid, request);
      return { duplicateOf: undefined };
    },
    markDispatched({ id, node, nodeEpoch, attempt }) {
      const state = mustGetState(id);
      if (state['status'] === 'ended' || number(state['attempt']) > attempt) return false;
      updateDispatched.run(node, nodeEpoch, attempt, number(state['sequence']));
      return true;
    },
    endInvocation({ id, outcome, endedAtMs }) {
      const state = mustGetState(id);
      if (state['status'] === 'ended') return false;
      const sequence = number(state['sequence']);
      updateEnded.run(endedAtMs, sequence);
      insertOutcome.run(sequence, outcome);
      return true;
    },
    getInvocation({ id }) {
      const row = selectInvocation.get(id);
      return row && toInvocation(row);
    },
    listOpenInvocations({ after }): OpenPage {
      const rows: StoredInvocation[] = [];
      let bytes = 0;
      let last = after;
      for (const row of selectOpen.iterate(after)) {
        if (rows.length === PAGE_ROWS || bytes >= PAGE_BYTES) return { rows, next: last };
        const invocation = toInvocation(row);
        rows.push(invocation);
        bytes += invocation.request.byteLength;
        last = number(row['sequence']);
      }
      return { rows, next: undefined };
    },
    pruneEnded({ endedBeforeMs, keepAtMost }) {
      let removed = Number(deleteEnded.run(endedBeforeMs, PRUNE_ROWS).changes);
      const surplus = Math.min(PRUNE_ROWS - removed, number(countEnded.get()?.['n']) - keepAtMost);
      if (surplus > 0) removed += Number(deleteEnded.run(Number.MAX_VALUE, surplus).changes);
      if (removed < PRUNE_ROWS) giveBackSpace(database);
      return removed;
    },
    stats() {
      const row = counts.get() ?? {};
      const pageSize = pragma(database, 'page_size');
      return {
        functions: number(row['functions']), workflows: number(row['workflows']), bundles: number(row['bundles']), bundleBytes: number(row['bundle_bytes']),
        openInvocations: number(row['open']), endedInvocations: number(row['ended']),
        usedBytes: (pragma(database, 'page_count') - pragma(database, 'freelist_count')) * pageSize,
        maxBytes: pragma(database, 'max_page_count') * pageSize,
        transactions, writes,
      };
    },
  };

  return {
    operations,
    begin: () => database.exec('BEGIN'),
    commit(written) {
      database.exec('COMMIT');
      writes += written;
      if (written > 0) transactions++;
    },
    rollback() {
      if (database.isTransaction) database.exec('ROLLBACK');
    },
    // The last connection moves the WAL into the main file; where that fails (disk full) the WAL stays and nothing is lost.
    close: () => database.close(),
  };
}

/** Shrinks a file that is mostly free pages, a little at a time; otherwise free pages are kept for what comes next. */
function giveBackSpace(database: DatabaseSync): void {
  if (pragma(database, 'freelist_count') * 2 > pragma(database, 'page_count')) database.exec('PRAGMA incremental_vacuum(2048)');
}

function pragma(database: DatabaseSync, name: string): number {
  return number(Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
}

function entries(statement: StatementSync, afterName: string): readonly StoredEntry[] {
  const page: StoredEntry[] = [];
  let bytes = 0;
  for (const row of statement.iterate(afterName)) {
    page.push({ name: text(row['name']), bytes: blob(row['bytes']) });
    bytes += page.at(-1)?.bytes.byteLength ?? 0;
    if (bytes >= PAGE_BYTES) break;
  }
  return page;
}

function toInvocation(row: Row): StoredInvocation {
  return {
    id: text(row['id']),
    target: text(row['target']),
    kind: row['kind'] === 'workflow' ? 'workflow' : 'function',
    idempotent: row['idempotent'] === 1,
    request: blob(row['request']),
    acceptedAtMs: number(row['accepted_at_ms']),
    deadlineAtMs: number(row['deadline_at_ms']),
    idempotencyKey: text(row['idempotency_key']),
    status: toStatus(text(row['status'])),
    node: text(row['node']),
    nodeEpoch: number(row['node_epoch']),
    attempt: number(row['attempt']),
    endedAtMs: number(row['ended_at_ms']),
    outcome: row['outcome'] === null ? EMPTY : blob(row['outcome']),
  };
}

function toStatus(status: string): StoredStatus {
  if (status === 'accepted' || status === 'dispatched' || status === 'ended') return status;
  throw unexpected(status);
}

function text(value: SQLOutputValue | undefined): string {
  if (typeof value === 'string') return value;
  throw unexpected(value);
}

function number(value: SQLOutputValue | undefined): number {
  if (typeof value === 'number') return value;
  throw unexpected(value);
}

function blob(value: SQLOutputValue | undefined): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw unexpected(value);
}

/** STRICT tables make this impossible in a sound file. */
function unexpected(value: unknown): MetronomeError {
  return new MetronomeError('STATE_CORRUPT', `The database holds a value of the wrong type (${typeof value}). Restore it from a backup, or move it away to start empty.`);
}
