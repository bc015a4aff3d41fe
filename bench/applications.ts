/**
 * Bench `applications`: the four applications on a real cluster. First a recording: workflows on inputs of changing sizes, two clients in closed loops,
 * sandboxes that live for seconds, so that every start state comes about; every result is checked. Then the noise floor: for each function the same
 * call again and again, warm, with its input on the node and nothing else running; how much its run time differs is what no model can predict.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { deploy } from '../src/cli/deploy.ts';
import { putFile } from '../src/cli/objects.ts';
import { PROJECT_ROOT } from '../src/cli/project.ts';
import { runApplication } from '../src/cli/run-application.ts';
import { loadManifest, type Manifest } from '../src/config/manifest.ts';
import { MetronomeError } from '../src/core/errors.ts';
import { createRandom } from '../src/core/random.ts';
import type { SchedulerClient } from '../src/rpc/client.ts';
import { StartState, type ObjectRef, type Phases } from '../src/rpc/gen/metronome/v1/common.ts';
import { APPLICATIONS, loadApplication, type Application, type ApplicationInput } from '../src/workload/applications.ts';
import { createInputSizes } from '../src/workload/input-sizes.ts';
import { openBenchCluster } from './cluster.ts';
import { quantile, type Bench, type Figure } from './harness.ts';

const NODES = 3;
const SLOTS = 2;
const CLIENTS = 2;
/** Idle sandboxes go after this, ms: short enough that starts are not all warm, long enough for warm repetitions. */
const KEEP_ALIVE_MS = 6_000;
const START_STATES: Readonly<Record<number, string>> = { [StartState.COLD]: 'cold', [StartState.PACKAGES]: 'packages', [StartState.ZYGOTE]: 'zygote', [StartState.WARM]: 'warm' };
/** Runs before a call counts as repetition. */
const WARM_UP_RUNS = 5;

interface Stored {
  readonly input: ApplicationInput;
  readonly reference: ObjectRef;
}

interface Deployed {
  readonly application: Application;
  readonly manifest: Manifest;
  readonly inputs: readonly Stored[];
}

/** One call of one function, to be repeated. */
interface Call {
  readonly function: string;
  readonly payload: Buffer;
  readonly inputs: readonly ObjectRef[];
}

/** The applications bench. */
export const applicationsBench: Bench = {
  description: 'the four applications on real nodes: phases by function and start state, and the noise of identical warm runs',
  async run({ seed, quick, progress }) {
    const [loadBefore] = loadavg(); // neighbours make most of the noise
    const plan = quick ? { factor: 0.1, inputs: 2, runs: 4, repetitions: 6 } : { factor: 0.5, inputs: 6, runs: 24, repetitions: 25 };
    const bench = await openBenchCluster(NODES, SLOTS, progress);
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-inputs-'));
    try {
      const { client, cluster } = bench;
      const deployed: Deployed[] = [];
      for (const name of APPLICATIONS) {
        progress(`applications: deploying ${name} and making ${plan.inputs} inputs`);
        deployed.push(await prepare(client, cluster.httpUrl, cluster.nodeNames, name, { dir, seed, ...plan }));
      }
      const figures: Figure[] = [];
      const wrong: string[] = [], failed: string[] = [];
      const runs = deployed.length * plan.runs;
      const recorded = await record(client, deployed, { dir, seed, runs: plan.runs, progress, wrong, failed });
      figures.push(count('runs', runs, runs), count('wrong', wrong.length, runs), count('failed', failed.length, runs), ...phaseFigures(recorded));
      for (const { application, manifest, inputs } of deployed) {
        progress(`applications: repeating the functions of ${application.name}`);
        // The input in the middle of all sizes.
        const middle = [...inputs].sort((a, b) => a.reference.sizeBytes - b.reference.sizeBytes)[Math.floor(inputs.length / 2)] as Stored; // there is at least one
        for (const call of await callsOf(client, manifest, middle)) figures.push(...noiseFigures(call.function, await repeat(client, call, plan.repetitions)));
      }
      for (const line of wrong) progress(`applications: wrong: ${line}`);
      for (const line of failed) progress(`applications: failed: ${line}`);
      return { mode: 'real', figures, params: { nodes: NODES, slots: SLOTS, clients: CLIENTS, keepAliveMs: KEEP_ALIVE_MS, ...plan, loadAverage: [loadBefore, loadavg()[0]] } };
    } finally {
      await bench.close();
      await rm(dir, { recursive: true, force: true });
    }
  },
};

async function prepare(client: SchedulerClient, gatewayUrl: string, nodes: readonly string[], name: string, options: { readonly dir: string; readonly seed: number; readonly factor: number; readonly inputs: number }): Promise<Deployed> {
  const application = await loadApplication(name, join(PROJECT_ROOT, 'apps'));
  const loaded = await loadManifest(application.folder);
  const manifest = { ...loaded, functions: loaded.functions.map((each) => ({ ...each, spec: { ...each.spec, keepAliveMs: KEEP_ALIVE_MS } })) };
  await deploy({ client, manifest, progress: () => {} });
  const sizes = createInputSizes({ application: application.name, seed: options.seed, factor: options.factor });
  const inputs: Stored[] = [];
  for (let i = 0; i < options.inputs; i++) {
    const input = await application.makeInput({ seed: options.seed + i, sizeBytes: sizes.next(i), dir: options.dir });
    const reference = await putFile({ client, gatewayUrl, node: nodes[i % nodes.length] }, input.path, '/');
    await rm(input.path);
    inputs.push({ input, reference });
  }
  return { application, manifest, inputs };
}

interface Recorded {
  readonly function: string;
  readonly phases: Phases;
}

/** The same number of runs of every application, in seeded order. */
async function record(client: SchedulerClient, deployed: readonly Deployed[], options: { readonly dir: string; readonly seed: number; readonly runs: number; readonly wrong: string[]; readonly failed: string[]; progress(text: string): void }): Promise<Recorded[]> {
  const random = createRandom(options.seed, 1);
  const order = deployed.flatMap((each) => Array.from({ length: options.runs }, (_, i) => ({ each, i })));
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j] as (typeof order)[0], order[i] as (typeof order)[0]]; // both are in it
  }
  const recorded: Recorded[] = [];
  let next = 0;
  await Promise.all(Array.from({ length: CLIENTS }, async () => {
    for (let work = order[next++]; work !== undefined; work = order[next++]) {
      const { each: { application, inputs }, i } = work;
      const { input, reference } = inputs[i % inputs.length] as Stored; // there is at least one
      try {
        const { response, problems } = await runApplication({ client, application, input, reference, dir: options.dir });
        if (problems.length > 0) options.wrong.push(`${application.name} ${reference.name}: ${problems.join('; ')}`);
        for (const { function: name, phases } of response.steps) if (phases !== undefined) recorded.push({ function: name, phases });
      } catch (error) {
        if (!(error instanceof MetronomeError)) throw error;
        options.failed.push(`${application.name} ${reference.name}: ${error.code}: ${error.message}`);
      }
      if (next % 10 === 0) options.progress(`applications: ${Math.min(next, order.length)} of ${order.length} runs`);
    }
  }));
  return recorded;
}

/** For every step of the workflow one call as the workflow would make it, with its payload and inputs. */
async function callsOf(client: SchedulerClient, manifest: Manifest, { input, reference }: Stored): Promise<Call[]> {
  const calls: Call[] = [];
  let payload: Buffer = Buffer.from(JSON.stringify(input.payload));
  let inputs: readonly ObjectRef[] = [reference];
  for (const step of manifest.workflows[0]?.spec.steps ?? []) {
    const each = step.forEach === 'objects' ? inputs.map((one): Call => ({ function: step.function, payload, inputs: [one] })) : [{ function: step.function, payload, inputs }];
    calls.push(each[0] as Call); // a step has a call, or the run would have failed
    const responses = [];
    for (const call of each) responses.push(await client.invoke(call));
    payload = step.forEach === 'objects' ? Buffer.from(`[${responses.map((response) => Buffer.from(response.payload).toString('utf8')).join(',')}]`) : Buffer.from(responses[0]?.payload ?? []);
    inputs = responses.flatMap(({ outputs }) => outputs);
  }
  return calls;
}

/** Run times in ms of identical warm runs with nothing to fetch. */
async function repeat(client: SchedulerClient, call: Call, repetitions: number): Promise<number[]> {
  const ran: number[] = [];
  for (let i = 0; i < WARM_UP_RUNS + repetitions; i++) {
    const { phases } = await client.invoke(call);
    if (i >= WARM_UP_RUNS && phases?.startState === StartState.WARM && phases.fetchedBytes === 0) ran.push(phases.ranMs);
  }
  return ran;
}

function phaseFigures(recorded: readonly Recorded[]): Figure[] {
  const groups = new Map<string, Phases[]>();
  for (const { function: name, phases } of recorded) {
    const key = `${nameOf(name)}_${START_STATES[phases.startState] ?? 'unknown'}`;
    groups.set(key, [...(groups.get(key) ?? []), phases]);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([key, all]) => [
    count(`${key}_count`, all.length, all.length),
    ...(['fetched', 'initialised', 'ran', 'total'] as const).map((phase) => meanFigure(`${key}_${phase}_mean`, all.map((phases) => phases[`${phase}Ms`]))),
  ]);
}

/** Median run time; deviation from it in percent: median, 90th percentile and mean (the best that any prediction can do on average); relative standard deviation. */
function noiseFigures(name: string, ran: readonly number[]): Figure[] {
  if (ran.length === 0) return [count(`${nameOf(name)}_repeats`, 0, 0)]; // none was warm with its input on the node: nothing to say
  const sorted = [...ran].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  const deviations = ran.map((value) => (Math.abs(value - median) / median) * 100).sort((a, b) => a - b);
  const mean = meanOf(ran);
  const relative = (Math.sqrt(meanOf(ran.map((value) => (value - mean) ** 2))) / mean) * 100;
  const prefix = nameOf(name);
  return [
    figure(`${prefix}_repeat_ran_p50`, 'ms', median, sorted),
    figure(`${prefix}_noise_p50`, '%', quantile(deviations, 0.5), deviations),
    figure(`${prefix}_noise_p90`, '%', quantile(deviations, 0.9), deviations),
    figure(`${prefix}_noise_mean`, '%', meanOf(deviations), deviations),
    { ...figure(`${prefix}_noise_rsd`, '%', relative, []), n: ran.length },
  ];
}

/** A figure over single values, in ascending order; without any it stands alone. */
function figure(name: string, unit: string, value: number, sorted: readonly number[]): Figure {
  const round = (number: number): number => Number(number.toPrecision(4));
  return { name, unit, value: round(value), n: Math.max(1, sorted.length), low: round(sorted[0] ?? value), high: round(sorted.at(-1) ?? value) };
}

function count(name: string, value: number, n: number): Figure {
  return { name, unit: '', value, n, low: value, high: value };
}

function meanFigure(name: string, values: readonly number[]): Figure {
  return figure(name, 'ms', meanOf(values), [...values].sort((a, b) => a - b));
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** "video-split" → "video_split": figure names have no hyphens. */
function nameOf(functionName: string): string {
  return functionName.replaceAll('-', '_');
}
