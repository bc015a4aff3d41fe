/** The store in memory: same behaviour as the durable one, no disk. For the simulator and for tests. */
import { createSystemClock, type Clock } from '../core/clock.ts';
import { MetronomeError } from '../core/errors.ts';
import { createEngineStore } from './engine-store.ts';
import type { Engine, Operation, Operations } from './engine.ts';
import { createMemoryEngine } from './memory-engine.ts';
import { IDEMPOTENCY_WINDOW_MS, type Store } from './store.ts';

/** Options of the memory store. */
export interface MemoryStoreOptions {
  /** Time for graces and prunings. @default the system clock */
  readonly clock?: Clock;
  /** Bound of all stored bytes; beyond it writes reject with STORE_FULL. @default 1 GiB */
  readonly maxBytes?: number;
  /** @default IDEMPOTENCY_WINDOW_MS */
  readonly idempotencyWindowMs?: number;
}

/** A store that forgets everything with the process. Nothing ever waits in it. */
export function createMemoryStore(options: MemoryStoreOptions = {}): Store {
  const engine: Engine = createMemoryEngine(options.maxBytes ?? 1024 ** 3);
  let isClosed = false;
  const call = async <K extends Operation>(operation: K, args: Operations[K]['args']): Promise<Operations[K]['result']> => {
    if (isClosed) throw new MetronomeError('DRAINING', 'The store is closed.');
    return engine[operation](args);
  };
  return createEngineStore(
    {
      call,
      waiting: () => ({ waiting: 0, waitingBytes: 0 }),
      failed: new Promise<MetronomeError>(() => {}),
      close: async () => void (isClosed = true),
    },
    options.clock ?? createSystemClock(),
    options.idempotencyWindowMs ?? IDEMPOTENCY_WINDOW_MS,
  );
}
