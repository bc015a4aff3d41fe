/** The inspector's moments for one reader over gRPC: aggregates only. A slow reader gets them put together, so nothing that ended is lost. */
import { MetronomeError } from '../core/errors.ts';
import { INVOCATION_STATES } from '../core/invocation.ts';
import { mergeEnded } from '../inspect/traffic.ts';
import type { EndedGroup } from '../inspect/page-api.ts';
import type { WatchTrafficResponse } from '../rpc/gen/metronome/v1/inspect.ts';
import type { InspectHub } from './inspect-hub.ts';
import type { Inspected } from './loop-client.ts';
import { pump } from './pump.ts';

/** Writes moments until the signal aborts (resolves) or the gateway stops (rejects). Rejects like InspectHub.join. */
export async function followTraffic(hub: InspectHub, signal: AbortSignal, write: (message: WatchTrafficResponse) => Promise<void>): Promise<void> {
  let latest: Inspected | undefined;
  let ended: readonly EndedGroup[] = [];
  let isOver = false;
  await pump(
    signal,
    (wake) => hub.join({
      told(message) {
        latest = message;
        ended = mergeEnded(ended, message.tick.ended);
        wake();
      },
      ended() {
        isOver = true;
        wake();
      },
    }),
    () => {
      if (latest !== undefined) {
        const message = toMessage(latest, ended);
        latest = undefined;
        ended = [];
        return write(message);
      }
      if (isOver) throw new MetronomeError('UNAVAILABLE', 'The gateway stops.', { component: 'gateway', retryAfterMs: 1_000 });
      return undefined;
    },
  );
}

function toMessage({ hello, tick }: Inspected, ended: readonly EndedGroup[]): WatchTrafficResponse {
  const counts = tick.machines['invocation']?.counts ?? [];
  return {
    atUnixMs: tick.atMs, policy: hello.policy, shadowPolicy: hello.shadowPolicy, live: tick.live, delayingForLocality: tick.delayingForLocality, delayingForCapacity: tick.delayingForCapacity, counters: { ...tick.counters },
    // The machine's states, in the order of its definition, which is that of the names.
    states: Object.fromEntries(counts.map((count, state) => [INVOCATION_STATES[state + 1] ?? 'unspecified', Math.max(0, count)])),
    ended: ended.map(({ error: _error, leastSlackMs: _slack, histogram, ...group }) => ({ ...group, histogram: [...histogram] })),
    nodes: tick.nodes.map((node) => ({ ...node })),
    shadow: tick.shadow === undefined ? undefined : { decisions: tick.shadow.decisions, agreed: tick.shadow.agreed, activeMs: tick.shadow.activeMs, shadowMs: tick.shadow.shadowMs },
  };
}
