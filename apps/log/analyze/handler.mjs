/**
 * log-analyze: counts one part of a log in NCSA combined format. Returns a small summary; the full table of addresses
 * (address, requests, bytes, tab-separated) is an output object. Addresses are normalised: an IPv4 address written as IPv6 is the
 * IPv4 address. A number behind the user agent is the response time in microseconds (Apache's %D).
 */
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { cumsum, bisectLeft, greatest, sort, sum } from 'd3-array';
import ipaddr from 'ipaddr.js';
import { eachLine } from './lines.mjs';

/** Different addresses that are kept; the requests of all others are counted together. */
const MAX_ADDRESSES = 500_000;
const OTHERS = '(others)';
const TOP = 50;
/** host ident user [time] "request" status bytes "referer" "agent" [microseconds] */
const LINE = /^(\S+) \S+ \S+ \[[^\]]*\] "(?:[^"\\]|\\.)*" ([1-5]\d\d) (\d+|-)(?: "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*")?(?: (\d+))?$/;

export async function handler(_event, context) {
  const [log, ...more] = context.inputs;
  if (log === undefined || more.length > 0) throw new TypeError(`log-analyze needs exactly one input object, a part of a log, not ${context.inputs.length}`);

  const addresses = new Map(); // address → { address, network, requests, bytes }
  const asWritten = new Map(); // what stands in the log → the entry of its normalised address
  const statusClasses = {};
  const latency = new Map(); // bucket → requests
  let requests = 0;
  let malformed = 0;
  let slowest = 0;

  await eachLine(log.path, (line) => {
    const match = line === undefined ? null : LINE.exec(line);
    if (match === null) {
      malformed++;
      return;
    }
    const [, host, status, size, micros] = match;
    const bytes = size === '-' ? 0 : Number(size);
    requests++;
    const statusClass = (statusClasses[`${status[0]}xx`] ??= { requests: 0, bytes: 0 });
    statusClass.requests++;
    statusClass.bytes += bytes;
    const entry = asWritten.get(host) ?? entryOf(host);
    entry.requests++;
    entry.bytes += bytes;
    if (micros !== undefined) {
      const us = Number(micros);
      if (us > slowest) slowest = us;
      const bucket = latencyBucket(us);
      latency.set(bucket, (latency.get(bucket) ?? 0) + 1);
    }
  });

  function entryOf(host) {
    const { address, network } = normalise(host);
    let entry = addresses.get(address);
    if (entry === undefined) {
      const isFull = addresses.size >= MAX_ADDRESSES && address !== OTHERS;
      if (isFull) return addresses.get(OTHERS) ?? entryOf(OTHERS);
      entry = { address, network, requests: 0, bytes: 0 };
      addresses.set(address, entry);
    }
    if (asWritten.size < 2 * MAX_ADDRESSES) asWritten.set(host, entry);
    return entry;
  }

  const all = [...addresses.values()];
  await writeTable(context.output(`${log.name.replace(/\.log$/, '')}.addresses.tsv`), all);
  const networks = {};
  for (const { network, requests: count } of all) networks[network] = (networks[network] ?? 0) + count;
  const buckets = sort(latency, ([bucket]) => bucket);
  return {
    requests,
    malformed,
    bytes: sum(Object.values(statusClasses), (each) => each.bytes),
    distinctAddresses: all.length,
    statusClasses,
    networks,
    busiest: greatest(all, (entry) => entry.bytes)?.address ?? null,
    topAddresses: all.sort(byRequests).slice(0, TOP).map(({ address, requests: count, bytes }) => ({ address, requests: count, bytes })),
    latencyMs: quantiles(buckets, slowest),
    latencyBuckets: buckets,
    slowestUs: slowest,
  };
}

const byRequests = (a, b) => b.requests - a.requests || (a.address < b.address ? -1 : 1);

/** The address in its usual form and the kind of network it belongs to; names of hosts stay as they are. */
function normalise(host) {
  if (!ipaddr.isValid(host)) return { address: host, network: 'name' };
  const address = ipaddr.process(host);
  return { address: address.toString(), network: address.range() };
}

/** Logarithmic buckets, 16 per power of two: quantiles are exact to about 4 %. Parts can be merged by adding. */
function latencyBucket(us) {
  return us <= 1 ? 0 : Math.floor(Math.log2(us) * 16);
}

/** Quantiles in ms from buckets in ascending order, or null without any. */
function quantiles(buckets, slowestUs) {
  if (buckets.length === 0) return null;
  const cumulated = cumsum(buckets, ([, count]) => count);
  const total = cumulated.at(-1);
  const at = (p) => Math.min(2 ** ((buckets[bisectLeft(cumulated, p * total)][0] + 0.5) / 16), slowestUs) / 1000;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: slowestUs / 1000 };
}

async function writeTable(path, entries) {
  function* rows() {
    let rows = [];
    for (const { address, requests, bytes } of entries) {
      rows.push(`${address}\t${requests}\t${bytes}\n`);
      if (rows.length === 4096) {
        yield rows.join('');
        rows = [];
      }
    }
    yield rows.join('');
  }
  await pipeline(Readable.from(rows()), createWriteStream(path, { encoding: 'latin1' }));
}
