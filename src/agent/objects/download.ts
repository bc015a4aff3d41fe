/**
 * One object from its holders into a file, in the data thread: resumed where a transfer broke, from the next holder where one is
 * gone, verified. A holder that sent wrong bytes is asked to look at its copy, so that it is no trap for the next reader.
 */
import { MetronomeError } from '../../core/errors.ts';
import type { DownloadOrder, DownloadReport } from './data-protocol.ts';
import { FileSink } from './file-sink.ts';
import type { HolderClient } from './holder-client.ts';

/** Requests for one object in all. Who breaks off after some progress is asked again; this is for one that does so after every byte. */
const MAX_REQUESTS = 1_000;
const REPORT_TIMEOUT_MS = 60_000;

type Holder = DownloadOrder['holders'][number];

/** What speaks against a holder. */
interface Refusal {
  readonly problem: string;
  readonly isCorrupt: boolean;
}

/** Rejects with OBJECT_LOST, OBJECT_CORRUPT, STORE_FULL, or the signal's reason. */
export async function download(order: DownloadOrder, client: HolderClient, signal: AbortSignal, onSuspect: (node: string, outcome: string) => void): Promise<DownloadReport> {
  const startedAtMs = performance.now();
  const sink = new FileSink(order.path);
  try {
    const movedBytes = await fill(sink, order, client, signal, onSuspect);
    return { movedBytes, tookMs: performance.now() - startedAtMs, digest: sink.digest() };
  } finally {
    sink.close();
  }
}

async function fill(sink: FileSink, order: DownloadOrder, client: HolderClient, signal: AbortSignal, onSuspect: (node: string, outcome: string) => void): Promise<number> {
  const { id, sizeBytes, digest } = order;
  let holders = order.holders;
  const problems: string[] = [];
  /** Whose bytes are in the file. */
  const sources = new Set<Holder>();
  let wasCorrupt = false;
  let movedBytes = 0;
  /** Transfers that broke after some progress. */
  let breaks = 0;
  let lastBreak = '';
  const accuse = (holder: Holder, problem: string): void => {
    wasCorrupt = true;
    problems.push(`${holder.node}: ${problem}`);
    void report(holder, id, client, onSuspect);
  };
  for (let requests = 0; requests < MAX_REQUESTS; requests++) {
    const holder = holders[0];
    if (holder === undefined) break;
    const before = sink.writtenBytes;
    let refusal: Refusal | undefined;
    try {
      refusal = await ask(holder, order, sink, client, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      // Our own disk's, not the holder's fault.
      if (error instanceof MetronomeError) throw error;
      // The transfer broke. With progress the same holder goes on where it stopped, otherwise the next one is asked.
      refusal = { problem: error instanceof Error ? error.message : String(error), isCorrupt: false };
    }
    const progress = sink.writtenBytes - (sink.writtenBytes < before ? 0 : before);
    movedBytes += progress;
    if (progress > 0) sources.add(holder);
    if (refusal === undefined) {
      if (sink.writtenBytes === sizeBytes && (digest === '' || sink.digest() === digest)) return movedBytes;
      const problem = `sent bytes with the digest ${sink.digest()}`;
      sources.delete(holder);
      if (sources.size > 0) {
        // Several put it together and one of them was wrong: whoever was asked last is heard alone once more.
        for (const source of sources) accuse(source, `sent a part of what had the digest ${sink.digest()}`);
        holders = holders.filter((other) => !sources.has(other));
        sources.clear();
        sink.restart();
        continue;
      }
      refusal = { problem, isCorrupt: true };
    } else if (!refusal.isCorrupt && progress > 0) {
      breaks++;
      lastBreak = `${holder.node}: ${refusal.problem}`;
      continue;
    }
    if (refusal.isCorrupt) {
      accuse(holder, refusal.problem);
      sources.clear();
      sink.restart();
    } else problems.push(`${holder.node}: ${refusal.problem}`);
    holders = holders.slice(1);
  }
  const maker = order.holders[0]?.node ?? 'an unknown node';
  if (breaks > 0) problems.push(`${breaks} transfers broke on the way, the last one from ${lastBreak}`);
  const told = problems.length === 0 ? 'No address of a holder is known.' : problems.join('; ');
  if (wasCorrupt) throw new MetronomeError('OBJECT_CORRUPT', `The object "${id}", made on "${maker}", does not match its digest ${digest} and ${sizeBytes} bytes. ${told}`, { component: 'agent' });
  throw new MetronomeError('OBJECT_LOST', `The object "${id}", made on "${maker}", could not be had from any holder. ${told}`, { component: 'agent' });
}

/** One request. Returns what speaks against this holder, or undefined when the body was read to its end. */
async function ask(holder: Holder, order: DownloadOrder, sink: FileSink, client: HolderClient, signal: AbortSignal): Promise<Refusal | undefined> {
  const from = sink.writtenBytes;
  // A resumption of a complete body only has to be verified.
  if (from > 0 && from >= order.sizeBytes) return undefined;
  let refusal: Refusal | undefined;
  await client.request({
    method: 'GET',
    url: objectUrl(holder.url, order.id),
    headers: from > 0 ? { range: `bytes=${from}-` } : {},
    signal,
    onHead({ status, headers, bodyBytes }) {
      const resumes = status === 206 && (headers.get('content-range') ?? '').startsWith(`bytes ${from}-`);
      const expected = resumes ? order.sizeBytes - from : order.sizeBytes;
      if (status !== 200 && !resumes) refusal = { problem: status === 404 ? 'does not have it' : `answered with status ${status}`, isCorrupt: false };
      else if (bodyBytes === undefined) refusal = { problem: 'did not tell how long its answer is', isCorrupt: false };
      else if (bodyBytes !== expected) refusal = { problem: `has ${resumes ? from + bodyBytes : bodyBytes} bytes`, isCorrupt: true };
      else if (from > 0 && !resumes) sink.restart();
      return refusal === undefined;
    },
    onBytes: (bytes) => sink.write(bytes),
  });
  return refusal;
}

/** Asks a holder to hash its copy, and to drop it if it is wrong. Nobody waits for it. */
async function report(holder: Holder, id: string, client: HolderClient, onSuspect: (node: string, outcome: string) => void): Promise<void> {
  let outcome = 'unknown';
  try {
    const url = objectUrl(holder.url, id);
    url.pathname += '/verify';
    await client.request({
      method: 'POST', url, signal: AbortSignal.timeout(REPORT_TIMEOUT_MS),
      onHead({ status }) {
        outcome = status === 200 ? 'sound' : status === 410 ? 'dropped' : `status ${status}`;
        return false;
      },
      onBytes() {},
    });
  } catch (error) {
    outcome = error instanceof Error ? error.message : String(error);
  }
  onSuspect(holder.node, outcome);
}

function objectUrl(base: string, id: string): URL {
  return new URL(`objects/${encodeURIComponent(id)}`, base.endsWith('/') ? base : `${base}/`);
}
