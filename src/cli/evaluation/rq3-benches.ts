/**
 * The benches behind research question 3 (figures 7 to 9), run as programs of their own: the product does not import them, and their timings want a process for themselves.
 * Each that ended has its report in the folder of the evaluation, and is not run again; one that failed is named, and the others run all the same.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { MetronomeError } from '../../core/errors.ts';
import { formatMs } from '../../core/units.ts';
import type { NamedFigure } from '../../evaluation/deviation.ts';
import type { ResultFolder } from '../../evaluation/result-folder.ts';
import { PROJECT_ROOT } from '../project.ts';

/** A bench, and about how long it takes on two quiet cores, s: the long form and the one with --quick. */
export interface Rq3Bench {
  readonly name: string;
  readonly seconds: number;
  readonly quickSeconds: number;
}

/** What they measure: accuracy, recovery, inference time, age of the metrics, decision time. */
export const RQ3_BENCHES: readonly Rq3Bench[] = [
  { name: 'model-accuracy', seconds: 900, quickSeconds: 60 }, { name: 'model-recovery', seconds: 120, quickSeconds: 30 },
  { name: 'inference', seconds: 90, quickSeconds: 30 }, { name: 'metrics-lag', seconds: 40, quickSeconds: 15 }, { name: 'decision', seconds: 60, quickSeconds: 25 },
];

/** A machine that is busy, or slower, gets so many times as long as a quiet one needs, and this long at the least. */
const PATIENCE = 6, LEAST_TIMEOUT_MS = 15 * 60_000;
/** From the request to end until it is killed. */
const GRACE_MS = 10_000;
/** Lines of standard error that are kept for the message, and characters of standard output that a report may have. */
const KEPT_LINES = 5, MOST_REPORT = 16 * 1024 ** 2;

const figureSchema = z.object({ name: z.string(), unit: z.string(), value: z.number() });
const reportSchema = z.object({ figures: z.array(figureSchema) });
const keptSchema = z.object({ quick: z.boolean(), seed: z.number(), report: reportSchema });

/** Options of {@link runRq3Benches}. */
export interface Rq3Options {
  /** Those that are wanted. @default all */
  readonly benches?: readonly Rq3Bench[];
  readonly quick: boolean;
  readonly seed: number;
  /** Keeps their reports; their plots go to `rq3/<bench>` in it. */
  readonly folder: ResultFolder;
  /** No further one is begun once it says so. */
  readonly isOver: () => boolean;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
  /** Program of the benches. @default bench/main.ts of the project */
  readonly program?: string;
}

/** A bench that gave no report. */
export interface FailedBench {
  readonly name: string;
  /** One sentence. */
  readonly problem: string;
}

/** What came of them. */
export interface Rq3Result {
  /** Called `<bench>_<figure>`. */
  readonly figures: readonly NamedFigure[];
  readonly failed: readonly FailedBench[];
}

/** Name of the report of a bench in the folder of the evaluation. */
const fileOf = (name: string): string => `rq3-${name}.json`;

/** Runs those that are not in the folder, one after the other. Where the benches are not shipped (an installed package) there are none, and that is said. CANCELLED when the signal aborts. */
export async function runRq3Benches(options: Rq3Options): Promise<Rq3Result> {
  const { benches = RQ3_BENCHES, quick, seed, folder, isOver, signal, progress, program = join(PROJECT_ROOT, 'bench', 'main.ts') } = options;
  const { figures, missing } = await readRq3Benches(options);
  const failed: FailedBench[] = [];
  if (missing.length > 0 && !existsSync(program)) {
    progress('RQ3: the benches are not part of an installed Metronome; run this in a checkout.');
    return { figures, failed };
  }
  const secondsOf = (bench: Rq3Bench): number => (quick ? bench.quickSeconds : bench.seconds);
  for (const [i, bench] of missing.entries()) {
    const { name } = bench;
    const place = `RQ3 [${benches.length - missing.length + i + 1}/${benches.length}]`;
    if (isOver()) {
      failed.push({ name, problem: 'It was not begun: the time was over.' });
      continue;
    }
    const restS = missing.slice(i).reduce((sum, each) => sum + secondsOf(each), 0);
    progress(`${place} bench ${name}: about ${formatMs(1_000 * secondsOf(bench))} on a quiet machine${i + 1 < missing.length ? `, ${formatMs(1_000 * restS)} with those after it` : ''}`);
    const begunAtMs = performance.now();
    try {
      const timeoutMs = Math.max(LEAST_TIMEOUT_MS, PATIENCE * 1_000 * secondsOf(bench));
      const args = [program, name, '--json', '--seed', String(seed), '--out', join(folder.path, 'rq3', name), ...(quick ? ['--quick'] : [])];
      const text = await run(args, timeoutMs, signal, (line) => progress(`  ${line}`));
      const report: unknown = parseJson(text);
      const parsed = reportSchema.safeParse(report);
      if (!parsed.success) throw new MetronomeError('INTERNAL', 'What it printed is no report.');
      await folder.write(fileOf(name), `${JSON.stringify({ quick, seed, report })}\n`);
      figures.push(...named(name, parsed.data.figures));
      progress(`${place} bench ${name}: ${parsed.data.figures.length} figures in ${formatMs(performance.now() - begunAtMs)}`);
    } catch (error) {
      if (signal.aborted) throw new MetronomeError('CANCELLED', 'The benches were stopped.', { cause: error });
      const problem = MetronomeError.from(error).message;
      failed.push({ name, problem });
      progress(`${place} bench ${name} FAILED after ${formatMs(performance.now() - begunAtMs)}: ${problem}`);
    }
  }
  return { figures, failed };
}

/** What is in the folder, and which benches are not: their reports are not there, or are of another form or seed. */
export async function readRq3Benches({ benches = RQ3_BENCHES, quick, seed, folder }: Pick<Rq3Options, 'benches' | 'quick' | 'seed' | 'folder'>): Promise<{ readonly figures: NamedFigure[]; readonly missing: readonly Rq3Bench[] }> {
  const figures: NamedFigure[] = [];
  const missing: Rq3Bench[] = [];
  for (const bench of benches) {
    const kept = keptSchema.safeParse(parseJson((await folder.read(fileOf(bench.name))) ?? '')).data;
    if (kept !== undefined && kept.quick === quick && kept.seed === seed) figures.push(...named(bench.name, kept.report.figures));
    else missing.push(bench);
  }
  return { figures, missing };
}

/** Plots that benches left in the folder, relative to it. */
export async function rq3Plots({ benches = RQ3_BENCHES, folder }: Pick<Rq3Options, 'benches' | 'folder'>): Promise<string[]> {
  const found: string[] = [];
  for (const { name } of benches) {
    const files = await readdir(join(folder.path, 'rq3', name)).catch(() => []); // it draws none, or did not run
    found.push(...files.filter((file) => file.endsWith('.svg')).sort().map((file) => `rq3/${name}/${file}`));
  }
  return found;
}

function named(bench: string, figures: readonly NamedFigure[]): NamedFigure[] {
  return figures.map((figure) => ({ ...figure, name: `${bench}_${figure.name}` }));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // no report: the schema says so
  }
}

/** Runs a bench to its end; resolves with its standard output. */
function run(args: readonly string[], timeoutMs: number, signal: AbortSignal, onLine: (line: string) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: PROJECT_ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    const lines: string[] = [];
    let problem: MetronomeError | undefined;
    let killing: NodeJS.Timeout | undefined;
    // Asked to end first, so that it ends what it started itself.
    const stop = (why: MetronomeError): void => {
      problem ??= why;
      child.kill('SIGTERM');
      killing ??= setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
    };
    const timer = setTimeout(() => stop(new MetronomeError('DEADLINE_EXCEEDED', `It did not end within ${formatMs(timeoutMs)}.`)), timeoutMs);
    const onAbort = (): void => stop(new MetronomeError('CANCELLED', 'It was stopped.'));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (out.length + text.length > MOST_REPORT) stop(new MetronomeError('INTERNAL', `It printed more than ${MOST_REPORT} characters.`));
      else out += text;
    });
    createInterface({ input: child.stderr }).on('line', (line) => {
      lines.push(line);
      if (lines.length > KEPT_LINES) lines.shift();
      onLine(line);
    });
    const settle = (error: Error | undefined): void => {
      clearTimeout(timer);
      clearTimeout(killing);
      signal.removeEventListener('abort', onAbort);
      if (error === undefined) resolve(out);
      else reject(error);
    };
    child.once('error', (cause) => settle(new MetronomeError('INTERNAL', `It could not be started: ${cause.message}`, { cause })));
    child.once('close', (code, killedBy) => settle(problem ?? (code === 0 ? undefined : new MetronomeError('INTERNAL', `It ended with ${killedBy ?? `exit code ${code}`}: ${lines.join(' ').trim().slice(0, 1_000)}`))));
  });
}
