/**
 * Bench `cold-start`: what a start costs on each rung of the ladder, as a real agent reports it over its real gRPC.
 *
 *   first install   empty store: code and packages come from where they are (npm registry; wheels in the bundle)
 *   store install   another package set of the same packages: linked from the node's own store
 *   cold            packages are there: process and imports
 *   zygote          a zygote with the imports is there
 *   warm            an idle sandbox is there: the time inside the agent beside the handler's own
 *
 * Functions: the packages of apps/document/process (34) and apps/inference/process (17), imported by a handler that does nothing
 * else, and Python with numpy as it is installed here (without it: generated packages of pure Python; the report says which). Cold
 * and zygote starts are measured in turns in one agent, and zygotes are never being made while something is measured.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startAgent } from '../src/agent/agent.ts';
import { packFunction } from '../src/config/bundle.ts';
import { sealLock } from '../src/config/package-lock.ts';
import { resolvePackages } from '../src/config/packages.ts';
import { StartState } from '../src/rpc/gen/metronome/v1/common.ts';
import { FunctionMessage, FunctionSpec, LockedPackage, type PackageLock } from '../src/rpc/gen/metronome/v1/function.ts';
import type { Result } from '../src/rpc/gen/metronome/v1/agent.ts';
import { START_STATES } from '../src/predictor/predictor.ts';
import { openAgentClient, type BenchAgentClient } from './agent-client.ts';
import { overRounds, quantile, type Bench, type Figure } from './harness.ts';

/** A function of the bench. */
interface Subject {
  readonly name: 'node34' | 'node17' | 'python';
  readonly runtime: 'node' | 'python3';
  readonly handler: string;
  readonly lock: PackageLock;
  readonly bundleDigest: string;
}

/** Measured ms by rung. */
interface Rungs {
  readonly firstInstall: number[];
  readonly storeInstall: number[];
  readonly cold: number[];
  readonly zygote: number[];
  readonly warm: number[];
}

const PYTHON_PACKAGES = ['numpy'];
const silent = { info() {}, warn() {}, error() {} };

/** The cold-start bench. */
export const coldStartBench: Bench = {
  description: 'ms of a start on each rung: first install, install from the node\'s store, cold import, zygote, warm (34 and 17 Node packages, Python)',
  async run({ quick, progress }) {
    const installs = quick ? 1 : 3;
    const variants = 3;
    const starts = quick ? 8 : 20;
    const warmRuns = quick ? 500 : 2_000;
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-'));
    const bundles = new Map<string, Uint8Array>();
    try {
      const python = await pythonSubject(join(dir, 'python'), bundles);
      const subjects = [await nodeSubject('node34', 'document', join(dir, 'node34'), bundles), await nodeSubject('node17', 'inference', join(dir, 'node17'), bundles), python.subject];
      const rungs = new Map<Subject, Rungs>(subjects.map((subject) => [subject, { firstInstall: [], storeInstall: [], cold: [], zygote: [], warm: [] }]));
      for (let round = 0; round < installs; round++) {
        progress(`cold-start: install ${round + 1} of ${installs} into an empty store, then ${variants} from the store`);
        await withAgent(join(dir, `install-${round}`), bundles, false, async (client) => {
          for (const [subject, { firstInstall, storeInstall }] of rungs) {
            firstInstall.push(expectStart(await client.run(definition(subject, 'first')), StartState.COLD).installedMs);
            for (let i = 0; i < variants; i++) storeInstall.push(expectStart(await client.run(definition(subject, `variant-${i}`, variant(subject.lock, i))), StartState.COLD).installedMs);
          }
        });
      }
      await withAgent(join(dir, 'starts'), bundles, true, async (client) => {
        for (const [subject, { cold, zygote, warm }] of rungs) {
          progress(`cold-start: ${subject.name}, ${starts} cold starts and ${starts} from a zygote in turns, ${warmRuns} warm runs`);
          const once = definition(subject, 'once');
          await client.run(once); // installs
          for (let i = 0; i < starts; i++) {
            await client.whenZygote(subject.lock.digest, true);
            zygote.push(expectStart(await client.run(once), StartState.ZYGOTE).initialisedMs);
            // What was used up is replaced before anything else is measured, and the replacement ended.
            await client.whenZygote(subject.lock.digest, true);
            await client.evict('', true);
            await client.whenZygote(subject.lock.digest, false);
            cold.push(expectStart(await client.run(once), StartState.PACKAGES).initialisedMs);
          }
          await client.whenZygote(subject.lock.digest, true);
          const again = definition(subject, 'again', undefined, true);
          await client.run(again);
          await client.whenZygote(subject.lock.digest, true);
          for (let i = 0; i < warmRuns; i++) {
            const { acceptedAtUnixMs, releasedAtUnixMs, ranMs } = expectStart(await client.run(again), StartState.WARM);
            warm.push(releasedAtUnixMs - acceptedAtUnixMs - ranMs);
          }
          await client.evict('', true);
          await client.evict('', false);
        }
      });
      const figures: Figure[] = [];
      const ratios = new Map<Subject, { zygote: Figure; install: Figure }>();
      for (const [subject, of] of rungs) {
        const { name } = subject;
        figures.push(
          ...percentiles(`${name}_first_install`, of.firstInstall), ...percentiles(`${name}_store_install`, of.storeInstall), ...percentiles(`${name}_cold`, of.cold), ...percentiles(`${name}_zygote`, of.zygote), ...percentiles(`${name}_warm`, of.warm),
        );
        ratios.set(subject, { zygote: ratio(`${name}_zygote_ratio`, of.zygote, of.cold), install: ratio(`${name}_install_ratio`, of.storeInstall, of.firstInstall) });
      }
      const [node34, node17, py] = subjects.map((subject) => ratios.get(subject)!);
      // Of the two Node functions the worse one counts.
      figures.push(
        { ...worse(node34!.zygote, node17!.zygote), name: 'node_zygote_ratio' }, py!.zygote, { ...worse(node34!.install, node17!.install), name: 'install_ratio' },
        { ...percentiles('warm', [...rungs.values()].flatMap(({ warm }) => warm))[0]!, name: 'warm_p50' },
      );
      return { mode: 'real', figures, params: { installs, variants, starts, warmRuns, pythonPackages: python.packages, pythonGenerated: python.generated, registry: 'the one that npm is configured for' } };
    } finally {
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    }
  },
};

/** Runs something against an agent of its own. */
async function withAgent(dataDir: string, bundles: ReadonlyMap<string, Uint8Array>, zygotes: boolean, work: (client: BenchAgentClient) => Promise<void>): Promise<void> {
  const agent = await startAgent({
    name: 'bench', host: '127.0.0.1', grpcPort: 0, dataPort: 0, schedulerAddress: undefined, slots: 2, memoryMb: 4_096, dataDir, keepAliveMs: 600_000, pushIntervalMs: 50, objectQuotaBytes: 64 * 1024 ** 2, maxResultBytes: 1024 ** 2,
    logBytes: 65_536, zygotes, log: silent,
    fetchBundle: (digest) => {
      const bundle = bundles.get(digest);
      return bundle === undefined ? Promise.reject(new Error(`There is no bundle ${digest}.`)) : Promise.resolve(bundle);
    },
  });
  const client = openAgentClient(agent.grpcAddress);
  try {
    await work(client);
  } finally {
    client.close();
    await agent.stop();
  }
}

/** A function with the packages of an application, which it imports and does nothing more. */
async function nodeSubject(name: 'node34' | 'node17', app: string, codeDir: string, bundles: Map<string, Uint8Array>): Promise<Subject> {
  await mkdir(codeDir);
  for (const file of ['package.json', 'package-lock.json']) await copyFile(fileURLToPath(new URL(`../apps/${app}/process/${file}`, import.meta.url)), join(codeDir, file));
  const { lock } = await resolvePackages({ codeDir, runtime: 'node', packages: {} });
  if (lock === undefined) throw new Error(`apps/${app}/process has no packages.`);
  const imports = lock.packages.filter(({ direct }) => direct).map((one, i) => `import * as p${i} from '${one.name}';\n`).join('');
  await writeFile(join(codeDir, 'handler.mjs'), `${imports}export const handler = () => null;\n`);
  return { name, runtime: 'node', handler: 'handler.mjs', lock, bundleDigest: await addBundle(codeDir, bundles) };
}

/** A Python function with packages as wheels in its bundle. */
async function pythonSubject(codeDir: string, bundles: Map<string, Uint8Array>): Promise<{ readonly subject: Subject; readonly packages: readonly string[]; readonly generated: boolean }> {
  const wheelsDir = join(codeDir, 'wheels');
  await mkdir(wheelsDir, { recursive: true });
  const { stdout } = await promisify(execFile)('python3', [fileURLToPath(new URL('fixtures/make-wheels.py', import.meta.url)), wheelsDir, ...PYTHON_PACKAGES]);
  const { generated, wheels } = JSON.parse(stdout) as { generated: boolean; wheels: { name: string; version: string; file: string }[] }; // written by our own program
  const packages = await Promise.all(wheels.map(async ({ name, version, file }) => LockedPackage.fromPartial({
    name, version, path: name, direct: true, resolved: `file:wheels/${file}`, integrity: `sha256-${createHash('sha256').update(await readFile(join(wheelsDir, file))).digest('base64')}`,
  })));
  await writeFile(join(codeDir, 'handler.py'), `${wheels.map(({ name }) => `import ${name.replaceAll('-', '_')}\n`).join('')}def handler(event, context):\n    return None\n`);
  const subject: Subject = { name: 'python', runtime: 'python3', handler: 'handler.py', lock: sealLock({ digest: '', runtime: 'python3', packages }), bundleDigest: await addBundle(codeDir, bundles) };
  return { subject, packages: wheels.map(({ name, version }) => `${name}==${version}`), generated };
}

async function addBundle(codeDir: string, bundles: Map<string, Uint8Array>): Promise<string> {
  const bundle = await packFunction(codeDir);
  const digest = createHash('sha256').update(bundle).digest('hex');
  bundles.set(digest, bundle);
  return digest;
}

/** The same packages under another digest, as another function would have them. */
function variant(lock: PackageLock, number: number): PackageLock {
  return sealLock({ ...lock, packages: lock.packages.map((one, i) => (i === 0 ? { ...one, dependencies: [...one.dependencies, `bench-variant-${number}`] } : one)) });
}

function definition({ name, runtime, handler, lock, bundleDigest }: Subject, what: string, otherLock?: PackageLock, reuse = false): FunctionMessage {
  const spec = FunctionSpec.fromPartial({ name: `${name}-${what}`, runtime, handler, memoryMb: 512, cpu: 1, timeoutMs: 60_000, slaMs: 60_000, reuse });
  return { ...FunctionMessage.fromPartial({ version: '1', bundleDigest, appliedAtUnixMs: 1 }), spec, lock: otherLock ?? lock };
}

function expectStart(result: Result, state: StartState): Result {
  if (result.startState !== state) throw new Error(`bench cold-start: a start was ${START_STATES[result.startState]}, not ${START_STATES[state]}`);
  return result;
}

function percentiles(name: string, values: readonly number[]): Figure[] {
  const sorted = [...values].sort((a, b) => a - b);
  const of = (share: number): number => quantile(sorted, share);
  const spread = overRounds('', 'ms', sorted, sorted.length);
  return [{ ...spread, name: `${name}_p50` }, { ...overRounds('', 'ms', [of(0.95)], sorted.length), low: spread.low, high: spread.high, name: `${name}_p95` }];
}

/** Of medians; low and high: of the pairs in the order in which they were measured, as far as both are there. */
function ratio(name: string, values: readonly number[], by: readonly number[]): Figure {
  const median = (of: readonly number[]): number => quantile([...of].sort((a, b) => a - b), 0.5);
  const pairs = values.map((value, i) => value / (by[i] ?? median(by)));
  const whole = overRounds(name, '×', [median(values) / median(by)], values.length);
  const spread = overRounds(name, '×', pairs, pairs.length);
  return { ...whole, low: spread.low, high: spread.high };
}

function worse(a: Figure, b: Figure): Figure {
  return a.value >= b.value ? a : b;
}
