/**
 * The stream from the daemon. Events are booked into the stores when they arrive and shown at most once per animation frame: views call
 * useFrames and then read the stores. The connection comes back by itself; another start of the daemon begins all numbers anew.
 */
import { batch, signal } from '@preact/signals';
import type { Hello, Tick, TransitionsEvent } from '../../src/inspect/page-api.ts';
import { apiUrl } from './api.ts';
import { feed } from './feed.ts';
import { flowRates } from './flow-rates.ts';
import { seconds } from './seconds.ts';
import { traffic } from './traffic-groups.ts';

/** Silence after which the connection counts as lost, ms: ticks come four times a second. */
const SILENT_MS = 5_000;
const RETRY_MS = [250, 500, 1_000, 2_000] as const;

export type Connection = 'connecting' | 'live' | 'lost';

export const connection = signal<Connection>('connecting');
export const hello = signal<Hello | undefined>(undefined);
/** The latest aggregates. */
export const tick = signal<Tick | undefined>(undefined);
const frame = signal(0);
/** How often the daemon was seen to start anew. */
export const restarts = signal(0);

/** The number of the latest frame in which the stores changed. Called in a render it makes the component follow them. */
export function useFrames(): number {
  return frame.value;
}

let latest: Tick | undefined;
let greeting: Hello | undefined;
let next: number | undefined;
let heardAtMs = 0;
let isDue = false;
let attempts = 0;

/** Opens the stream, for the life of the page. */
export function connect(): void {
  const source = new EventSource(apiUrl('stream', next === undefined ? {} : { from: next }));
  heardAtMs = performance.now();
  let isOver = false;
  const again = (): void => {
    if (isOver) return;
    isOver = true;
    source.close();
    clearInterval(watch);
    if (connection.value === 'live') connection.value = 'lost';
    setTimeout(connect, RETRY_MS[Math.min(attempts++, RETRY_MS.length - 1)]);
  };
  const watch = setInterval(() => {
    if (performance.now() - heardAtMs > SILENT_MS) again();
  }, 1_000);
  const on = <T>(name: string, take: (data: T) => void): void => {
    source.addEventListener(name, (event: MessageEvent<string>) => {
      heardAtMs = performance.now();
      attempts = 0;
      if (event.lastEventId !== '') next = Number(event.lastEventId);
      take(JSON.parse(event.data) as T); // the daemon's stream sends what page-api.ts says
      show();
    });
  };
  source.addEventListener('error', again);
  on<Hello>('hello', greeted);
  on<Tick>('tick', (data) => {
    latest = data;
    flowRates.add(data);
    traffic.add(data);
    seconds.add(data);
  });
  on<TransitionsEvent>('transitions', (data) => feed.add(data));
}

function greeted(data: Hello): void {
  if (greeting !== undefined && greeting.startedAtMs !== data.startedAtMs) {
    feed.clear();
    flowRates.clear();
    traffic.clear();
    seconds.clear();
    latest = undefined;
    restarts.value++;
  }
  greeting = data;
}

/** At most one update per frame, and none while nobody looks. */
function show(): void {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    batch(() => {
      connection.value = 'live';
      hello.value = greeting;
      tick.value = latest;
      frame.value++;
    });
  });
}
