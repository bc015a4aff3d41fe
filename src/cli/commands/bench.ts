/** `metronome bench`: the evaluation of the paper, as a command. */
import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import { rateText } from '../../config/fields.ts';
import { MetronomeError, suggest } from '../../core/errors.ts';
import { parseBitsPerS } from '../../core/units.ts';
import { CLUSTER_PRESETS, type ClusterPreset } from '../../evaluation/cluster-preset.ts';
import { formatTime, percent } from '../../evaluation/deviation.ts';
import { PAPER_ITEMS } from '../../evaluation/figures.ts';
import { FIGURE_VARIANTS, SWEEP_VARIANTS, VARIANTS, variantNamed } from '../../evaluation/variant.ts';
import { APPLICATIONS, type ApplicationName } from '../../workload/applications.ts';
import { wholeNumber, withExamples } from '../arguments.ts';
import { printerOf } from '../context.ts';
import { PLACES, evaluate, type EvaluationPlace } from '../evaluation/evaluate.ts';
import type { CliApp } from '../app.ts';

interface PaperOptions {
  readonly list?: boolean;
  readonly where: EvaluationPlace;
  readonly cluster?: ClusterPreset['name'];
  readonly rq: readonly number[];
  readonly figure?: string;
  readonly policies?: readonly string[];
  readonly applications?: readonly string[];
  readonly executions?: number;
  readonly levels?: readonly number[];
  readonly levelExecutions?: number;
  readonly concurrency?: Clients;
  readonly seeds?: readonly number[];
  readonly warmUp?: number;
  readonly inputs?: number;
  readonly open?: boolean;
  readonly sweeps?: boolean;
  readonly quick?: boolean;
  readonly out: string;
  readonly resume?: boolean;
  readonly nodes?: number;
  readonly slots?: number;
  readonly cpus?: number;
  readonly link?: number;
  readonly inputFactor?: number;
  readonly maxMinutes?: number;
  readonly profiles?: string;
}

/**
 * Executions before the measured ones, per owner of functions, and at least per client: by then everybody's first burst of cold starts is over. In simulation, where they cost little, they are more: the
 * cluster installs packages on first use, and who has installed most after a quarter of a minute is not what is compared.
 */
const WARM_UP_PER_COPY = 1, SIMULATED_WARM_UP_PER_COPY = 20, WARM_UP_PER_CLIENT = 3;
/** Executions of each application that the model learns from before the comparison. */
const TRAINING = 40, SIMULATED_TRAINING = 200;
/** Inputs of each application. */
const INPUTS = 10;

/** A list separated by commas. */
const names = (text: string): string[] => text.split(',').map((each) => each.trim()).filter((each) => each !== '');

type Clients = Readonly<Partial<Record<ApplicationName, number>>>;

const MOST_CLIENTS = 1_000;

/** "3", or "video=2,log=3". */
function clients(text: string): Clients {
  const one = wholeNumber(1, MOST_CLIENTS);
  if (!text.includes('=')) return everywhere(one(text));
  return Object.fromEntries(names(text).map((each) => {
    const [name = '', count = ''] = each.split('=');
    if (!APPLICATIONS.some((known) => known === name)) throw new InvalidArgumentError(`"${name}" is no application; they are ${APPLICATIONS.join(', ')}.`);
    return [name, one(count)];
  }));
}

function positive(most: number, example: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!(value > 0 && value <= most)) throw new InvalidArgumentError(`It must be a number above 0 and at most ${most}, for example ${example}.`);
    return value;
  };
}

function numbers(min: number, max: number): (text: string) => number[] {
  const one = wholeNumber(min, max);
  return (text) => {
    const list = names(text).map(one);
    if (list.length === 0) throw new InvalidArgumentError('It must be one or more numbers, separated by commas.');
    return list;
  };
}

export function benchCommand(app: CliApp): Command {
  const group = new Command('bench').description('measure this Metronome');
  const paper = new Command('paper').description("the paper's evaluation: every policy on the four applications, with tables, plots, raw data and a table of deviations")
    .option('--list', 'list the figures and tables, each with its command')
    .addOption(new Option('--where <place>', 'emulated: real nodes with shaped links and limited CPUs; process: real nodes as plain processes; simulation: the paper\'s cluster').choices(PLACES).default('emulated'))
    .addOption(new Option('--cluster <name>', 'cluster to simulate (default: paper); emulated is the one of --where emulated').choices(['paper', 'emulated']))
    .option('--profiles <file>', 'what functions cost in simulation, as metronome sim calibrate writes it (default: that of the applications on idle cores)')
    .option('--rq <numbers>', 'research questions', numbers(1, 3), [1, 2, 3])
    .option('--figure <id>', 'only what this figure or table needs (see --list)')
    .option('--policies <names>', 'only these, separated by commas', names)
    .option('--applications <names>', 'only these, separated by commas', names)
    .option('--executions <n>', 'executions of each application under each policy (default: 100)', wholeNumber(2, 100_000))
    .option('--concurrency <n>', 'clients in closed loops for RQ1, for all applications or some: 3, video=2,log=3 (default: as many as keep 60 to 80 % of the slots busy)', clients)
    .option('--open', 'for RQ1 arrivals as in production instead of clients in closed loops, at the rate that keeps 70 % of the slots busy')
    .option('--levels <numbers>', 'clients for RQ2 (default: 1,3,5; simulation: 1,3,5,10,20)', numbers(1, MOST_CLIENTS))
    .option('--level-executions <n>', 'executions of RQ2 (default: a quarter)', wholeNumber(2, 100_000))
    .option('--warm-up <n>', `executions of each cell before those that count (default: one per owner, in simulation ${SIMULATED_WARM_UP_PER_COPY}, and ${WARM_UP_PER_CLIENT} per client at least)`, wholeNumber(0, 100_000))
    .option('--seeds <numbers>', 'seeds of the executions (default: 1; simulation: 1,2,3)', numbers(0, 2 ** 31 - 1))
    .option('--inputs <n>', `inputs of each application (default: ${INPUTS})`, wholeNumber(1, 1_000))
    .option('--sweeps', 'the parameters of every policy as well')
    .option('--nodes <n>', 'nodes', wholeNumber(1, 64))
    .option('--slots <n>', 'slots of each node', wholeNumber(1, 256))
    .option('--cpus <n>', 'CPUs of each emulated node', positive(1_024, '0.35'))
    .option('--input-factor <x>', 'makes all inputs so many times as large, for example 2 with twice the --link', positive(1_000, '2'))
    .option('--link <rate>', 'rate of each link, for example 250mbit', (text) => {
      const value = parseBitsPerS(text);
      if (value === undefined || value < 100_000) throw new InvalidArgumentError('It must be a rate such as 100mbit.');
      return value;
    })
    .option('--quick', 'a few minutes: two applications, four policies, few executions')
    .option('--max-minutes <n>', 'begin nothing further after so many minutes, and report; --resume goes on', wholeNumber(1, 10_000))
    .option('--out <folder>', 'folder of the results', 'metronome-evaluation')
    .option('--resume', 'go on with the evaluation in that folder')
    .action(app.action(async (options: PaperOptions, command: Command) => {
      const printer = printerOf(app, command);
      if (options.list === true) {
        printer.list(PAPER_ITEMS, [
          { header: 'FIGURE', cell: ({ id }) => id },
          { header: 'WHAT', cell: ({ title }) => title },
          { header: 'COMMAND', cell: ({ id }) => `metronome bench paper --figure ${id}` },
        ], ({ id, title, question }) => ({ id, title, question }), 'None.');
        return;
      }
      const { path, summaries, figures, cellsLeft, failedBenches } = await evaluate({ ...chosen(options), ...(options.maxMinutes === undefined ? {} : { maxMs: 60_000 * options.maxMinutes }), command: commandLine(command), out: options.out, resume: options.resume === true, cwd: app.io.cwd, env: app.io.env, signal: app.signal, progress: printer.progress });
      if (summaries.length === 0 && figures.length > 0) {
        printer.list(figures, [{ header: 'FIGURE', cell: ({ name }) => name }, { header: 'VALUE', align: 'right', cell: ({ value }) => String(Number(value.toPrecision(4))) }, { header: 'UNIT', cell: ({ unit }) => unit }], (figure) => figure, 'None.');
      } else printer.list(summaries, [
        { header: 'APPLICATION', cell: ({ application }) => application },
        { header: 'POLICY', cell: ({ variant }) => variant },
        { header: 'CLIENTS', align: 'right', cell: ({ concurrency }) => (concurrency === 0 ? 'open' : String(concurrency)) },
        { header: 'N', align: 'right', cell: ({ n }) => String(n) },
        { header: 'MEAN', align: 'right', cell: ({ times }) => formatTime(times.mean.value) },
        { header: 'P50', align: 'right', cell: ({ times }) => formatTime(times.median.value) },
        { header: 'P90', align: 'right', cell: ({ times }) => formatTime(times.P90.value) },
        { header: 'P99', align: 'right', cell: ({ times }) => formatTime(times.P99.value) },
        { header: 'SLA MISSED', align: 'right', cell: ({ slaMisses }) => percent(slaMisses.value) },
        { header: 'WARM', align: 'right', cell: ({ warm }) => percent(warm) },
      ], (summary) => summary, 'Nothing was compared.');
      printer.progress(`The report: ${path}/report.md; deviations from the paper: ${path}/deviation.md`);
      if (failedBenches.length > 0) printer.warn(`No figures of ${failedBenches.map(({ name, problem }) => `${name} (${problem.split('\n', 1)[0]})`).join(', ')}; the same command with --resume runs ${failedBenches.length === 1 ? 'it' : 'them'} again.`);
      // What was asked for is not whole.
      return cellsLeft > 0 || failedBenches.length > 0 ? 1 : 0;
    }));
  group.addCommand(withExamples(paper, 'metronome bench paper --list', 'metronome bench paper --quick --out quick', 'metronome bench paper --where emulated --executions 60 --out evaluation', 'metronome bench paper --figure 1', 'metronome bench paper --where simulation --sweeps'));
  return group;
}

/** The options with their defaults, checked. */
function chosen(options: PaperOptions): Pick<Parameters<typeof evaluate>[0], 'where' | 'questions' | 'preset' | 'applications' | 'variants' | 'sweeps' | 'concurrency' | 'levels' | 'seeds' | 'executions' | 'levelExecutions' | 'slaExecutions' | 'trainExecutions' | 'warmUp' | 'levelWarmUp' | 'warmUpPerClient' | 'inputs' | 'quick' | 'benches' | 'profiles'> {
  const quick = options.quick === true, isSimulated = options.where === 'simulation';
  const item = options.figure === undefined ? undefined : PAPER_ITEMS.find(({ id }) => id === options.figure);
  if (options.figure !== undefined && item === undefined) throw new MetronomeError('INVALID_REQUEST', `There is no figure "${options.figure}". Known: ${PAPER_ITEMS.map(({ id }) => id).join(', ')} (metronome bench paper --list).`);
  if (options.profiles !== undefined && !isSimulated) throw new MetronomeError('INVALID_REQUEST', '--profiles is for --where simulation; real functions cost what they cost.');
  if (options.cluster === 'paper' && !isSimulated) throw new MetronomeError('INVALID_REQUEST', 'The cluster of the paper is too large for one machine. With it, use --where simulation.');
  if (item?.isBenchesOnly === true && isSimulated) throw new MetronomeError('INVALID_REQUEST', `Figure ${item.id} comes from benches of the real program: leave out --where simulation.`);
  if (options.open === true && options.concurrency !== undefined) throw new MetronomeError('INVALID_REQUEST', '--open has no clients: leave out --concurrency.');
  const base: ClusterPreset = CLUSTER_PRESETS[options.cluster ?? (isSimulated ? 'paper' : 'emulated')];
  const preset: ClusterPreset = { ...base, nodes: options.nodes ?? base.nodes, slots: options.slots ?? base.slots, cpus: options.cpus ?? base.cpus, linkBitsPerS: options.link ?? base.linkBitsPerS, inputFactor: scaled(base.inputFactor, options.inputFactor ?? 1) };
  if (!isSimulated && options.where === 'emulated' && preset.cpus * preset.nodes > availableParallelism()) throw new MetronomeError('INVALID_REQUEST', `${preset.nodes} nodes with ${preset.cpus} CPUs each are more than the ${availableParallelism()} of this machine, so it would be the bottleneck. Choose fewer --nodes or --cpus.`);
  const applications = item?.isBenchesOnly === true ? [] : options.applications?.map(applicationNamed) ?? (quick && !isSimulated ? (['log', 'document'] as const) : APPLICATIONS);
  const listed = options.policies ?? item?.variants ?? (quick && !isSimulated ? ['round-robin', 'data-locality', 'rule-delay', 'metronome', 'lookahead'] : FIGURE_VARIANTS.map(({ name }) => name));
  const variants = listed.map((name) => variantNamed(name, VARIANTS));
  const executions = options.executions ?? (quick ? 12 : 100);
  const questions = item === undefined ? (quick ? options.rq.filter((question) => question !== 2) : options.rq) : [item.question === 0 ? 1 : item.question];
  return {
    where: options.where, questions, preset, applications, variants,
    sweeps: options.sweeps === true ? SWEEP_VARIANTS.filter(({ of }) => variants.some(({ name }) => name === of)) : [],
    concurrency: options.open === true ? everywhere(0) : { ...preset.concurrency, ...options.concurrency },
    levels: options.levels ?? (isSimulated ? [1, 3, 5, 10, 20] : [1, 3, 5]),
    seeds: options.seeds ?? (isSimulated ? [1, 2, 3] : [1]),
    executions, levelExecutions: options.levelExecutions ?? Math.max(2, Math.ceil(executions / 4)),
    slaExecutions: Math.max(6, Math.ceil(executions / 4)), trainExecutions: isSimulated ? SIMULATED_TRAINING : quick ? 12 : TRAINING,
    warmUp: options.warmUp ?? (quick ? 3 : (isSimulated ? SIMULATED_WARM_UP_PER_COPY : WARM_UP_PER_COPY) * preset.copies), levelWarmUp: options.warmUp ?? (quick ? 3 : WARM_UP_PER_COPY * preset.copies), warmUpPerClient: options.warmUp !== undefined ? 0 : quick ? 1 : WARM_UP_PER_CLIENT,
    inputs: options.inputs ?? (quick ? 4 : INPUTS), quick, ...(item === undefined ? {} : { benches: item.benches ?? [] }), ...(options.profiles === undefined ? {} : { profiles: options.profiles }),
  };
}

function scaled(factors: ClusterPreset['inputFactor'], by: number): ClusterPreset['inputFactor'] {
  return by === 1 ? factors : (Object.fromEntries(Object.entries(factors).map(([name, factor]) => [name, factor * by])) as ClusterPreset['inputFactor']); // its own keys
}

/** The same number of clients for every application. */
function everywhere(clients: number): Readonly<Record<ApplicationName, number>> {
  return Object.fromEntries(APPLICATIONS.map((name) => [name, clients])) as Record<ApplicationName, number>; // every application is in it
}

function applicationNamed(name: string): ApplicationName {
  const known = APPLICATIONS.find((each) => each === name);
  if (known !== undefined) return known;
  const near = suggest(name, APPLICATIONS);
  throw new MetronomeError('INVALID_REQUEST', `Unknown application "${name}".${near === undefined ? '' : ` Did you mean "${near}"?`} Known applications: ${APPLICATIONS.join(', ')}.`);
}

/** The command as somebody else can type it: without the folder. */
function commandLine(command: Command): string {
  const given = command.options.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli' && option.long !== '--out' && option.long !== '--resume');
  const text = given.map((option) => {
    const value: unknown = command.getOptionValue(option.attributeName());
    return value === true ? option.long : `${option.long} ${valueText(option.attributeName(), value)}`;
  });
  return ['metronome bench paper', ...text].join(' ');
}

function valueText(name: string, value: unknown): string {
  if (name === 'link') return rateText(Number(value));
  if (Array.isArray(value)) return value.join(',');
  return typeof value === 'object' && value !== null ? Object.entries(value).map(([key, each]) => `${key}=${String(each)}`).join(',') : String(value);
}
