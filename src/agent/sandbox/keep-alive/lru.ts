/** `lru`: an idle sandbox stays until memory is needed; the least recently used goes first. Only what a function asks for itself ends it earlier. */
import { untilItsOwn, type KeepAlivePolicy } from './keep-alive.ts';

/** Keeps as long as there is memory. */
export function createLruKeepAlive(): KeepAlivePolicy {
  return { name: 'lru', untilMs: untilItsOwn, rank: ({ sinceMs }) => sinceMs, drivenOut: () => {} };
}
