/** `metronome model`: how good the prediction model is, and its snapshots. */
import { open, rename, rm } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes, formatMs } from '../../core/units.ts';
import { GetModelStatusResponse, type FunctionAccuracy } from '../../rpc/gen/metronome/v1/model.ts';
import { TRAINERS, type TrainerName } from '../../predictor/model/trainer.ts';
import { readRecording } from '../../workload/observation-file.ts';
import { modelContestant, movingAverageContestant, score, scoreServed, type Score } from '../../workload/test-then-train.ts';
import { wholeNumber, withExamples } from '../arguments.ts';
import { loadCliConfig, printerOf, withSession } from '../context.ts';
import type { Column } from '../output/table.ts';
import { ageText } from '../output/words.ts';
import type { CliApp } from '../app.ts';

/** Bytes of one message of an import. */
const CHUNK_BYTES = 1024 * 1024;

export function modelCommand(app: CliApp): Command {
  const group = new Command('model').description('look at the prediction model, evaluate it, and keep it');
  group.addCommand(withExamples(new Command('status').description('how good the model was lately, function by function').action(app.action(async (_options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const status = await client.getModelStatus({}, { signal });
      printer.one(fieldsOf(status), () => GetModelStatusResponse.toJSON(status));
      if (!printer.isStructured && status.functions.length > 0) {
        printer.text('\n');
        printer.table(status.functions, FUNCTION_COLUMNS);
      }
    }))), 'metronome model status', 'metronome model status -o wide'));
  group.addCommand(withExamples(new Command('evaluate').argument('<recording>', 'file of recorded observations (model.observationLog), .jsonl or .jsonl.gz').description('let the model and moving averages predict each recorded execution before they learn from it')
    .option('--warm-up <n>', 'executions at the beginning that do not count', wholeNumber(0, 1_000_000), 200)
    .option('--seed <n>', 'seed of the model', wholeNumber(0, 2 ** 31), 1)
    .addOption(new Option('--trainer <name>', 'who grows the trees').choices(TRAINERS))
    .option('--trees <n>', 'trees of the forest', wholeNumber(1, 500))
    .option('--window <n>', 'observations that the model keeps', wholeNumber(100, 20_000))
    .action(app.action(async (file: string, options: EvaluateOptions, command: Command) => {
      const printer = printerOf(app, command);
      const { model } = loadCliConfig(app, command).config;
      const recording = await readRecording(resolve(app.io.cwd, file));
      const { functions, executions, header } = recording;
      if (executions.length <= options.warmUp) throw new MetronomeError('INVALID_REQUEST', `${file} holds ${executions.length} executions; with --warm-up ${options.warmUp} none is left to count.`);
      printer.progress(`${file}: ${executions.length} ${header.source} executions of ${functions.length} functions on ${recording.nodes.length} nodes, ${recording.excluded} excluded`);
      const { trainer = model.trainer, trees = model.trees, window = model.window } = options;
      const { bootstrapAfter, updateEvery, replace, forgetting } = model;
      const forest = score(modelContestant('forest', functions, { seed: options.seed, trainer, trees, window, bootstrapAfter, updateEvery, replace, forgetting }), executions, options.warmUp);
      const average = score(movingAverageContestant(), executions, options.warmUp);
      const rows: Evaluated[] = [];
      for (const [predictor, scored] of [['forest', forest], ['moving-average', average], ['served', scoreServed(executions, options.warmUp)]] as const) {
        if (scored === undefined) continue;
        const { all, functions: scores } = scored;
        rows.push({ predictor, function: '(all)', ...all });
        for (const { index, name } of functions) {
          const own = scores.get(index);
          if (own !== undefined) rows.push({ predictor, function: name, ...own });
        }
      }
      printer.list(rows, EVALUATED_COLUMNS, (row) => row, 'Nothing to count.');
    })), 'metronome model evaluate observations.jsonl', 'metronome model evaluate observations-1.jsonl.gz --trainer ml-random-forest --trees 20'));
  group.addCommand(withExamples(new Command('export').argument('<file>', 'file to write').description('write the model as a snapshot to a file')
    .action(app.action(async (file: string, _options: object, command: Command) =>
      withSession(app, command, async ({ client, printer, signal }) => {
        // Whole or not at all: a half file would look like a snapshot.
        const target = resolve(app.io.cwd, file);
        const partial = `${target}.${process.pid}.part`;
        let bytes = 0, version = 0;
        try {
          const handle = await open(partial, 'w', 0o600);
          try {
            for await (const part of client.exportModel({}, { signal })) {
              await handle.writeFile(part.chunk);
              bytes += part.chunk.length;
              ({ version } = part);
            }
          } finally {
            await handle.close();
          }
          await rename(partial, target);
        } finally {
          await rm(partial, { force: true });
        }
        printer.progress(`${file}: version ${version}, ${formatBytes(bytes)}`);
        if (printer.isStructured) printer.structured({ file, version, bytes });
      }))), 'metronome model export model.snapshot'));
  group.addCommand(withExamples(new Command('import').argument('<file>', 'file that `model export` wrote').description('put a snapshot in the place of the model')
    .action(app.action(async (file: string, _options: object, command: Command) =>
      withSession(app, command, async ({ client, printer, signal }) => {
        const { version, observations } = await client.importModel(chunksOf(app.io.cwd, file), { signal });
        printer.progress(`model: version ${version}, ${observations} observations`);
        if (printer.isStructured) printer.structured({ version, observations });
      }))), 'metronome model import model.snapshot'));
  return group;
}

interface EvaluateOptions {
  readonly warmUp: number;
  readonly seed: number;
  readonly trainer?: TrainerName;
  readonly trees?: number;
  readonly window?: number;
}

interface Evaluated extends Score {
  readonly predictor: string;
  readonly function: string;
}

async function* chunksOf(cwd: string, file: string): AsyncGenerator<{ chunk: Buffer }> {
  try {
    for await (const chunk of createReadStream(resolve(cwd, file), { highWaterMark: CHUNK_BYTES })) yield { chunk: chunk as Buffer }; // without an encoding a file gives buffers
  } catch (error) {
    throw new MetronomeError('INVALID_REQUEST', `The file ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`, { cause: error });
  }
}

function fieldsOf(status: GetModelStatusResponse): (readonly [string, string])[] {
  const now = Date.now();
  const counted = (map: Readonly<Record<string, number>>): string => Object.entries(map).filter(([, count]) => count > 0).map(([name, count]) => `${name} ${Math.round(count)}`).join(', ') || 'none';
  const general: (readonly [string, string])[] = [
    ['Predictor', status.predictor],
    ['State', status.state],
    ['Observations', String(status.observations)],
    ['Taught nothing', counted(status.excluded)],
  ];
  if (status.predictor !== 'forest') return general;
  return [
    ...general.slice(0, 2),
    ['Version', status.version === 0 ? 'none' : `${status.version}, published ${ageText(status.publishedAtUnixMs, now)} ago`],
    ['Forest', status.trees === 0 ? 'none' : `${status.trees} trees of ${status.trainer}, ${status.treeNodes} nodes, ${formatBytes(status.bytes)}`],
    ['Window', `${status.windowSize} of ${status.windowRoom} observations`],
    ['Snapshot', status.snapshotAtUnixMs === 0 ? 'none since the start' : `${ageText(status.snapshotAtUnixMs, now)} ago`],
    ['Drift', `${status.driftEvents} of functions, ${status.nodeDriftEvents} of nodes`],
    ['Answers', `p50 ${formatMs(status.answerP50Ms)}, p99 ${formatMs(status.answerP99Ms)}`],
    ...general.slice(2),
    ['Counters', counted(status.counters)],
  ];
}

/** 0.0123 → "1.2%". */
function fine(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}

const FUNCTION_COLUMNS: readonly Column<FunctionAccuracy>[] = [
  { header: 'FUNCTION', cell: ({ function: name }) => name },
  { header: 'SEEN', align: 'right', cell: ({ observations }) => String(observations) },
  { header: 'ERROR p50', align: 'right', cell: ({ medianError, observations }) => (observations === 0 ? '' : fine(medianError)) },
  { header: 'p95', align: 'right', cell: ({ p95Error, observations }) => (observations === 0 ? '' : fine(p95Error)) },
  { header: 'P95 HELD', align: 'right', cell: ({ servedCoverageP95, observations }) => (observations === 0 ? '' : fine(servedCoverageP95)) },
  { header: 'P99 HELD', align: 'right', wide: true, cell: ({ servedCoverageP99, observations }) => (observations === 0 ? '' : fine(servedCoverageP99)) },
  { header: 'LEARNED', align: 'right', cell: ({ forestObservations }) => String(forestObservations) },
  { header: 'FOREST p50', align: 'right', cell: ({ forestMedianError, forestObservations }) => (forestObservations === 0 ? '' : fine(forestMedianError)) },
  { header: 'p95', align: 'right', cell: ({ forestP95Error, forestObservations }) => (forestObservations === 0 ? '' : fine(forestP95Error)) },
  { header: 'P95 COVERS', align: 'right', cell: ({ coverageP95, forestObservations }) => (forestObservations === 0 ? '' : fine(coverageP95)) },
  { header: 'P99 COVERS', align: 'right', wide: true, cell: ({ coverageP99, forestObservations }) => (forestObservations === 0 ? '' : fine(coverageP99)) },
  { header: 'DRIFT', align: 'right', cell: ({ driftEvents }) => String(driftEvents) },
];

const EVALUATED_COLUMNS: readonly Column<Evaluated>[] = [
  { header: 'PREDICTOR', cell: ({ predictor }) => predictor },
  { header: 'FUNCTION', cell: ({ function: name }) => name },
  { header: 'COUNT', align: 'right', cell: ({ count }) => String(count) },
  { header: 'ERROR p50', align: 'right', cell: ({ medianError }) => fine(medianError) },
  { header: 'p90', align: 'right', cell: ({ p90Error }) => fine(p90Error) },
  { header: 'p95', align: 'right', cell: ({ p95Error }) => fine(p95Error) },
  { header: 'p99', align: 'right', cell: ({ p99Error }) => fine(p99Error) },
  { header: 'P95 COVERS', align: 'right', cell: ({ coverageP95 }) => fine(coverageP95) },
  { header: 'P99 COVERS', align: 'right', cell: ({ coverageP99 }) => fine(coverageP99) },
];
