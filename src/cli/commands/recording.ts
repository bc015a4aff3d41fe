/** `metronome recording`: what a recording holds, and its facts as JSON Lines. */
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { formatBytes, formatMs } from '../../core/units.ts';
import type { History } from '../../recording/history.ts';
import type { RecordingReader } from '../../recording/read-recording.ts';
import { withExamples } from '../arguments.ts';
import { printerOf } from '../context.ts';
import type { Column } from '../output/table.ts';
import type { CliApp } from '../app.ts';
import { openForCommand } from './replay.ts';

/** Characters that are given out at once. */
const CHUNK = 65_536;

export function recordingCommand(app: CliApp): Command {
  const group = new Command('recording').description('look into recordings of the scheduler (up --record, scheduler --record)');
  group.addCommand(withExamples(new Command('info').argument('<recording>', 'folder of a recording, or one that holds recordings').description('when, what and how much was recorded')
    .action(app.action(async (path: string, _options: object, own: Command) => {
      const printer = printerOf(app, own);
      const reader = await openForCommand(printer, resolve(app.io.cwd, path));
      const { readHistory } = await import('../../recording/history.ts');
      const history = readHistory(reader);
      const rows = perFunction(history);
      printer.one(fieldsOf(reader, history), () => summaryOf(reader, history, rows));
      if (!printer.isStructured && rows.length > 0) {
        printer.text('\n');
        printer.table(rows, COLUMNS);
      }
    })), 'metronome recording info ./recordings'));
  group.addCommand(withExamples(new Command('export').argument('<recording>', 'folder of a recording, or one that holds recordings').description('write it to standard output as JSON Lines; times are ms since 1970, numbers without an end are null')
    .addOption(new Option('--what <kind>', 'every fact in its order, or one line for each invocation').choices(['facts', 'invocations']).default('facts'))
    .action(app.action(async (path: string, { what }: { readonly what: string }, own: Command) => {
      const reader = await openForCommand(printerOf(app, own), resolve(app.io.cwd, path));
      const { factsOf, readHistory } = await import('../../recording/history.ts');
      let text = '';
      const line = (value: unknown): void => {
        text += `${JSON.stringify(value)}\n`;
        if (text.length < CHUNK) return;
        app.io.out(text);
        text = '';
      };
      if (what === 'facts') for (const { entry, atMs, fact } of factsOf(reader)) line({ entry, atMs, ...fact });
      else for (const invocation of readHistory(reader).invocations) line(invocation);
      app.io.out(text);
    })), 'metronome recording export ./recordings > facts.jsonl', 'metronome recording export ./recordings --what invocations | head'));
  return group;
}

interface FunctionRow {
  readonly function: string;
  readonly arrivals: number;
  readonly completed: number;
  readonly meanMs: number;
  readonly p95Ms: number;
  readonly slaMissed: number;
}

function perFunction({ invocations }: History): FunctionRow[] {
  const rows = new Map<string, { arrivals: number; slaMissed: number; latencies: number[] }>();
  for (const { functionName, slaMs, outcome } of invocations) {
    const row = rows.get(functionName) ?? { arrivals: 0, slaMissed: 0, latencies: [] };
    rows.set(functionName, row);
    row.arrivals++;
    if (outcome?.state !== 'completed') continue;
    row.latencies.push(outcome.totalMs);
    if (outcome.totalMs > slaMs) row.slaMissed++;
  }
  return [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, { arrivals, slaMissed, latencies }]) => {
    latencies.sort((a, b) => a - b);
    return { function: name, arrivals, completed: latencies.length, slaMissed, meanMs: latencies.length === 0 ? 0 : latencies.reduce((a, b) => a + b, 0) / latencies.length, p95Ms: latencies[Math.max(0, Math.ceil(0.95 * latencies.length) - 1)] ?? 0 };
  });
}

function endOf({ torn }: RecordingReader, { end }: History): string {
  if (torn !== undefined) return `torn: the last block of ${torn.file} (byte ${torn.offset}, ${torn.bytes} bytes) was skipped`;
  return end === 'inOrder' ? 'in order' : 'cut off (the scheduler was killed, or the recording was full)';
}

function fieldsOf(reader: RecordingReader, history: History): (readonly [string, string])[] {
  const { head } = reader;
  const { counts, invocations, refused, nodes, functions, policies } = history;
  return [
    ['Folder', reader.folder],
    ['Began', new Date(history.startedAtMs).toISOString()],
    ['Duration', formatMs(history.durationMs)],
    ['Written by', `metronome ${head.version}, policy ${history.policy}, predictor ${head.predictor}`],
    ['Size', `${formatBytes(reader.bytes)} in ${reader.segments} ${reader.segments === 1 ? 'segment' : 'segments'}${reader.removedSegments === 0 ? '' : `; ${reader.removedSegments} earlier ones were removed, so it cannot be replayed`}`],
    ['End', endOf(reader, history)],
    ['Left out', counts.gaps === 0 ? 'nothing' : `${counts.missing} entries in ${counts.gaps} gaps`],
    ['Nodes', nodes.map(({ name, slots }) => `${name} (${slots} slots)`).join(', ') || 'none'],
    ['Functions', `${functions.size}`],
    ['Invocations', `${invocations.length} taken in, ${refused} refused`],
    ['Decisions', `${counts.decisions}, of these ${counts.delays} delays; ${[...policies].map(([name, count]) => `${name} ${count}`).join(', ')}`],
    ['Dispatches', String(counts.dispatches)],
  ];
}

function summaryOf(reader: RecordingReader, history: History, rows: readonly FunctionRow[]): object {
  const { counts, invocations, refused, nodes, functions, policies, startedAtMs, durationMs, policy } = history;
  return {
    folder: reader.folder, version: reader.head.version, startedAtMs, durationMs, policy, predictor: reader.head.predictor, bytes: reader.bytes, segments: reader.segments, removedSegments: reader.removedSegments, end: history.end, torn: reader.torn ?? null,
    nodes: nodes.map(({ name, slots, memoryMb }) => ({ name, slots, memoryMb })), functions: [...functions.keys()], invocations: invocations.length, refused, ...counts, policies: Object.fromEntries(policies), perFunction: rows,
  };
}

const COLUMNS: readonly Column<FunctionRow>[] = [
  { header: 'FUNCTION', cell: ({ function: name }) => name },
  { header: 'ARRIVALS', align: 'right', cell: ({ arrivals }) => String(arrivals) },
  { header: 'COMPLETED', align: 'right', cell: ({ completed }) => String(completed) },
  { header: 'MEAN', align: 'right', cell: ({ meanMs, completed }) => (completed === 0 ? '' : formatMs(meanMs)) },
  { header: 'P95', align: 'right', cell: ({ p95Ms, completed }) => (completed === 0 ? '' : formatMs(p95Ms)) },
  { header: 'SLA MISSED', align: 'right', cell: ({ slaMissed }) => String(slaMissed) },
];
