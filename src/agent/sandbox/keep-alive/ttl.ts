/** `ttl`: an idle sandbox goes agent.keepAlive (or what its function asks for) after its last use; when memory is needed before, the least recently used goes first. */
import type { KeepAlivePolicy } from './keep-alive.ts';

/** Keeps for a time. `keepAliveMs`: for functions that ask for nothing; 0: not at all. */
export function createTtlKeepAlive(keepAliveMs: number): KeepAlivePolicy {
  return {
    name: 'ttl',
    untilMs: ({ sinceMs, functionKeepMs }) => sinceMs + (functionKeepMs > 0 ? functionKeepMs : keepAliveMs),
    rank: ({ sinceMs }) => sinceMs,
    drivenOut: () => {},
  };
}
