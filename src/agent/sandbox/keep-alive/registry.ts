/** All keep-alive policies by name. */
import { createGreedyDualKeepAlive } from './greedy-dual.ts';
import type { KeepAlivePolicy } from './keep-alive.ts';
import { createLruKeepAlive } from './lru.ts';
import { createTtlKeepAlive } from './ttl.ts';

/** The values of agent.keepAlivePolicy. */
export type KeepAliveName = 'ttl' | 'lru' | 'greedy-dual';

/** Makes the policy of this name; `keepAliveMs` is used by those that keep for a time. */
export function createKeepAlive(name: KeepAliveName, keepAliveMs: number): KeepAlivePolicy {
  switch (name) {
    case 'ttl': return createTtlKeepAlive(keepAliveMs);
    case 'lru': return createLruKeepAlive();
    case 'greedy-dual': return createGreedyDualKeepAlive();
  }
}
