/**
 * Makes a web server's log in NCSA combined format (about 130 bytes a line, addresses by Zipf's law with s = 1.1) and the truth about it.
 * The same seed and size give the same bytes. As a program: `node make-input.mjs PATH [SIZE] [SEED]`; the truth goes to stdout as JSON.
 */
import { open } from 'node:fs/promises';
import { createRandom, normal, runAsProgram } from '../input-maker.mjs';

const CHUNK_BYTES = 1 << 20;
/** Bytes that one analyze step should get, and the most steps. */
const PART_BYTES = 4_000_000;
const MAX_PARTS = 8;
const PATHS = ['/', '/index.html', '/login', '/cart', '/search?q=metronome', '/static/app.js', '/static/site.css', '/img/logo.png', '/api/v1/items', '/api/v1/items/42', '/checkout', '/favicon.ico', '/docs/start', '/feed.xml'];
const METHODS = ['GET', 'GET', 'GET', 'GET', 'GET', 'GET', 'POST', 'HEAD'];
const AGENTS = ['Mozilla/5.0 (X11; Linux x86_64)', 'Mozilla/5.0 (Macintosh)', 'Mozilla/5.0 (Windows NT 10.0)', 'curl/8.5.0', 'Googlebot/2.1'];
const REFERERS = ['-', '-', '-', 'https://example.org/', 'https://example.com/start'];
/** Cumulated probabilities of the statuses. */
const STATUSES = [[0.86, 200], [0.9, 304], [0.92, 301], [0.965, 404], [0.98, 403], [0.995, 500], [1, 503]];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/**
 * Writes a log of at least `bytes` bytes (the last line may go over) to `path`.
 * Returns the truth: { path, payload, lines, bytes, responseBytes, statusClasses, distinctAddresses, topAddresses, latencyMs }.
 * @param {{ path: string, bytes: number, seed?: number, addresses?: number, latency?: boolean }} options
 */
export async function makeInput({ path, bytes, seed = 1, addresses = 10_000, latency = true }) {
  const random = createRandom(seed);
  const population = makeAddresses(addresses, random);
  const pick = createZipf(addresses, 1.1, random);
  const counts = new Uint32Array(addresses);
  const statusClasses = {};
  const latencies = [];
  let lines = 0;
  let written = 0;
  let responseBytes = 0;
  let timeMs = Date.UTC(2026, 0, 1);
  let stamp = '';
  let stampSecond = -1;

  const file = await open(path, 'w');
  try {
    let chunk = [];
    let chunkBytes = 0;
    while (written + chunkBytes < bytes) {
      const who = pick();
      const u = random();
      const status = STATUSES.find(([p]) => u < p)[1];
      // Sizes are roughly log-normal around 3 kB; unchanged pages have none.
      const size = status === 304 ? 0 : Math.round(Math.exp(8 + 1.2 * normal(random)));
      timeMs += -Math.log(1 - random()) * 40;
      const second = Math.floor(timeMs / 1000);
      if (second !== stampSecond) {
        stampSecond = second;
        stamp = clfTime(second * 1000);
      }
      let line = `${asWritten(population[who], random)} - - [${stamp}] "${METHODS[(random() * METHODS.length) | 0]} ${PATHS[(random() ** 2 * PATHS.length) | 0]} HTTP/1.1" ${status} ${status === 304 ? '-' : size} "${REFERERS[(random() * REFERERS.length) | 0]}" "${AGENTS[(random() * AGENTS.length) | 0]}"`;
      if (latency) {
        const us = Math.max(1, Math.round(Math.exp(9.5 + 0.9 * normal(random))));
        latencies.push(us);
        line += ` ${us}`;
      }
      chunk.push(line);
      chunkBytes += line.length + 1;
      lines++;
      counts[who]++;
      responseBytes += size;
      const statusClass = (statusClasses[`${(status / 100) | 0}xx`] ??= { requests: 0, bytes: 0 });
      statusClass.requests++;
      statusClass.bytes += size;
      if (chunkBytes >= CHUNK_BYTES) await flush();
    }
    await flush();

    async function flush() {
      if (chunk.length === 0) return;
      await file.appendFile(`${chunk.join('\n')}\n`, 'latin1');
      written += chunkBytes;
      chunk = [];
      chunkBytes = 0;
    }
  } finally {
    await file.close();
  }

  const seen = population.map(({ canonical }, i) => ({ address: canonical, requests: counts[i] })).filter(({ requests }) => requests > 0);
  seen.sort((a, b) => b.requests - a.requests || (a.address < b.address ? -1 : 1));
  latencies.sort((a, b) => a - b);
  const at = (p) => latencies[Math.min(latencies.length - 1, Math.floor(p * latencies.length))] / 1000;
  return {
    path,
    payload: { parts: Math.min(MAX_PARTS, Math.max(2, Math.ceil(written / PART_BYTES))) },
    lines,
    bytes: written,
    responseBytes,
    statusClasses,
    distinctAddresses: seen.length,
    topAddresses: seen.slice(0, 50),
    latencyMs: latency && lines > 0 ? { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: latencies.at(-1) / 1000 } : null,
  };
}

/** Different addresses: most IPv4, every tenth IPv6, every twentieth an IPv4 address that is sometimes written as IPv6. */
function makeAddresses(count, random) {
  const used = new Set();
  const population = [];
  while (population.length < count) {
    const i = population.length;
    const hex = () => (1 + Math.floor(random() * 0xfffe)).toString(16);
    const canonical = i % 10 === 9 ? `2001:db8:${hex()}:${hex()}::${hex()}` : `${1 + Math.floor(random() * 222)}.${Math.floor(random() * 256)}.${Math.floor(random() * 256)}.${1 + Math.floor(random() * 254)}`;
    if (used.has(canonical)) continue;
    used.add(canonical);
    population.push({ canonical, isMapped: i % 20 === 4, isIpv6: i % 10 === 9 });
  }
  return population;
}

/** An address as one server or another writes it. */
function asWritten({ canonical, isMapped, isIpv6 }, random) {
  if (isMapped && random() < 0.5) return `::ffff:${canonical}`;
  return isIpv6 && random() < 0.5 ? canonical.toUpperCase() : canonical;
}

/** Ranks 0 to n-1 with probability proportional to 1/(rank+1)^s. */
function createZipf(n, s, random) {
  const cumulated = new Float64Array(n);
  let total = 0;
  for (let i = 0; i < n; i++) cumulated[i] = total += (i + 1) ** -s;
  return () => {
    const wanted = random() * total;
    let low = 0;
    let high = n - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulated[middle] <= wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

function clfTime(ms) {
  const date = new Date(ms);
  const two = (n) => String(n).padStart(2, '0');
  return `${two(date.getUTCDate())}/${MONTHS[date.getUTCMonth()]}/${date.getUTCFullYear()}:${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`;
}

await runAsProgram(import.meta.url, { does: 'Makes a web server\'s log in NCSA combined format; what is in it goes to stdout as JSON.', size: '20MiB', make: makeInput });
