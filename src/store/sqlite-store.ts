/** The durable store: SQLite in a thread of its own (sqlite-worker.ts), reached over bounded batches of messages. */
import { Worker } from 'node:worker_threads';
import { createSystemClock, type Clock } from '../core/clock.ts';
import { createEngineStore } from './engine-store.ts';
import { IDEMPOTENCY_WINDOW_MS, type Store } from './store.ts';
import { connectWorker } from './worker-link.ts';
import type { WorkerSettings } from './worker-protocol.ts';
import { sqliteWorkerUrl } from './worker-url.ts';

/** Options of the SQLite store. */
export interface SqliteStoreOptions {
  /** Data directory; made if it is missing. Holds metronome.db (with -wal and -shm), metronome.lock and metronome.owner.json. */
  readonly dir: string;
  /** Time for graces and prunings. @default the system clock */
  readonly clock?: Clock;
  /** How long to wait for another holder of the directory that is about to end, ms. @default 1000 */
  readonly lockWaitMs?: number;
  /** Bound of the database file, bytes; beyond it writes reject with STORE_FULL. @default 16 GiB */
  readonly maxBytes?: number;
  /**
   * 'normal': what is committed survives the death of the process; the last moments may be lost with the power.
   * 'full': survives that too, at one fsync per transaction. @default 'normal'
   */
  readonly synchronous?: 'normal' | 'full';
  /** Requests that may wait for the disk; beyond it they reject with QUEUE_FULL. @default 50 000 */
  readonly maxWaiting?: number;
  /** Bytes that waiting requests may carry. @default 256 MiB */
  readonly maxWaitingBytes?: number;
  /** @default IDEMPOTENCY_WINDOW_MS */
  readonly idempotencyWindowMs?: number;
}

/**
 * Opens or creates the store of a data directory.
 * Rejects with STATE_LOCKED (names the holder), STATE_CORRUPT (damaged, foreign or newer file), PERMISSION_DENIED, STORE_FULL or CONFIG_INVALID.
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const settings: WorkerSettings = {
    dir: options.dir,
    lockWaitMs: options.lockWaitMs ?? 1_000,
    maxBytes: options.maxBytes ?? 16 * 1024 ** 3,
    synchronous: options.synchronous ?? 'normal',
  };
  // No inherited flags: those of a test runner or a debugger are not meant for this thread.
  const worker = new Worker(sqliteWorkerUrl(), { workerData: settings, execArgv: [], name: 'store' });
  const link = await connectWorker(worker, {
    maxWaiting: options.maxWaiting ?? 50_000,
    maxWaitingBytes: options.maxWaitingBytes ?? 256 * 1024 ** 2,
  });
  return createEngineStore(link, options.clock ?? createSystemClock(), options.idempotencyWindowMs ?? IDEMPOTENCY_WINDOW_MS);
}
