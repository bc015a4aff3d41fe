/** The summary of many invocations in words and as a table. */
import type { InvocationSummary } from '../invocation-tally.ts';
import type { Printer } from './printer.ts';
import { msCell, percent } from './words.ts';

/** Prints it for people. */
export function printTally(summary: InvocationSummary, { text, table }: Pick<Printer, 'text' | 'table'>): void {
  const nodes = Object.entries(summary.nodes).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, count]) => `${name} ${count}`).join(', ');
  text(`${summary.succeeded} of ${summary.invocations} succeeded in ${summary.seconds.toFixed(2)} s: ${summary.perSecond.toFixed(1)} per second, ${percent(summary.localShare)} local${nodes === '' ? '' : ` (${nodes})`}\n`);
  for (const [code, count] of Object.entries(summary.errors)) text(`  ${code}: ${count}\n`);
  if (summary.succeeded === 0) return;
  const rows = Object.entries(summary.phasesMs).map(([name, figures]) => ({ name, figures }));
  table(rows, [
    { header: 'ms', cell: ({ name }) => name },
    { header: 'P50', align: 'right', cell: ({ figures }) => msCell(figures.p50) },
    { header: 'P95', align: 'right', cell: ({ figures }) => msCell(figures.p95) },
    { header: 'P99', align: 'right', cell: ({ figures }) => msCell(figures.p99) },
    { header: 'MAX', align: 'right', cell: ({ figures }) => msCell(figures.max) },
    { header: 'MEAN', align: 'right', cell: ({ figures }) => msCell(figures.mean) },
  ]);
}
