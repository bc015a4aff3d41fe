/**
 * The schema, as the steps that lead to it. `PRAGMA user_version` counts the steps that were applied; each runs in a
 * transaction of its own. Steps are never edited once released, only added.
 *
 * Small rows that change (states) lie apart from large ones that do not (payloads): SQLite rewrites whole rows.
 */

/** Marks the file as ours (`PRAGMA application_id`): "MTRN". */
export const APPLICATION_ID = 0x4d54524e;

/** Step n leads from version n to n + 1. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE bundles (
    key INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    used_at_ms REAL NOT NULL
  ) STRICT;
  CREATE TABLE bundle_bytes (
    key INTEGER PRIMARY KEY REFERENCES bundles(key) ON DELETE CASCADE,
    bytes BLOB NOT NULL
  ) STRICT;
  CREATE TABLE functions (
    name TEXT PRIMARY KEY NOT NULL,
    bundle_digest TEXT NOT NULL,
    bytes BLOB NOT NULL
  ) STRICT;
  CREATE INDEX functions_by_bundle ON functions(bundle_digest);
  CREATE TABLE workflows (
    name TEXT PRIMARY KEY NOT NULL,
    bytes BLOB NOT NULL
  ) STRICT;
  CREATE TABLE invocations (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    target TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('function', 'workflow')),
    idempotent INTEGER NOT NULL,
    accepted_at_ms REAL NOT NULL,
    deadline_at_ms REAL NOT NULL,
    idempotency_key TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('accepted', 'dispatched', 'ended')),
    node TEXT NOT NULL DEFAULT '',
    node_epoch INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    ended_at_ms REAL NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX invocations_open ON invocations(sequence) WHERE status <> 'ended';
  CREATE INDEX invocations_ended ON invocations(ended_at_ms, sequence) WHERE status = 'ended';
  CREATE INDEX invocations_by_key ON invocations(idempotency_key, target, sequence) WHERE idempotency_key <> '';
  CREATE TABLE requests (
    sequence INTEGER PRIMARY KEY REFERENCES invocations(sequence) ON DELETE CASCADE,
    bytes BLOB NOT NULL
  ) STRICT;
  CREATE TABLE outcomes (
    sequence INTEGER PRIMARY KEY REFERENCES invocations(sequence) ON DELETE CASCADE,
    bytes BLOB NOT NULL
  ) STRICT;
  `,
];
