/**
 * The inspector's stream to one page, as server-sent events. A page that does not read fast enough is dropped to aggregates: first it gets no
 * transitions (counted as missed), then its ticks are put together until there is room again, and in the end it is hung up.
 */
import type { ServerResponse } from 'node:http';
import type { Tick } from '../inspect/page-api.ts';
import { mergeEnded } from '../inspect/traffic.ts';
import type { InspectHub } from './inspect-hub.ts';
import type { Inspected } from './loop-client.ts';

/** Bytes on their way to a page from which it gets no transitions, and from which it gets nothing. */
const SLOW_BYTES = 256 * 1024;
const STUCK_BYTES = 1024 * 1024;
/** A page that reads nothing for so many ticks is hung up: a minute. */
const MAX_STUCK_TICKS = 240;
/** Transitions of one replay that are sent; of more the newest. */
const MAX_REPLAYED = 5_000;
/** The page asks again after so long, ms. */
const RETRY_MS = 1_000;

/** Streams until the page goes away or the gateway stops. `from`: number of the next transition that the page wants; undefined: what comes now. Throws like InspectHub.join, with nothing sent. */
export function openEventStream(hub: InspectHub, outgoing: ServerResponse, from: number | undefined): void {
  let pending: Tick | undefined;
  let missed = 0;
  let stuck = 0;
  let greeted = '';
  const send = (id: number, event: string, data: object): void => void outgoing.write(`id: ${id}\nevent: ${event}\ndata: ${textOf(data)}\n\n`);

  const told = ({ hello, tick, transitions }: Inspected): void => {
    const waiting = outgoing.writableLength;
    const { next } = transitions;
    if (waiting > STUCK_BYTES) {
      pending = pending === undefined ? tick : merged(pending, tick);
      missed += transitions.records.length + transitions.missed;
      if (++stuck > MAX_STUCK_TICKS) outgoing.destroy();
      return;
    }
    stuck = 0;
    const greeting = `${hello.startedAtMs} ${hello.policy} ${hello.shadowPolicy}`;
    if (greeting !== greeted) send(next, 'hello', hello);
    greeted = greeting;
    send(next, 'tick', pending === undefined ? tick : merged(pending, tick));
    pending = undefined;
    if (waiting > SLOW_BYTES) {
      missed += transitions.records.length + transitions.missed;
      return;
    }
    if (transitions.records.length > 0 || transitions.missed + missed > 0) send(next, 'transitions', missed === 0 ? transitions : { ...transitions, missed: transitions.missed + missed });
    missed = 0;
  };
  const leave = hub.join({ told, ended: () => void outgoing.end() });
  outgoing.once('close', leave);
  outgoing.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store', connection: 'keep-alive', 'x-accel-buffering': 'no' });
  outgoing.write(`retry: ${RETRY_MS}\n\n`);
  const latest = hub.latest();
  if (latest === undefined) return;
  const replay = from === undefined ? undefined : hub.since(from);
  // It knows the present at once; the transitions that it missed come with it, once.
  const records = replay?.records.slice(-MAX_REPLAYED) ?? [];
  const lost = replay === undefined ? 0 : replay.missed + replay.records.length - records.length;
  told({ ...latest, tick: { ...latest.tick, ended: [] }, transitions: { next: latest.transitions.next, missed: lost, records } });
}

/** What all pages get alike is made into text once. */
const texts = new WeakMap<object, string>();

function textOf(data: object): string {
  let text = texts.get(data);
  if (text === undefined) texts.set(data, (text = JSON.stringify(data)));
  return text;
}

/** Two ticks as one: the state of the later, what happened in both. */
function merged(earlier: Tick, later: Tick): Tick {
  const ended = mergeEnded(earlier.ended, later.ended);
  const { shadow: before } = earlier, { shadow: after } = later;
  if (before === undefined || after === undefined || before.policy !== after.policy) return { ...later, ended };
  return { ...later, ended, shadow: { policy: after.policy, decisions: before.decisions + after.decisions, agreed: before.agreed + after.agreed, activeMs: before.activeMs + after.activeMs, shadowMs: before.shadowMs + after.shadowMs } };
}
