/**
 * log-merge: puts the results of log-analyze together. The event holds their summaries (one or an array of them), the input objects are
 * their tables of addresses. Returns totals, the ten busiest addresses, status classes, networks and response times.
 */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { bisectLeft, cumsum, max, rollup, rollups, sort, sum } from 'd3-array';

const TOP = 10;

export async function handler(event, context) {
  const summaries = Array.isArray(event) ? event : event === null || event === undefined ? [] : [event];
  if (summaries.length !== context.inputs.length) throw new TypeError(`log-merge needs one table for each summary, not ${context.inputs.length} for ${summaries.length}`);

  const addresses = new Map(); // address → [requests, bytes]
  for (const table of context.inputs) {
    for await (const row of createInterface({ input: createReadStream(table.path, { encoding: 'latin1' }), crlfDelay: Infinity })) {
      const [address, requests, bytes, ...rest] = row.split('\t');
      if (bytes === undefined || rest.length > 0) throw new TypeError(`${table.name} is no table of addresses: ${JSON.stringify(row.slice(0, 80))}`);
      const entry = addresses.get(address);
      if (entry === undefined) addresses.set(address, [Number(requests), Number(bytes)]);
      else {
        entry[0] += Number(requests);
        entry[1] += Number(bytes);
      }
    }
  }

  const requests = sum(summaries, (each) => each.requests);
  const inTables = sum(addresses.values(), ([count]) => count);
  if (inTables !== requests) throw new Error(`the summaries count ${requests} requests, the tables ${inTables}: they do not belong together`);

  const statusClasses = rollup(
    summaries.flatMap((each) => Object.entries(each.statusClasses)),
    (group) => ({ requests: sum(group, ([, each]) => each.requests), bytes: sum(group, ([, each]) => each.bytes) }),
    ([name]) => name,
  );
  const networks = rollup(summaries.flatMap((each) => Object.entries(each.networks)), (group) => sum(group, ([, count]) => count), ([name]) => name);
  const buckets = sort(rollups(summaries.flatMap((each) => each.latencyBuckets), (group) => sum(group, ([, count]) => count), ([bucket]) => bucket), ([bucket]) => bucket);
  const byRequests = [...addresses].sort(([a, [x]], [b, [y]]) => y - x || (a < b ? -1 : 1));
  return {
    parts: summaries.length,
    requests,
    malformed: sum(summaries, (each) => each.malformed),
    bytes: sum(summaries, (each) => each.bytes),
    distinctAddresses: addresses.size,
    statusClasses: Object.fromEntries(sort(statusClasses, ([name]) => name)),
    networks: Object.fromEntries(sort(networks, ([name]) => name)),
    topAddresses: byRequests.slice(0, TOP).map(([address, [count, bytes]]) => ({ address, requests: count, bytes })),
    latencyMs: quantiles(buckets, max(summaries, (each) => each.slowestUs)),
  };
}

/** Quantiles in ms from log-analyze's buckets (16 per power of two of microseconds) in ascending order, or null without any. */
function quantiles(buckets, slowestUs) {
  if (buckets.length === 0) return null;
  const cumulated = cumsum(buckets, ([, count]) => count);
  const total = cumulated.at(-1);
  const at = (p) => Math.min(2 ** ((buckets[bisectLeft(cumulated, p * total)][0] + 0.5) / 16), slowestUs) / 1000;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: slowestUs / 1000 };
}
