/** Compares what log-analysis found in a log with what the maker put in. */
import { isDeepStrictEqual } from 'node:util';

/** Quantiles come from buckets, 16 per power of two. */
const QUANTILE_ERROR = 0.05;

/** What differs, one line each; nothing if all is right. `result` is what log-merge returned. */
export async function checkOutput({ truth, result }) {
  if (result === null || typeof result !== 'object') return [`the result is ${JSON.stringify(result)}`];
  const problems = [];
  const differ = (what, is, expected) => {
    if (!isDeepStrictEqual(is, expected)) problems.push(`${what} is ${JSON.stringify(is)}, not ${JSON.stringify(expected)}`);
  };
  differ('malformed', result.malformed, 0);
  differ('requests', result.requests, truth.lines);
  differ('bytes', result.bytes, truth.responseBytes);
  differ('distinctAddresses', result.distinctAddresses, truth.distinctAddresses);
  differ('statusClasses', result.statusClasses, truth.statusClasses);
  // Addresses with the same number of requests have no order of their own.
  const counts = (top) => top?.slice(0, 10).map(({ requests }) => requests);
  differ('requests of the top addresses', counts(result.topAddresses), counts(truth.topAddresses));
  for (const p of ['p50', 'p90', 'p99']) {
    const [is, expected] = [result.latencyMs?.[p] ?? 0, truth.latencyMs?.[p] ?? 0];
    if (Math.abs(is - expected) > expected * QUANTILE_ERROR) problems.push(`latencyMs.${p} is ${is}, not ${expected}`);
  }
  return problems;
}
