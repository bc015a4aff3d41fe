/** `metronome what-if`: what recorded traffic would have seen under another policy, other parameters or other nodes. Everything printed is simulation. */
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { MetronomeError } from '../../core/errors.ts';
import { formatMs } from '../../core/units.ts';
import { isPolicyName, unknownPolicy } from '../../policy/registry.ts';
import type { Comparison, Interval } from '../../what-if/compare.ts';
import type { Alternative } from '../../what-if/simulate-work.ts';
import type { PhaseMeans } from '../../what-if/phases.ts';
import type { Tried, Tunable, Tuned } from '../../what-if/tune.ts';
import type { Reality, WhatIfAnswer, WhatIfRow } from '../../what-if/what-if.ts';
import { wholeNumber, withExamples } from '../arguments.ts';
import { printerOf } from '../context.ts';
import type { Printer } from '../output/printer.ts';
import type { Column } from '../output/table.ts';
import type { CliApp } from '../app.ts';
import { openForCommand } from './replay.ts';

interface WhatIfOptions {
  readonly policy?: string;
  readonly alpha?: number;
  readonly beta?: number;
  readonly gamma?: number;
  readonly kappa?: number;
  readonly nodes?: number;
  readonly seeds: number;
  readonly threads?: number;
  readonly tune?: readonly Tunable[];
  readonly target: 'mean' | 'p99' | 'sla-misses';
}

export function whatIfCommand(app: CliApp): Command {
  const command = new Command('what-if')
    .argument('<recording>', 'folder of a recording, or one that holds recordings (the newest is taken)')
    .description('simulate the recorded arrivals under another policy or parameters and compare with the recorded ones, simulated too')
    .option('--policy <name>', 'policy for all invocations')
    .option('--alpha <share>', 'delay.localityGain', share('above 0 and below 1', (value) => value > 0 && value < 1))
    .option('--beta <share>', 'delay.safetyMargin', share('from 0 to below 1', (value) => value >= 0 && value < 1))
    .option('--gamma <share>', 'policies.lookaheadHysteresis', share('above 0, at most 1', (value) => value > 0 && value <= 1))
    .option('--kappa <factor>', 'policies.lookaheadPrice', share('from 0 to 100', (value) => value >= 0 && value <= 100))
    .option('--nodes <n>', 'nodes like the recorded ones', wholeNumber(1, 10_000))
    .option('--seeds <n>', 'replicas of each side', wholeNumber(1, 100), 5)
    .option('--threads <n>', 'threads (default: one per CPU)', wholeNumber(1, 256))
    .option('--tune <parameters>', 'search some of alpha, beta, gamma and kappa, separated by commas, for --target', tunables)
    .addOption(new Option('--target <figure>', 'what --tune makes small').choices(['mean', 'p99', 'sla-misses']).default('p99'))
    .action(app.action(async (path: string, options: WhatIfOptions, own: Command) => {
      const printer = printerOf(app, own);
      const { policy = '', alpha, beta, gamma, kappa, nodes } = options;
      if (policy !== '' && !isPolicyName(policy)) throw unknownPolicy(policy);
      if (policy === '' && alpha === undefined && beta === undefined && gamma === undefined && kappa === undefined && nodes === undefined && options.tune === undefined) throw new MetronomeError('INVALID_REQUEST', 'Say what is to be different: --policy, --alpha, --beta, --gamma, --kappa, --nodes, or --tune.');
      if (options.tune !== undefined && (alpha ?? beta ?? gamma ?? kappa) !== undefined) throw new MetronomeError('INVALID_REQUEST', '--tune searches alpha, beta, gamma and kappa; leave out --alpha, --beta, --gamma and --kappa.');
      const reader = await openForCommand(printer, resolve(app.io.cwd, path));
      const [{ readHistory }, { workloadOf }, { levelWork }, { startReplicas }, { whatIf }, { tune }] = await Promise.all([import('../../recording/history.ts'), import('../../what-if/workload.ts'), import('../../what-if/level.ts'), import('../../what-if/replicas.ts'), import('../../what-if/what-if.ts'), import('../../what-if/tune.ts')]);
      const history = readHistory(reader);
      if (history.counts.gaps > 0) printer.warn(`${history.counts.missing} entries are missing in ${history.counts.gaps} gaps of the recording: what arrived then is not in the comparison.`);
      const { work: fitted, notes } = workloadOf(history, reader.head, reader.folder);
      printer.progress(`SIMULATION of ${fitted.arrivals.length} recorded invocations (${fitted.requests.length} requests) on ${nodes ?? fitted.nodes.length} nodes; costs from ${notes.calibrated.length} functions; predictions by ${fitted.forest === undefined ? 'moving averages' : 'a forest that learns as the recorded one'}; assumed: ${notes.assumed.join('; ') || 'nothing'}`);
      const work = levelWork(fitted);
      let done = 0;
      const replicas = startReplicas(work, { threads: options.threads, signal: app.signal, onReplica: () => void (++done % 20 === 0 && printer.progress(`${done} replicas …`)) });
      try {
        if (options.tune !== undefined) {
          const tuned = await tune(work, replicas, { what: options.tune, target: options.target, policy, seeds: options.seeds, ...(nodes === undefined ? {} : { nodes }), onRound: printer.progress });
          if (printer.isStructured) printer.structured({ simulation: true, notes, ...tuned });
          else showTuned(printer, tuned, options.target);
          return;
        }
        const alternative: Alternative = { policy, ...(alpha === undefined ? {} : { localityGain: alpha }), ...(beta === undefined ? {} : { safetyMargin: beta }), ...(gamma === undefined ? {} : { hysteresis: gamma }), ...(kappa === undefined ? {} : { price: kappa }), ...(nodes === undefined ? {} : { nodes }) };
        const answer = await whatIf(work, replicas, alternative, Array.from({ length: options.seeds }, (_, i) => i + 1));
        if (printer.isStructured) printer.structured({ simulation: true, notes, alternative, ...answer });
        else show(printer, answer);
      } finally {
        await replicas.close();
      }
    }));
  return withExamples(command, 'metronome what-if ./recordings --policy lookahead', 'metronome what-if ./recordings --alpha 0.7 --beta 0.2 --seeds 10', 'metronome what-if ./recordings --nodes 6', 'metronome what-if ./recordings --tune alpha,beta --target p99');
}

/** A parser for shares within bounds. */
function share(bounds: string, isFine: (value: number) => boolean): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !isFine(value)) throw new InvalidArgumentError(`It must be a number ${bounds}.`);
    return value;
  };
}

function tunables(text: string): Tunable[] {
  const names = text.split(',').map((name) => name.trim());
  const known = (['alpha', 'beta', 'gamma', 'kappa'] as const).filter((name) => names.includes(name));
  if (known.length !== new Set(names).size) throw new InvalidArgumentError('It must name some of alpha, beta, gamma and kappa, separated by commas.');
  return known;
}

/** Whether an interval says something: it leaves out 0. */
function verdict({ low, high }: Interval): string {
  return high < 0 ? 'better' : low > 0 ? 'worse' : 'no clear difference';
}

function difference({ value, low, high }: Interval, text: (value: number) => string): string {
  const signed = (number: number): string => `${number > 0 ? '+' : number < 0 ? '−' : '±'}${text(Math.abs(number))}`;
  return `${signed(value)} (${signed(low)} … ${signed(high)})`;
}

const percent = (value: number): string => `${(value * 100).toFixed(value !== 0 && Math.abs(value) < 0.1 ? 1 : 0)}%`;

/** Errors of the control's mean up to which milliseconds are near, and up to which the direction is all that can be believed. */
const NEAR = 0.1, FAR = 0.25;

function honesty({ reality: { requests, recorded, control, error, phases } }: WhatIfAnswer): string {
  const off = (share: number): string => `${share >= 0 ? '+' : '−'}${percent(Math.abs(share))}`;
  if (requests === 0) return 'Nothing completed in the recording: how far the simulation is from reality is not known.\n';
  const distance = Math.abs(error.meanMs);
  const trust = distance <= NEAR ? 'The control is near: read the differences as milliseconds.' : distance <= FAR ? 'Believe the direction of the differences, not their milliseconds.' : 'The control is far from what was recorded: differences smaller than its error say nothing.';
  return `Distance from reality, over the ${requests} requests that completed: recorded mean ${formatMs(recorded.meanMs)}, P95 ${formatMs(recorded.p95Ms)}; control in simulation ${formatMs(control.meanMs)} (${off(error.meanMs)}), ${formatMs(control.p95Ms)} (${off(error.p95Ms)}). ${trust}\n`
    + `Per invocation, recorded → control: ${PHASE_WORDS.map(([phase, word]) => `${word} ${formatMs(phases.recorded[phase])} → ${formatMs(phases.control[phase])}`).join(', ')}; cold starts ${coldOf(phases.recorded)} → ${coldOf(phases.control)}.\n`;
}

const PHASE_WORDS = [['waitedMs', 'waited'], ['fetchedMs', 'fetched'], ['initialisedMs', 'initialised'], ['ranMs', 'ran'], ['otherMs', 'messages and loops']] as const satisfies readonly (readonly [keyof Reality['phases']['recorded'], string])[];

/** Everything that was not warm. */
function coldOf({ starts: [cold, packages, zygote] }: PhaseMeans): string {
  return percent(cold + packages + zygote);
}

function show(printer: Printer, answer: WhatIfAnswer): void {
  const all = answer.rows[0] as WhatIfRow; // there is always one for all
  printer.text(`SIMULATION against SIMULATION, ${answer.seeds} seeds; differences with their 95 % intervals.\n\n`);
  printer.table(answer.rows, COLUMNS);
  const { meanMs, p95Ms, p99Ms, slaMisses } = all.comparison.difference;
  printer.text(`\nMean: ${verdict(meanMs)}. P95: ${verdict(p95Ms)}. P99: ${verdict(p99Ms)}. SLA misses: ${verdict(slaMisses)}.\n${honesty(answer)}`);
}

function showTuned(printer: Printer, { tried, best, splitAtMs, answer }: Tuned, target: string): void {
  const frontier = tried.filter(({ isOnFrontier }) => isOnFrontier).sort((a, b) => a.figures.meanMs - b.figures.meanMs);
  printer.text(`SIMULATION: ${tried.length} sets of parameters; nothing that was tried beats these in mean and P99.\n\n`);
  printer.table(frontier, triedColumns(best));
  printer.text(splitAtMs === 0
    ? `\nThe best for ${target}, against the recorded parameters, with seeds that the search did not use. The recording has too few requests to keep some from the search: the best of ${tried.length} looks better here than it is.\n\n`
    : `\nThe best for ${target}, against the recorded parameters, on requests from ${formatMs(splitAtMs)} on, which the search did not see (it chose the best of ${tried.length} on those before), and with other seeds:\n\n`);
  printer.table(answer.rows, COLUMNS);
  const lines = linesOf(best);
  const metric = answer.rows[0]?.comparison.difference[target === 'mean' ? 'meanMs' : target === 'p99' ? 'p99Ms' : 'slaMisses'];
  printer.text(`\n${honesty(answer)}${metric !== undefined && metric.high < 0 ? '' : 'Its interval does not leave out 0: the recorded parameters may be as good.\n'}${lines.length === 0 ? 'The recorded parameters are the best that was found.\n' : `To use it (metronome.config.yaml):\n\n${lines.join('\n')}\n`}`);
}

/** The configuration for it. */
function linesOf({ policy, localityGain, safetyMargin, hysteresis, price }: Alternative): string[] {
  return [
    ...(policy === '' ? [] : ['scheduler:', `  policy: ${policy}`]),
    ...(localityGain === undefined && safetyMargin === undefined ? [] : ['delay:', ...(localityGain === undefined ? [] : [`  localityGain: ${localityGain}`]), ...(safetyMargin === undefined ? [] : [`  safetyMargin: ${safetyMargin}`])]),
    ...(hysteresis === undefined && price === undefined ? [] : ['policies:', ...(hysteresis === undefined ? [] : [`  lookaheadHysteresis: ${hysteresis}`]), ...(price === undefined ? [] : [`  lookaheadPrice: ${price}`])]),
  ];
}

const of = (read: (comparison: Comparison) => string) => ({ comparison }: WhatIfRow): string => read(comparison);

const COLUMNS: readonly Column<WhatIfRow>[] = [
  { header: 'REQUESTS OF', cell: ({ name, isWorkflow }) => (isWorkflow ? `${name} (workflow)` : name) },
  { header: 'COUNT', align: 'right', cell: of(({ requests }) => String(requests)) },
  { header: 'MEAN', align: 'right', cell: of(({ control }) => formatMs(control.meanMs)) },
  { header: 'Δ MEAN', align: 'right', cell: of(({ difference: { meanMs } }) => difference(meanMs, formatMs)) },
  { header: 'Δ P50', align: 'right', wide: true, cell: of(({ difference: { p50Ms } }) => difference(p50Ms, formatMs)) },
  { header: 'P95', align: 'right', cell: of(({ control }) => formatMs(control.p95Ms)) },
  { header: 'Δ P95', align: 'right', cell: of(({ difference: { p95Ms } }) => difference(p95Ms, formatMs)) },
  { header: 'P99', align: 'right', cell: of(({ control }) => formatMs(control.p99Ms)) },
  { header: 'Δ P99', align: 'right', cell: of(({ difference: { p99Ms } }) => difference(p99Ms, formatMs)) },
  { header: 'SLA MISSED', align: 'right', cell: of(({ control }) => percent(control.slaMisses)) },
  { header: 'Δ SLA MISSED', align: 'right', cell: of(({ difference: { slaMisses } }) => difference(slaMisses, percent)) },
  { header: 'FAILED', align: 'right', wide: true, cell: of(({ controlFailed, alternativeFailed }) => `${controlFailed} → ${alternativeFailed}`) },
];

const value = (number: number | undefined): string => (number === undefined ? 'as recorded' : String(number));

function triedColumns(best: Alternative): readonly Column<Tried>[] {
  return [
    { header: '', cell: ({ alternative }) => (alternative === best ? '→' : '') },
    { header: 'ALPHA', align: 'right', cell: ({ alternative }) => value(alternative.localityGain) },
    { header: 'BETA', align: 'right', cell: ({ alternative }) => value(alternative.safetyMargin) },
    { header: 'GAMMA', align: 'right', cell: ({ alternative }) => value(alternative.hysteresis) },
    { header: 'KAPPA', align: 'right', cell: ({ alternative }) => value(alternative.price) },
    { header: 'MEAN', align: 'right', cell: ({ figures }) => formatMs(figures.meanMs) },
    { header: 'P95', align: 'right', cell: ({ figures }) => formatMs(figures.p95Ms) },
    { header: 'P99', align: 'right', cell: ({ figures }) => formatMs(figures.p99Ms) },
    { header: 'SLA MISSED', align: 'right', cell: ({ figures }) => percent(figures.slaMisses) },
  ];
}
