/** Writes what an evaluation found: tables, plots, raw data, the deviation table, and `report.md` that leads to all of them. Can be written at any time from what is there. */
import { offersFor } from '../policy/rule-delay.ts';
import { drawLines, writePlot } from '../report/plot.ts';
import { csvTable, markdownTable, type TextTable } from '../report/markdown-table.ts';
import { SATURATED_FROM } from './backend.ts';
import { deviationRows, formatTime, gates, intervalText, percent, signedPercent, type Compared, type Gate, type NamedFigure } from './deviation.ts';
import type { ExecutionRecord } from './execution-record.ts';
import { benchCharts, cdfCharts, concurrencyCharts, errorChart, predictionErrors, recoveryChart, type NamedChart } from './figures.ts';
import type { Cell } from './plan.ts';
import type { EndedCell, ResultFolder } from './result-folder.ts';
import { STATISTICS, groupRecords, pairLatencies, quantileOf, reduction, summarize, type Estimate, type StatisticName, type Summary } from './statistics.ts';
import type { Variant } from './variant.ts';

/** λ of rule-delay by default (policies.ruleDelayLocality). */
const RULE_DELAY_LOCALITY = 0.95;

/** What goes into it. */
export interface ReportOptions {
  readonly folder: ResultFolder;
  readonly cells: readonly Cell[];
  readonly variants: readonly Variant[];
  readonly isSimulated: boolean;
  /** What the nodes were. */
  readonly description: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Command that made it. */
  readonly command: string;
  /** Figures of RQ3 that the benches gave. */
  readonly figures: readonly NamedFigure[];
  /** Plots of these benches, relative to the folder. @default none */
  readonly benchPlots?: readonly string[];
  /** Those that gave nothing, and why. @default none */
  readonly failedBenches?: readonly { readonly name: string; readonly problem: string }[];
}

/** What was written, and what people should see first. */
export interface ReportResult {
  /** Relative to the folder. */
  readonly files: readonly string[];
  readonly summaries: readonly Summary[];
  readonly figures: readonly NamedFigure[];
  readonly orderings: readonly Gate[];
}

const PLOTS = 'figures';

/** Writes it. */
export async function writeReport(options: ReportOptions): Promise<ReportResult> {
  const { folder, cells } = options;
  const files: string[] = [];
  const write = async (name: string, content: string): Promise<void> => {
    await folder.write(name, content);
    files.push(name);
  };
  const ended = cells.flatMap((cell): (EndedCell & { readonly cell: Cell })[] => {
    const found = folder.ended.get(cell.id);
    return found === undefined ? [] : [{ ...found, cell }];
  });
  const recordsOf = (...purposes: readonly Cell['purpose'][]): ExecutionRecord[] => ended.filter(({ cell }) => purposes.includes(cell.purpose)).flatMap(({ records }) => records);
  const compare = recordsOf('compare');
  const order = options.variants.map(({ name }) => name);
  const byOrder = (a: Summary, b: Summary): number => order.indexOf(a.variant) - order.indexOf(b.variant);
  const summaries = groupRecords(compare).map(summarize);
  const own = [...new Set(summaries.map(({ application }) => application))].flatMap((application) => summaries.filter((each) => each.application === application).sort(byOrder));
  const scaled = groupRecords([...recordsOf('scale'), ...compare]).map(summarize);
  const sweeps = groupRecords(recordsOf('sweep')).map(summarize);
  const errors = predictionErrors(compare.filter(({ variant }) => variant === 'metronome' || variant === 'lookahead')).map(({ error }) => error).sort((a, b) => a - b);
  const figures: NamedFigure[] = [...(errors.length === 0 ? [] : ([['p50', 0.5], ['p90', 0.9], ['p95', 0.95], ['p99', 0.99]] as const).map(([name, share]) => ({ name: `prediction_error_${name}`, unit: '%', value: quantileOf(errors, share) }))), ...options.figures];

  const label = options.isSimulated ? 'SIMULATION' : 'real nodes';
  // Ours first: they get the strongest colours.
  const isOurs = (variant: Variant): boolean => variant.role === 'ours';
  const context = { caption: `${label}: ${options.description}`, order: [...options.variants.filter(isOurs), ...options.variants.filter((variant) => !isOurs(variant))].map(({ name }) => name) };
  const charts: NamedChart[] = [
    ...cdfCharts('figure-1', 'Delay by rule against no delay', compare.filter(({ variant }) => variant === 'data-locality' || variant === 'rule-delay'), context),
    ...cdfCharts('figure-5', 'Execution time', compare, context),
    ...concurrencyCharts([...compare, ...recordsOf('scale')], context),
    ...errorChart(compare.filter(({ variant }) => variant === 'metronome' || variant === 'lookahead'), context),
    // From the first execution on, when the model knew nothing. Simulated cells have models of their own.
    ...(options.isSimulated ? [] : recoveryChart(ended.flatMap(({ records }) => records), context)),
    ...benchCharts(options.figures, options.command),
  ];
  for (const { name, chart } of charts) {
    await writePlot(`${folder.path}/${PLOTS}`, name, drawLines(chart));
    files.push(`${PLOTS}/${name}.svg`, `${PLOTS}/${name}.png`);
  }

  const summaryRows = [...own, ...scaled.filter(({ application, concurrency }) => !own.some((each) => each.application === application && each.concurrency === concurrency)), ...sweeps];
  await write('summary.csv', csvTable(SUMMARY_COLUMNS, summaryRows.map(summaryCells)));
  await write('executions.csv', csvTable(['application', 'variant', 'concurrency', 'seed', 'index', 'simulated', 'started_at_ms', 'latency_ms', 'sla_ms', 'ok', 'problem'], ended.flatMap(({ records }) => records).map((record) => [record.application, record.variant, record.concurrency, record.seed, record.index, record.simulated, record.startedAtMs, record.latencyMs, record.slaMs, record.ok, record.problem ?? ''])));
  await write('steps.csv', csvTable(['application', 'variant', 'concurrency', 'seed', 'index', 'function', 'node', 'start_state', 'queued_ms', 'delayed_ms', 'fetch_ms', 'init_ms', 'run_ms', 'predicted_ms', 'local'], ended.flatMap(({ records }) => records).flatMap((record) => record.steps.map((step) => [record.application, record.variant, record.concurrency, record.seed, record.index, step.function, step.node, step.startState, step.queuedMs, step.delayedMs, step.fetchMs, step.initMs, step.runMs, step.predictedMs, step.local]))));

  const compared: Compared = { summaries: own, figures, all: (application) => compare.filter((record) => record.application === application), records: (application, variant) => compare.filter((record) => record.application === application && record.variant === variant) };
  const deviations = deviationRows(compared);
  const orderings = gates(compared);
  await write('deviation.md', [
    '# Deviation from the paper', '', `${label}: ${options.description}. Made by \`${options.command}\`. Differences are of paired executions with 95 % bootstrap intervals; negative is faster.`, '',
    '## Orderings that must hold', '', markdownTable({ header: ['ordering', 'holds', 'numbers'], rows: orderings.map(({ what, holds, detail }) => [what, holds === undefined ? 'not measured' : holds ? 'yes' : '**NO**', detail]) }),
    '## Every number of the paper', '', markdownTable({
      header: ['section', 'what', 'paper', 'ours', 'relation', 'why'],
      rows: deviations.map(({ number, paper, ours, relation, reason }) => [number.section, whatOf(number), paper, ours, relation, reason]),
    }),
    '## What cannot be the same', '', ...differences(options.parameters).map((line) => `- ${line}`), '',
  ].join('\n'));

  await write('report.md', reportText({ ...options, ended, own, scaled, sweeps, figures, charts, label, compared, orderings: orderings.filter(({ holds }) => holds === false).length }));
  await write('report.json', `${JSON.stringify({ description: options.description, simulated: options.isSimulated, command: options.command, parameters: options.parameters, summaries: summaryRows, figures, orderings, deviations: deviations.map(({ number, ...row }) => ({ ...number, ...row })) }, undefined, 1)}\n`);
  return { files, summaries: own, figures, orderings };
}

/** What is another thing here than in the paper, whatever is measured. */
function differences({ nodes, slots, installed }: Readonly<Record<string, unknown>>): string[] {
  const waits = typeof nodes === 'number' && typeof slots === 'number' ? (offersFor(RULE_DELAY_LOCALITY, nodes) / (nodes * slots)).toFixed(1) : undefined;
  return [
    'The paper does not say how large inputs are, how many slots a node has, what the latency targets are, how long sandboxes are kept, or what is installed when a run begins; ours is said in `report.md`.',
    `Its 93–95 % for document and inference need executions that install packages while they are measured; here ${installed === false ? 'they are installed at their first use on a node, which is mostly before anything is measured' : 'all packages are installed before'}.`,
    ...(waits === undefined ? [] : [`What \`rule-delay\` waits at most is D · T / S: offers that it takes until a launch is local, times the mean service time, by the slots of the cluster. With ${nodes as number} nodes and ${nodes as number} × ${slots as number} slots that is ${waits} service times, in the paper's with 10 nodes and 160 slots 0.2. So it waits longer here, for nodes that run fewer at once, and its median suffers where the paper's gains.`]),
    'Its numbers do not fit each other in places: rule-delay is 3.9 % faster than data-locality in section 2.2, and by the reductions of 5.1 twice as slow as round-robin; 47.1 % is both a median of 2.2 and a mean of 5.1.',
    'With 100 executions P99 is about one execution, mostly the first cold start of a function.',
  ];
}

function whatOf(number: ReturnType<typeof deviationRows>[number]['number']): string {
  if (number.kind === 'difference') return `${number.application}: ${number.statistic} of ${number.variant} against ${number.reference}`;
  return number.kind === 'misses' ? `${number.application}: latency targets missed by ${number.variant}` : number.what;
}

const SUMMARY_COLUMNS = ['application', 'variant', 'concurrency', 'n', 'failed', ...Object.keys(STATISTICS).flatMap((name) => [`${name}_ms`, `${name}_low_ms`, `${name}_high_ms`]), 'sla_misses', 'sla_misses_low', 'sla_misses_high', 'misses_by_delay', 'queued_ms', 'delayed_ms', 'fetch_ms', 'init_ms', 'run_ms', 'warm_share', 'local_share'];

function summaryCells(summary: Summary): (string | number)[] {
  const round = (value: number): number => Number(value.toPrecision(5));
  const { phases } = summary;
  return [
    summary.application, summary.variant, summary.concurrency, summary.n, summary.failed,
    ...(Object.keys(STATISTICS) as StatisticName[]).flatMap((name) => [round(summary.times[name].value), round(summary.times[name].low), round(summary.times[name].high)]), // its own keys
    ...[summary.slaMisses.value, summary.slaMisses.low, summary.slaMisses.high].map(round), summary.missesByDelay,
    ...[phases.queued, phases.delayed, phases.fetch, phases.init, phases.run, summary.warm, summary.local].map(round),
  ];
}

interface TextOptions extends ReportOptions {
  readonly ended: readonly (EndedCell & { readonly cell: Cell })[];
  readonly own: readonly Summary[];
  readonly scaled: readonly Summary[];
  readonly sweeps: readonly Summary[];
  readonly charts: readonly NamedChart[];
  readonly label: string;
  readonly compared: Compared;
  readonly orderings: number;
}

function reportText({ own, scaled, sweeps, figures, charts, ended, cells, variants, description, parameters, command, label, compared, orderings, isSimulated, benchPlots = [], failedBenches = [] }: TextOptions): string {
  const range = (estimate: Estimate): string => `${formatTime(estimate.value)} [${formatTime(estimate.low)}, ${formatTime(estimate.high)}]`;
  const mainTable = (summaries: readonly Summary[]): TextTable => ({
    header: ['policy', 'clients', 'n', 'mean', 'median', 'P90', 'P95', 'P99', 'SLA missed', 'by delay', 'warm', 'local', 'queued / delayed / fetch / init / run, ms'],
    rows: summaries.map((each) => [
      each.variant, clientsText(each.concurrency), `${each.n}${each.failed > 0 ? ` (+${each.failed} failed)` : ''}`, range(each.times.mean), range(each.times.median), range(each.times.P90), range(each.times.P95), range(each.times.P99),
      `${percent(each.slaMisses.value)} ${intervalText(each.slaMisses)}`, String(each.missesByDelay), percent(each.warm), percent(each.local), Object.values(each.phases).map((value) => value.toFixed(0)).join(' / '),
    ]),
  });
  const applications = [...new Set(own.map(({ application }) => application))];
  const plots = (prefix: string): string[] => charts.filter(({ name }) => name.startsWith(prefix)).map(({ name, chart }) => `![${chart.title}](${PLOTS}/${name}.svg)`);
  const reductions = (application: string): TextTable => {
    const baselines = own.filter((each) => each.application === application && each.variant !== 'metronome' && each.variant !== 'lookahead').map(({ variant }) => variant);
    const cell = (ours: string, baseline: string, statistic: StatisticName): string => {
      const pairs = pairLatencies(compared.records(application, ours), compared.records(application, baseline));
      if (pairs.ours.length === 0) return '';
      const { value, low, high } = reduction(pairs.ours, pairs.theirs, STATISTICS[statistic]);
      return `${signedPercent(-value)} [${signedPercent(-high)}, ${signedPercent(-low)}]`;
    };
    return { header: ['against', 'metronome: mean', 'P90', 'P99', 'lookahead: mean', 'P90', 'P99'], rows: baselines.map((baseline) => [baseline, ...['metronome', 'lookahead'].flatMap((ours) => (['mean', 'P90', 'P99'] as const).map((statistic) => cell(ours, baseline, statistic)))]) };
  };
  const best = variants.filter(({ role }) => role === 'sweep').map(({ of }) => of).filter((name, i, all): name is string => name !== undefined && all.indexOf(name) === i);
  const sweepSeeds = new Set(ended.filter(({ cell }) => cell.purpose === 'sweep').map(({ cell }) => cell.seed));
  const missing = cells.length - ended.length;
  const saturated = ended.filter(({ conditions }) => conditions.isSaturated);
  return [
    '# The evaluation', '',
    cells.length === 0 ? `Benches alone, no cells. Made by \`${command}\`.` : `**${label}**: ${description}. Made by \`${command}\`; ${ended.length} of ${cells.length} cells${missing > 0 ? ` (**${missing} are missing**; \`--resume\` runs them)` : ''}.`, '',
    `How it compares with the paper: [deviation.md](deviation.md)${orderings > 0 ? ` (**${orderings} orderings do not hold**)` : ''}. ${cells.length === 0 ? 'Everything for programs: `report.json` and `rq3-*.json`.' : 'Raw data: `records.jsonl`, `executions.csv`, `steps.csv`; tables: `summary.csv`; everything for programs: `report.json`. Intervals are 95 % (bootstrap over executions, 1 000 resamples).'}`, '',
    ...(failedBenches.length === 0 ? [] : ['**Benches of RQ3 that gave no figures** (`--resume` runs them again):', '', ...failedBenches.map(({ name, problem }) => `- \`${name}\`: ${problem.split('\n', 1)[0]}`), '']),
    ...(cells.length === 0 ? [] : saturated.length > 0 ? [`**The machine was saturated** (from ${percent(SATURATED_FROM)} of its CPU time on) in ${saturated.length} of ${ended.length} cells; their times are too long, for every policy: ${saturated.slice(0, 12).map(({ id, conditions }) => `${id} (${percent(conditions.hostCpu ?? 0)})`).join(', ')}${saturated.length > 12 ? ', …' : ''}.`, ''] : isSimulated ? [] : ['The machine was not saturated in any cell.', '']),
    ...(own.length === 0 ? [] : ['## RQ1: policies', '', ...plots('figure-5'), '']),
    ...applications.flatMap((application) => [
      `### ${application}`, '', markdownTable(mainTable(own.filter((each) => each.application === application))), 'Difference of paired executions; negative is faster:', '', markdownTable(reductions(application)),
    ]),
    ...(charts.some(({ name }) => name.startsWith('figure-1')) ? ['## Pre-study: delay by rule', '', ...plots('figure-1'), ''] : []),
    ...(scaled.length > own.length ? ['## RQ2: concurrency', '', ...plots('figure-6'), '', markdownTable({
      header: ['application', 'policy', ...levelsOf(scaled).map((level) => (level === 0 ? 'open' : `${level} ${level === 1 ? 'client' : 'clients'}`))],
      rows: applications.flatMap((application) => variants.filter(({ role }) => role !== 'sweep').flatMap(({ name }) => {
        const rows = scaled.filter((each) => each.application === application && each.variant === name);
        return rows.length === 0 ? [] : [[application, name, ...levelsOf(scaled).map((level) => rows.filter(({ concurrency }) => concurrency === level).map(({ times }) => range(times.mean))[0] ?? '')]];
      })),
    })] : []),
    ...(figures.length === 0 ? [] : ['## RQ3: model and scheduler', '', ...plots('figure-7'), ...plots('figure-8'), ...plots('figure-9'), ...benchPlots.map((path) => `![${path.split('/').slice(1).join(': ').replace('.svg', '')}](${path})`), '', markdownTable({ header: ['figure', 'value', 'unit'], rows: figures.map(({ name, value, unit }) => [name, String(Number(value.toPrecision(4))), unit]) })]),
    ...(sweeps.length === 0 ? [] : ['## Parameters of the policies', '', 'Mean with the default and with the best of its sweep, on the same executions:', '', markdownTable({
      header: ['application', 'policy', 'default', 'best', 'its mean', 'all of the sweep'],
      rows: applications.flatMap((application) => best.flatMap((name) => {
        // On the executions of the sweep, which has one seed.
        const [group] = groupRecords(compared.records(application, name).filter(({ seed }) => sweepSeeds.has(seed)));
        const standard = group === undefined ? undefined : summarize(group);
        const swept = sweeps.filter((each) => each.application === application && variants.some((variant) => variant.name === each.variant && variant.of === name));
        const all = [...(standard === undefined ? [] : [standard]), ...swept].sort((a, b) => a.times.mean.value - b.times.mean.value);
        const [first] = all;
        return first === undefined || swept.length === 0 ? [] : [[application, name, standard === undefined ? '' : range(standard.times.mean), first.variant, range(first.times.mean), swept.map((each) => `${each.variant.slice(name.length + 1)}: ${formatTime(each.times.mean.value)}`).join(', ')]];
      })),
    })]),
    ...(ended.length === 0 ? [] : ['## Conditions', '', markdownTable({ header: ['application', 'clients', 'slots busy', 'CPU of the machine', 'cells'], rows: conditionRows(ended) }),
    'Same for all policies: keep-alive, package and object caches, inputs, order of executions, measured interval; warm-up discarded; before each cell all idle sandboxes end and inputs are stored anew. Time counts from the request to the result, waiting included.', '']),
    '```json', JSON.stringify(parameters, undefined, 1), '```', '',
  ].join('\n');
}

function clientsText(concurrency: number): string {
  return concurrency === 0 ? 'open' : String(concurrency);
}

function levelsOf(summaries: readonly Summary[]): number[] {
  return [...new Set(summaries.map(({ concurrency }) => concurrency))].sort((a, b) => a - b);
}

function conditionRows(ended: readonly (EndedCell & { readonly cell: Cell })[]): string[][] {
  const groups = new Map<string, (EndedCell & { readonly cell: Cell })[]>();
  for (const each of ended) {
    if (each.cell.purpose === 'sweep') continue;
    const key = `${each.cell.application}\0${each.cell.concurrency}`;
    groups.set(key, [...(groups.get(key) ?? []), each]);
  }
  const span = (values: readonly number[]): string => (values.length === 0 ? '' : `${percent(Math.min(...values))} to ${percent(Math.max(...values))}`);
  return [...groups.values()].map((all) => {
    const [first] = all as [(typeof all)[number]]; // no group is empty
    return [first.cell.application, clientsText(first.cell.concurrency), span(all.map(({ conditions }) => conditions.slotUtilisation)), span(all.flatMap(({ conditions }) => (conditions.hostCpu === undefined ? [] : [conditions.hostCpu]))), String(all.length)];
  });
}
