/** `metronome policy tune-resources`: finds CPU and memory of functions by trying them on the running cluster. */
import { appendFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { createRandom } from '../../core/random.ts';
import { formatMs, parseBytes } from '../../core/units.ts';
import type { SizeBounds, StageSize } from '../../policy/resource-manager/resource-manager.ts';
import { collect, duration, readPayload, wholeNumber, withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import { readInputs } from '../inputs.ts';
import { openDeployedSizes, requireLimits, type DeployedSizes } from '../tuning/deployed-sizes.ts';
import { measureExecutions } from '../tuning/execution-trial.ts';
import { tuneDeployed, type SizedExecution, type ToldEvaluation, type TunedDeployed } from '../tuning/tune-deployed.ts';
import type { CliApp } from '../app.ts';

interface TuneOptions {
  readonly data?: string;
  readonly contentType?: string;
  readonly input?: string[];
  readonly via?: string;
  readonly sla?: number;
  readonly rounds: number;
  readonly executions: number;
  readonly maxCpu?: number;
  readonly maxMemory?: number;
  readonly seed: number;
  readonly apply?: boolean;
  readonly out?: string;
}

/** Evaluations before the rounds, and in each: with 20 rounds the 70 of the resource manager. */
const INITIAL = 10, BATCH = 3, MOST_ROUNDS = 20;
const LEAST_CPU = 0.1, LEAST_MEMORY_MB = 128;
const MIB = 1024 ** 2;
const EVALUATIONS_FILE = 'evaluations.jsonl';

export function tuneResourcesCommand(app: CliApp): Command {
  const command = new Command('tune-resources')
    .argument('<name>', 'name of the function or workflow')
    .description('try sizes (CPU, memory) of a function, or of those of a workflow, on the running cluster, and find the cheapest that keep the latency target (Aquatope\'s resource manager)')
    .option('-d, --data <json|@file|->', 'payload of each execution: as it stands, from a file, or from standard input')
    .option('--content-type <type>', 'media type of the payload (default: application/json)')
    .option('--input <file|reference>', 'input object of each execution; may be given again', collect)
    .option('--via <url>', "the gateway's HTTP door for files, when the nodes cannot be reached from here")
    .option('--sla <duration>', 'latency that an execution may take (default: that of the workflow or function)', duration)
    .option('--rounds <n>', `rounds of ${BATCH} evaluations after the first ${INITIAL}; it ends before when its choice is stable`, wholeNumber(0, MOST_ROUNDS), MOST_ROUNDS)
    .option('-n, --executions <n>', 'warm executions per evaluation; their median counts', wholeNumber(1, 100), 3)
    .option('--max-cpu <cores>', 'most cores of a function (default: twice the most that one has)', cores)
    .option('--max-memory <size>', 'most memory of a function (default: twice the most that one has)', memoryMb)
    .option('--seed <n>', 'seed of the search', wholeNumber(0, 2 ** 31 - 1), 1)
    .option('--apply', 'leave the functions with the sizes that were found; otherwise they get back what they had')
    .option('--out <folder>', `keep every evaluation (${EVALUATIONS_FILE}) and the outcome (tuning.json)`)
    .action(app.action(async (name: string, options: TuneOptions, own: Command) => {
      const data = await readPayload(app.io, options.data, options.contentType);
      const folder = options.out === undefined ? undefined : resolve(app.io.cwd, options.out);
      return withSession(app, own, async ({ client, printer, signal }) => {
        const deployed = await openDeployedSizes(client, name, signal);
        requireLimits(deployed.functions, (await client.listNodes({}, { signal })).nodes);
        const inputs = await readInputs({ client, gatewayUrl: options.via, signal }, options.input ?? [], app.io.cwd, printer.progress);
        const functions = deployed.functions.map(({ spec }) => spec.name);
        const slaMs = options.sla ?? deployed.slaMs;
        const bounds = boundsOf(deployed, options);
        const maxEvaluations = INITIAL + BATCH * options.rounds;
        if (folder !== undefined) {
          await mkdir(folder, { recursive: true });
          await writeFile(join(folder, EVALUATIONS_FILE), '');
        }
        let startedAt = performance.now();
        const tuned = await tuneDeployed({
          deployed, slaMs, bounds, maxEvaluations, keep: options.apply === true, signal, random: createRandom(options.seed),
          measure: () => measureExecutions({ client, functions, slaMs, signal, executions: options.executions, request: { function: name, payload: Buffer.from(data.payload), contentType: data.contentType, inputs } }),
          onBefore(before) {
            startedAt = performance.now();
            printer.progress(`as deployed: ${executionText(before)}, target ${formatMs(slaMs)}`);
          },
          onRestored(leftAlone) {
            for (const left of leftAlone) printer.warn(`somebody deployed ${left} meanwhile; it stays as it is`);
            if (signal.aborted) printer.progress('stopped; the functions have the sizes that they had before');
          },
          onEvaluated(evaluation) {
            const leftMs = ((performance.now() - startedAt) / evaluation.number) * (maxEvaluations - evaluation.number);
            printer.progress(`${evaluation.number} of at most ${maxEvaluations}: ${evaluation.failure ?? executionText(evaluation)}${evaluation.isFeasible || evaluation.failure !== undefined ? '' : ', too slow'}; ${sizesText(functions, evaluation.sizes)}${leftMs > 0 ? `; about ${formatMs(leftMs)} left` : ''}`);
            if (folder !== undefined) appendFileSync(join(folder, EVALUATIONS_FILE), `${JSON.stringify(evaluationJson(functions, evaluation))}\n`);
          },
        });
        const outcome = outcomeJson(name, functions, slaMs, tuned);
        if (folder !== undefined) await writeFile(join(folder, 'tuning.json'), `${JSON.stringify({ ...outcome, seed: options.seed, executions: options.executions, bounds }, null, 2)}\n`);
        if (printer.isStructured) printer.structured(outcome);
        else {
          printer.table(functions.map((each, i) => ({ name: each, was: tuned.before.sizes[i], is: tuned.best?.sizes[i] })), [
            { header: 'FUNCTION', cell: (row) => row.name },
            { header: 'CPU', align: 'right', cell: ({ was }) => String(was?.cpu ?? '') },
            { header: 'MEMORY', align: 'right', cell: ({ was }) => `${was?.memoryMb ?? ''} MiB` },
            { header: 'BEST CPU', align: 'right', cell: ({ is }) => String(is?.cpu ?? '-') },
            { header: 'BEST MEMORY', align: 'right', cell: ({ is }) => (is === undefined ? '-' : `${is.memoryMb} MiB`) },
          ]);
          printer.text(`${conclusion(tuned, slaMs)}\n`);
        }
        return tuned.best === undefined && tuned.before.latencyMs > slaMs ? 1 : 0;
      });
    }));
  return withExamples(command,
    'metronome policy tune-resources hello-node --data \'{"name":"you"}\' --sla 200ms',
    'metronome policy tune-resources log-analysis --input access.log --data \'{"parts":4}\' --rounds 6 --out tuning --apply');
}

function cores(text: string): number {
  const value = Number(text);
  if (!(value >= LEAST_CPU && value <= 64)) throw new InvalidArgumentError(`It must be a number of cores from ${LEAST_CPU} to 64.`);
  return value;
}

function memoryMb(text: string): number {
  const value = Math.floor((parseBytes(text) ?? 0) / MIB);
  if (value < LEAST_MEMORY_MB || value > 65_536) throw new InvalidArgumentError(`It must be a size from ${LEAST_MEMORY_MB}MiB to 64GiB.`);
  return value;
}

function boundsOf({ before }: DeployedSizes, { maxCpu, maxMemory }: TuneOptions): Required<SizeBounds> {
  const most = (of: (size: StageSize) => number): number => Math.max(...before.map(of));
  return {
    cpu: [LEAST_CPU, maxCpu ?? Math.min(64, 2 * most(({ cpu }) => cpu))],
    memoryMb: [LEAST_MEMORY_MB, maxMemory ?? Math.min(65_536, Math.max(LEAST_MEMORY_MB, 2 * most((size) => size.memoryMb)))],
  };
}

const sizeText = ({ cpu, memoryMb: memory }: StageSize): string => `${cpu} CPU, ${memory} MiB`;
const sizesText = (functions: readonly string[], sizes: readonly StageSize[]): string => sizes.map((size, i) => `${functions.length === 1 ? '' : `${functions[i]} `}${sizeText(size)}`).join('; ');
/** Cost is tiny per execution: per thousand. */
const executionText = ({ latencyMs, cost }: Pick<SizedExecution, 'latencyMs' | 'cost'>): string => `${formatMs(latencyMs)}, cost ${(1_000 * cost).toFixed(2)}`;

function conclusion({ before, best, isKept, evaluations, endedBecause }: TunedDeployed, slaMs: number): string {
  const tried = `${evaluations.length} evaluations (${endedBecause === 'stable' ? 'the choice was stable' : 'all that were allowed'}); cost per 1000 executions, latency target ${formatMs(slaMs)}`;
  if (best === undefined) return `${tried}.\n${before.latencyMs > slaMs ? 'Nothing that was tried keeps the target' : 'Nothing that was tried is cheaper and keeps the target'}: ${executionText(before)} as deployed.`;
  const change = Math.round(100 * (best.cost / before.cost - 1));
  return `${tried}.\nbefore ${executionText(before)}; best ${executionText(best)} (${change > 0 ? '+' : ''}${change} % cost).\n${isKept ? 'The best sizes are deployed; write them into the manifest, or the next apply takes them back.' : 'The sizes are as they were; --apply would deploy the best.'}`;
}

/** JSON knows no Infinity: null for what did not end. */
function executionJson(functions: readonly string[], { sizes, latencyMs, cost }: SizedExecution): object {
  return { latencyMs: Number.isFinite(latencyMs) ? latencyMs : null, cost, sizes: sizes.map((size, i) => ({ function: functions[i], ...size })) };
}

function evaluationJson(functions: readonly string[], { number, failure, isFeasible, ...execution }: ToldEvaluation): object {
  return { number, ...executionJson(functions, execution), isFeasible, ...(failure === undefined ? {} : { failure }) };
}

function outcomeJson(name: string, functions: readonly string[], slaMs: number, { before, best, evaluations, endedBecause, isKept }: TunedDeployed): object {
  return { name, slaMs, before: executionJson(functions, before), best: best === undefined ? null : executionJson(functions, best), evaluations: evaluations.length, endedBecause, isDeployed: isKept };
}
