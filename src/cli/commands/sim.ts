/** `metronome sim`: fits the simulator to recordings of real runs, and runs scenarios in it. */
import { Command } from 'commander';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import { calibrate, LEAST_SAMPLES, type Calibration, type FunctionFit } from '../../sim/calibrate.ts';
import { readCalibration, type CalibrationRecording } from '../../sim/calibration-samples.ts';
import { unknownPolicy, isPolicyName } from '../../policy/registry.ts';
import { confidenceOf, type Confidence } from '../../report/confidence.ts';
import { formatProfiles } from '../../sim/profile-file.ts';
import { runReplicas } from '../../sim/replicas.ts';
import { formatReduction, parseReduction, reduce, shrink, wholeOf } from '../../sim/shrink.ts';
import { EXAMPLE_SCENARIO, parseScenario } from '../../sim/scenario-file.ts';
import type { ScenarioResult } from '../../sim/scenario.ts';
import { wholeNumber, withExamples } from '../arguments.ts';
import { printerOf } from '../context.ts';
import type { Printer } from '../output/printer.ts';
import type { Column } from '../output/table.ts';
import type { CliApp } from '../app.ts';

export function simCommand(app: CliApp): Command {
  const group = new Command('sim').description('simulate: the same scheduler and policies on virtual time');
  group.addCommand(withExamples(new Command('calibrate').argument('<recording...>', 'recorded observations (model.observationLog): files, .jsonl or .jsonl.gz, or their folder; or folders of recordings (up --record)').description('fit what functions cost in the simulator to recorded runs, and say how good the fit is')
    .option('--profiles <file>', 'write the profiles to this file, for scenarios')
    .action(app.action(async (files: readonly string[], { profiles }: { readonly profiles?: string }, command: Command) => {
      const printer = printerOf(app, command);
      const recordings = [];
      for (const file of files) recordings.push({ file, ...(await readAny(resolve(app.io.cwd, file))) });
      const samples = recordings.flatMap((recording) => recording.samples);
      for (const { file, samples: own, excluded, note } of recordings) printer.progress(`${file}: ${own.length} executions, ${excluded} excluded${note === '' ? '' : ` (${note})`}`);
      const calibration = calibrate(samples);
      if (calibration.functions.length === 0) throw new MetronomeError('INVALID_REQUEST', `${files.join(', ')}: no function has ${LEAST_SAMPLES} successful executions; nothing can be fitted.`);
      if (profiles !== undefined) {
        const note = `fitted by metronome sim calibrate to ${samples.length} executions of ${calibration.functions.length} functions (${files.map((file) => basename(file)).join(', ')})`;
        await writeFile(resolve(app.io.cwd, profiles), formatProfiles(calibration, note));
        printer.progress(`${profiles}: profiles of ${calibration.functions.length} functions`);
      }
      show(printer, calibration);
    })), 'metronome sim calibrate observations.jsonl', 'metronome sim calibrate observations-*.jsonl.gz --profiles profiles.json', 'metronome sim calibrate ./recordings', 'metronome sim calibrate observations.jsonl -o json'));
  group.addCommand(withExamples(new Command('run').argument('<scenario>', 'file of a scenario, YAML or JSON; - for standard input').description('run a scenario under one or more policies, replicas in parallel')
    .option('--policy <names>', 'policies, separated by commas; otherwise those of the scenario')
    .option('--seeds <n>', 'replicas with other randomness; otherwise those of the scenario', wholeNumber(1, 1_000))
    .option('--seed <n>', 'seed of the first replica', wholeNumber(0, 2 ** 31 - 1_001), 1)
    .option('--threads <n>', 'threads; otherwise one for each core', wholeNumber(1, 256))
    .option('--csv', 'one line for each policy and seed')
    .option('--shrink', 'when something breaks, look for the smallest part of the scenario that still does')
    .option('--part <part>', 'only a part of the scenario, as --shrink names it')
    .action(app.action(async (file: string, options: RunOptions, command: Command) => {
      const printer = printerOf(app, command);
      const content = file === '-' ? Buffer.from(await app.io.readStdin()).toString('utf8') : await readScenario(resolve(app.io.cwd, file), file);
      const { scenario: whole, ...given } = await parseScenario(content, file === '-' ? 'standard input' : file, file === '-' ? app.io.cwd : dirname(resolve(app.io.cwd, file)));
      const scenario = options.part === undefined ? whole : reduce(whole, parseReduction(options.part, whole));
      const policies = options.policy === undefined ? given.policies : [...new Set(options.policy.split(',').map((name) => name.trim()))];
      for (const name of policies) if (!isPolicyName(name)) throw unknownPolicy(name);
      const seeds = Array.from({ length: options.seeds ?? given.seeds }, (_, i) => options.seed + i);
      printer.progress(`SIMULATION: ${scenario.nodes} nodes, ${scenario.functions.length} functions, ${scenario.durationMs / 1_000} s of virtual time, ${policies.length} × ${seeds.length} replicas`);
      const results = await runReplicas({
        scenario, policies, seeds, signal: app.signal, ...(options.threads === undefined ? {} : { threads: options.threads }),
        onResult: ({ policy, seed, submitted, meanMs }, done, all) => printer.progress(`[${done}/${all}] ${policy}, seed ${seed}: ${submitted} invocations, mean ${ms(meanMs)} ms`),
      });
      const rows = policies.map((policy) => summarise(policy, results.filter((result) => result.policy === policy)));
      if (options.csv === true) printer.text(toCsv(results));
      else if (printer.isStructured) printer.structured({ simulation: true, seeds, policies: rows, replicas: results });
      else printer.table(rows, RUN_COLUMNS);
      const broken = results.filter(({ breaches }) => breaches.length > 0);
      const again = (policy: string, seed: number): string => `metronome sim run ${file} --policy ${policy} --seed ${seed} --seeds 1`;
      for (const { policy, seed, breaches } of broken) printer.warn(`${policy}, seed ${seed}: ${breaches[0]}${breaches.length > 1 ? ` (and ${breaches.length - 1} more)` : ''}. Again: ${again(policy, seed)}${options.part === undefined ? '' : ` --part ${options.part}`}`);
      const [first] = broken;
      if (options.shrink === true && first !== undefined) {
        const { policy, seed } = first;
        let tries = 0;
        const small = await shrink(scenario, policy, seed, MOST_TRIES, async (candidate) => {
          printer.progress(`shrinking: ${++tries} of at most ${MOST_TRIES}: ${formatReduction(wholeOf(candidate))}`);
          const [result] = await runReplicas({ scenario: candidate, policies: [policy], seeds: [seed], threads: 1, signal: app.signal });
          return (result?.breaches.length ?? 0) > 0;
        });
        printer.warn(`The smallest that still breaks: ${again(policy, seed)} --part ${formatReduction(small)}`);
      }
      return broken.length > 0 ? 1 : 0;
    })), 'metronome sim run scenario.yaml', 'metronome sim run scenario.yaml --policy metronome,lookahead,round-robin --seeds 10', 'metronome sim run scenario.yaml --csv > results.csv', 'metronome sim run scenario.yaml --policy metronome --seed 7 --seeds 1 --shrink', 'metronome sim example | metronome sim run -'));
  group.addCommand(withExamples(new Command('example').description('print a scenario that explains itself').action(app.action((_options: object, command: Command) => {
    printerOf(app, command).text(EXAMPLE_SCENARIO);
    return Promise.resolve();
  })), 'metronome sim example > scenario.yaml'));
  return group;
}

/** Files of model.observationLog. */
const OBSERVATIONS = /\.jsonl(?:\.gz)?$/;

/** Of a file of observations, of a folder of them, or of a folder in which a scheduler was recorded. */
async function readAny(path: string): Promise<CalibrationRecording> {
  if (!existsSync(path) || !statSync(path).isDirectory()) return readCalibration(path);
  const observed = readdirSync(path).filter((name) => OBSERVATIONS.test(name)).sort();
  if (observed.length > 0) {
    const parts = [];
    for (const name of observed) parts.push(await readCalibration(join(path, name)));
    return { path, note: `${observed.length} files of observations`, samples: parts.flatMap(({ samples }) => samples), excluded: parts.reduce((sum, { excluded }) => sum + excluded, 0) };
  }
  const [{ openRecording }, { readHistory }, { samplesOf }] = await Promise.all([import('../../recording/read-recording.ts'), import('../../recording/history.ts'), import('../../what-if/workload.ts')]);
  const reader = openRecording(path);
  const history = readHistory(reader);
  const samples = samplesOf(history);
  const which = reader.others > 0 ? `${basename(reader.folder)}, the newest of ${reader.others + 1} recordings` : '';
  return { path: reader.folder, note: history.counts.gaps === 0 ? which : [which, `${history.counts.missing} entries are missing in gaps`].filter((text) => text !== '').join('; '), samples, excluded: history.invocations.length - samples.length };
}

interface RunOptions {
  readonly policy?: string;
  readonly seeds?: number;
  readonly seed: number;
  readonly threads?: number;
  readonly csv?: boolean;
  readonly shrink?: boolean;
  readonly part?: string;
}

/** Runs that --shrink makes at most. */
const MOST_TRIES = 40;

async function readScenario(path: string, given: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new MetronomeError('INVALID_REQUEST', `The scenario "${given}" cannot be read: ${cause instanceof Error ? cause.message : String(cause)}. \`metronome sim example\` prints one.`, { cause });
  }
}

/** A policy over all seeds. */
interface PolicySummary extends Readonly<Record<'meanMs' | 'p50Ms' | 'p95Ms' | 'p99Ms' | 'slaMissedShare' | 'movedMb', Confidence>> {
  readonly policy: string;
  readonly replicas: number;
  readonly submitted: number;
  readonly failed: number;
  readonly refused: number;
}

function summarise(policy: string, results: readonly ScenarioResult[]): PolicySummary {
  const over = (value: (result: ScenarioResult) => number): Confidence => confidenceOf(results.map(value));
  const sum = (value: (result: ScenarioResult) => number): number => results.reduce((total, result) => total + value(result), 0);
  return {
    policy, replicas: results.length, submitted: sum(({ submitted }) => submitted), failed: sum(({ failed }) => failed), refused: sum(({ refused }) => refused),
    meanMs: over(({ meanMs }) => meanMs), p50Ms: over(({ p50Ms }) => p50Ms), p95Ms: over(({ p95Ms }) => p95Ms), p99Ms: over(({ p99Ms }) => p99Ms),
    slaMissedShare: over(({ slaMissed, completed }) => slaMissed / Math.max(1, completed)), movedMb: over(({ movedBytes }) => movedBytes / 1e6),
  };
}

const CSV_FIELDS = ['policy', 'seed', 'submitted', 'refused', 'completed', 'failed', 'slaMissed', 'meanMs', 'p50Ms', 'p90Ms', 'p95Ms', 'p99Ms', 'movedBytes', 'faults', 'decisions', 'digest'] as const satisfies readonly (keyof ScenarioResult)[];

function toCsv(results: readonly ScenarioResult[]): string {
  return `${['simulated', ...CSV_FIELDS].join(',')}\n${results.map((result) => `true,${CSV_FIELDS.map((field) => String(result[field])).join(',')}\n`).join('')}`;
}

/** "123 ± 4": a mean and half its confidence interval. */
function plusMinus({ mean, high }: Confidence): string {
  return Number.isNaN(high) ? ms(mean) : `${ms(mean)} ± ${ms(high - mean)}`;
}

const RUN_COLUMNS: readonly Column<PolicySummary>[] = [
  { header: 'SIMULATED POLICY', cell: ({ policy }) => policy },
  { header: 'MEAN ms', align: 'right', cell: ({ meanMs }) => plusMinus(meanMs) },
  { header: 'P50', align: 'right', cell: ({ p50Ms }) => plusMinus(p50Ms) },
  { header: 'P95', align: 'right', cell: ({ p95Ms }) => plusMinus(p95Ms) },
  { header: 'P99', align: 'right', cell: ({ p99Ms }) => plusMinus(p99Ms) },
  { header: 'SLA MISSED', align: 'right', cell: ({ slaMissedShare: { mean } }) => `${(100 * mean).toFixed(2)}%` },
  { header: 'MOVED MB', align: 'right', optional: true, cell: ({ movedMb }) => plusMinus(movedMb) },
  { header: 'INVOCATIONS', align: 'right', optional: true, cell: ({ submitted }) => String(submitted) },
  { header: 'FAILED', align: 'right', cell: ({ failed, refused }) => String(failed + refused) },
];

function show(printer: Printer, calibration: Calibration): void {
  if (printer.isStructured) return printer.structured(calibration);
  printer.table(calibration.functions, FIT_COLUMNS);
  const { busySlowdown, busySamples, link } = calibration;
  printer.progress(busySamples === 0 ? 'busy machine: not seen' : `busy machine: runs took ${busySlowdown.toFixed(2)} times as long (${busySamples} executions); taken out of the costs`);
  printer.progress(link === undefined ? 'transfers: too few' : `transfers: ${(link.bytesPerMs / 1_000).toFixed(1)} MB/s after ${link.latencyMs.toFixed(1)} ms (${link.transfers})`);
}

/** 12.345 → "12.3", 1234.5 → "1235". */
const ms = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const percent = (share: number): string => `${(share * 100).toFixed(0)}%`;

const FIT_COLUMNS: readonly Column<FunctionFit>[] = [
  { header: 'FUNCTION', cell: ({ function: name }) => name },
  { header: 'RUNS', align: 'right', cell: ({ samples }) => String(samples) },
  { header: 'COLD/PKG/ZYG/WARM', align: 'right', wide: true, cell: ({ byStartState }) => byStartState.join('/') },
  { header: 'INSTALL', align: 'right', cell: ({ profile }) => ms(profile.installMs) },
  { header: 'START', align: 'right', cell: ({ profile }) => ms(profile.processMs + profile.importMs) },
  { header: 'ZYGOTE', align: 'right', cell: ({ profile }) => ms(profile.zygoteMs) },
  { header: 'RUN ms', align: 'right', cell: ({ profile }) => ms(profile.runMs) },
  { header: '+ms/MiB', align: 'right', cell: ({ profile }) => ms(profile.runMsPerMib) },
  { header: 'FIRST ×', align: 'right', cell: ({ profile }) => (profile.freshFactor ?? 1).toFixed(1) },
  { header: 'NOISE', align: 'right', cell: ({ profile }) => percent(profile.noise) },
  { header: 'OUTPUT', align: 'right', optional: true, cell: ({ profile: { output } }) => (output.count === 0 ? '' : `${output.count} × ${(output.share / output.count).toFixed(2)}`) },
  { header: 'ERROR p50', align: 'right', cell: ({ medianError }) => percent(medianError) },
  { header: 'p90', align: 'right', cell: ({ p90Error }) => percent(p90Error) },
  { header: 'EXPLAINED', align: 'right', optional: true, cell: ({ explained }) => percent(explained) },
  { header: 'ASSUMED', optional: true, wide: true, cell: ({ assumed }) => assumed.join('; ') },
];
