/**
 * Callers who wait for an answer before they ask again: their requests would have come at other times if answers had taken longer or shorter. A recording does
 * not say who called; it shows when nearly every request came right after another one had ended, which chance alone does not make.
 */

/** A request came when another one had ended. */
export interface Following {
  /** Place of the request that had ended. */
  readonly request: number;
  /** How long after it, ms. */
  readonly lagMs: number;
}

/** Longest pause that still counts as "right after", ms. */
const LONGEST_LAG_MS = 100;
/** So many ends may lie in that pause by chance, as a share: busy traffic needs shorter pauses. */
const CHANCE = 0.1;
/** Share of the requests after the first end that must follow one right after, and how many they must be: by chance that is as good as impossible. */
const LEAST_SHARE = 0.6, LEAST_REQUESTS = 10;
/** Once callers are seen to wait, pauses that are so many times longer are theirs too: a caller may be held up. */
const HELD_UP = 5;

/** By request, which one it followed; undefined entries came by themselves. Undefined: requests did not wait for each other. O(n log n). */
export function followingsOf(requests: readonly { readonly atMs: number; readonly recordedMs: number }[]): readonly (Following | undefined)[] | undefined {
  const order = requests.map(({ atMs }, place) => ({ place, atMs })).sort((a, b) => a.atMs - b.atMs);
  const ends = requests.flatMap(({ atMs, recordedMs }, place) => (Number.isNaN(recordedMs) ? [] : [{ place, endedAtMs: atMs + recordedMs }])).sort((a, b) => a.endedAtMs - b.endedAtMs);
  const spanMs = (order.at(-1)?.atMs ?? 0) - (order[0]?.atMs ?? 0);
  const lagMs = Math.min(LONGEST_LAG_MS, (CHANCE * spanMs) / Math.max(1, requests.length));
  const rightAfter = match(order, ends, lagMs);
  if (rightAfter.later < LEAST_REQUESTS || rightAfter.matched < LEAST_SHARE * rightAfter.later) return undefined;
  return match(order, ends, HELD_UP * lagMs).found;
}

/** Gives each request the last end before it that nobody else followed, if it is no longer ago. */
function match(order: readonly { readonly place: number; readonly atMs: number }[], ends: readonly { readonly place: number; readonly endedAtMs: number }[], longestMs: number): { readonly found: (Following | undefined)[]; readonly matched: number; readonly later: number } {
  const found = order.map((): Following | undefined => undefined);
  const open: (typeof ends)[number][] = [];
  let next = 0, later = 0, matched = 0;
  for (const { place, atMs } of order) {
    for (let end = ends[next]; end !== undefined && end.endedAtMs <= atMs; end = ends[++next]) open.push(end);
    if (next > 0) later++;
    const last = open.at(-1);
    if (last === undefined || atMs - last.endedAtMs > longestMs) continue;
    open.pop();
    matched++;
    found[place] = { request: last.place, lagMs: atMs - last.endedAtMs };
  }
  return { found, matched, later };
}
