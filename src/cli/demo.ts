/**
 * `up --demo`: the log application on real log files. Deploys it, makes logs and the truth about them, stores each log on another
 * node, runs a burst of workflows, compares every result with the truth, and shows where each step ran and why it took as long.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Config } from '../config/schema.ts';
import { loadManifest } from '../config/manifest.ts';
import { MetronomeError } from '../core/errors.ts';
import { formatBytes, formatMs } from '../core/units.ts';
import { createClient, type SchedulerClient } from '../rpc/client.ts';
import type { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import type { Invocation } from '../rpc/gen/metronome/v1/invoke.ts';
import { runBurst } from './burst.ts';
import { loadCheck } from '../workload/applications.ts';
import type { Cluster } from './cluster/cluster.ts';
import { deploy } from './deploy.ts';
import { paint } from './io.ts';
import { putFile } from './objects.ts';
import { STEP_COLUMNS, byArrival, isLocal } from './output/invocation-text.ts';
import type { Printer } from './output/printer.ts';
import { percent } from './output/words.ts';
import { PROJECT_ROOT } from './project.ts';

const WORKFLOW = 'log-analysis';
const LOGS = 3;
const AT_ONCE = 2;
const PARTS = 4;
const SEED = 20_260_101;

/** What make-input.mjs says about a log, as far as it is shown; all of it goes to the check. */
const truthSchema = z.looseObject({ lines: z.number() });
type Truth = z.infer<typeof truthSchema>;

/** Where the demo runs. */
export interface DemoOptions {
  readonly config: Config;
  readonly cluster: Cluster;
  readonly printer: Printer;
  /** Folder for the logs that it makes; one of them stays there, to try things with. */
  readonly dataDir: string;
  /** How a person calls the command line, with the address if that is needed. */
  readonly metronome: string;
  readonly signal: AbortSignal;
  readonly colour: boolean;
}

/** Runs the demo. Fails when a run fails or a result is not the truth. */
export async function runDemo(options: DemoOptions): Promise<void> {
  const { config, cluster, printer, signal, colour } = options;
  const { progress } = printer;
  const client = createClient({ address: cluster.grpcAddress });
  const work = join(options.dataDir, 'demo');
  try {
    await mkdir(work, { recursive: true });
    progress(`demo: deploying ${join('apps', 'log')} and making ${LOGS} logs of ${formatBytes(config.up.demoLogBytes)} …`);
    const manifest = await loadManifest(join(PROJECT_ROOT, 'apps', 'log'));
    const [, logs] = await Promise.all([
      deploy({ client, manifest, signal, progress: (line) => progress(`demo: ${line}`) }),
      makeLogs(work, config.up.demoLogBytes, signal),
    ]);
    const stored = await storeLogs(client, cluster, logs, signal);
    for (const { reference, truth } of stored) progress(`demo: ${reference.name} (${formatBytes(reference.sizeBytes)}, ${truth.lines} lines) is on ${reference.holders.join(', ')}`);
    for (const { path } of logs.slice(1)) await rm(path, { force: true });

    const runs = config.up.demoRuns;
    const explained = runs > 0 ? await runWorkflows(options, client, stored, runs) : undefined;

    const [first] = logs;
    if (!printer.isStructured && first !== undefined) {
      printer.text([
        '',
        paint(colour, 'bold', 'Invoke it yourself, in another terminal (the log is one of those above; take your own if you like):'),
        `  ${options.metronome} invoke ${WORKFLOW} --input ${first.path} --data '{"parts":${PARTS}}' --steps`,
        `  curl -d '{"parts":${PARTS}}' -H "x-metronome-inputs: [$(curl -s --data-binary @${first.path} ${cluster.httpUrl}/objects?name=access.log)]" ${cluster.httpUrl}/run/${WORKFLOW}`,
        `  ${options.metronome} invocation list`,
        `  ${options.metronome} invocation explain ${explained ?? 'ID'}`,
        '',
      ].join('\n'));
    }
  } finally {
    client.close();
  }
}

type RunStep = Invocation & { readonly run: number };

interface StoredLog {
  readonly reference: ObjectRef;
  readonly truth: Truth;
}

/** Returns the id of a step that is worth an explanation. */
async function runWorkflows({ cluster, printer, signal, colour }: DemoOptions, client: SchedulerClient, logs: readonly StoredLog[], runs: number): Promise<string | undefined> {
  const { progress } = printer;
  progress(`demo: ${runs} runs of ${WORKFLOW}, ${AT_ONCE} at a time …`);
  const steps: RunStep[][] = [];
  const results: unknown[] = [];
  const wrong: string[] = [];
  const payload = Buffer.from(JSON.stringify({ parts: PARTS }));
  const logOf = (i: number): StoredLog => logs[i % logs.length] as StoredLog; // there is at least one log
  const { summary, firstError } = await runBurst({
    client, count: runs, concurrency: AT_ONCE, signal,
    request: (i) => ({ function: WORKFLOW, payload, contentType: 'application/json', inputs: [logOf(i).reference] }),
    onSettled(i, outcome) {
      if (outcome instanceof MetronomeError) return progress(`demo: run ${i + 1} failed: ${outcome.code}: ${outcome.message}`);
      steps[i] = byArrival(outcome.steps).map((step) => ({ ...step, run: i + 1 }));
      results[i] = JSON.parse(Buffer.from(outcome.payload).toString('utf8'));
      progress(`demo: run ${i + 1} took ${formatMs(outcome.phases?.totalMs ?? 0)}`);
    },
  });
  const check = await loadCheck('log', join(PROJECT_ROOT, 'apps'));
  for (const [i, result] of results.entries()) {
    if (steps[i] === undefined) continue; // it failed
    const [problem] = await check({ result, outputs: [], truth: logOf(i).truth });
    if (problem !== undefined) wrong.push(`run ${i + 1}: ${problem}`);
  }
  signal.throwIfAborted();
  const all = steps.flat();
  if (printer.isStructured) printer.structured({ summary, wrong, steps: all.map(({ id, function: name, node, step, phases, locality }) => ({ id, function: name, step, node, phases, locality })) });
  else {
    printer.text(`\n${paint(colour, 'bold', `The steps of ${runs} runs (times in ms)`)}\n`);
    printer.table(all, [{ header: 'RUN', align: 'right', cell: ({ run }) => String(run) }, ...STEP_COLUMNS]);
    const local = all.filter((step) => isLocal(step.locality)).length;
    const delayed = all.filter((step) => (step.phases?.delayedMs ?? 0) > 0).length;
    const moved = all.reduce((sum, step) => sum + (step.phases?.fetchedBytes ?? 0), 0);
    const total = summary.phasesMs.total;
    printer.text(`\n${all.length} steps on ${cluster.nodeNames.length} nodes: ${percent(all.length === 0 ? 0 : local / all.length)} local, ${delayed} waited for a better node, ${formatBytes(moved)} moved. A run took ${formatMs(total.p50)} (median), ${formatMs(total.max)} at most.\n`);
  }
  if (firstError !== undefined) throw firstError;
  if (wrong.length > 0) throw new MetronomeError('INTERNAL', `The results of the demo are not what the logs say:\n  ${wrong.join('\n  ')}`);
  progress(`demo: results checked: all ${runs} agree with what the generator knows about its logs.`);
  return (all.findLast((step) => (step.phases?.delayedMs ?? 0) > 0) ?? all.at(-1))?.id;
}

async function makeLogs(folder: string, bytes: number, signal: AbortSignal): Promise<{ readonly path: string; readonly truth: Truth }[]> {
  const maker = join(PROJECT_ROOT, 'apps', 'log', 'make-input.mjs');
  const logs: { readonly path: string; readonly truth: Truth }[] = [];
  for (let i = 0; i < LOGS; i++) {
    const path = join(folder, `access-${i + 1}.log`);
    const { stdout } = await promisify(execFile)(process.execPath, [maker, path, String(bytes), String(SEED + i)], { signal, maxBuffer: 16 * 1024 * 1024 });
    logs.push({ path, truth: truthSchema.parse(JSON.parse(stdout)) });
  }
  return logs;
}

/** Each log on another node, so that locality has something to choose from. */
async function storeLogs(client: SchedulerClient, cluster: Cluster, logs: readonly { readonly path: string; readonly truth: Truth }[], signal: AbortSignal): Promise<StoredLog[]> {
  return Promise.all(logs.map(async ({ path, truth }, i) => {
    const node = cluster.nodeNames[i % cluster.nodeNames.length];
    return { reference: await putFile({ client, gatewayUrl: cluster.httpUrl, node, signal }, path, '/'), truth };
  }));
}
