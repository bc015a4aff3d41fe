/** The benches behind research question 3 (figures 7 to 9), run as programs of their own: the product does not import them, and their timings want a process for themselves. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { MetronomeError } from '../../core/errors.ts';
import type { NamedFigure } from '../../evaluation/deviation.ts';
import { PROJECT_ROOT } from '../project.ts';

/** What they measure: accuracy, recovery, inference time, age of the metrics, decision time. */
export const RQ3_BENCHES = ['model-accuracy', 'model-recovery', 'inference', 'metrics-lag', 'decision'] as const;

const reportSchema = z.object({ figures: z.array(z.object({ name: z.string(), unit: z.string(), value: z.number() })) });
const TIMEOUT_MS = 10 * 60_000;

/** Options of {@link runRq3Benches}. */
export interface Rq3Options {
  readonly quick: boolean;
  readonly seed: number;
  /** Folder for their plots. */
  readonly out: string;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

/** Runs them one after the other. Figures are called `<bench>_<figure>`. Where the benches are not shipped (an installed package) there are none, and that is said. */
export async function runRq3Benches({ quick, seed, out, signal, progress }: Rq3Options): Promise<NamedFigure[]> {
  const main = join(PROJECT_ROOT, 'bench', 'main.ts');
  if (!existsSync(main)) {
    progress('RQ3: the benches are not part of an installed Metronome; run this in a checkout.');
    return [];
  }
  const figures: NamedFigure[] = [];
  for (const name of RQ3_BENCHES) {
    progress(`RQ3: bench ${name}`);
    const text = await run([main, name, '--json', '--seed', String(seed), '--out', join(out, name), ...(quick ? ['--quick'] : [])], signal);
    const { figures: own } = reportSchema.parse(JSON.parse(text));
    figures.push(...own.map((figure) => ({ ...figure, name: `${name}_${figure.name}` })));
  }
  return figures;
}

function run(args: readonly string[], signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { cwd: PROJECT_ROOT, signal, timeout: TIMEOUT_MS, maxBuffer: 16 * 1024 ** 2 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (signal.aborted) reject(new MetronomeError('CANCELLED', 'The benches were stopped.', { cause: error }));
      else reject(new MetronomeError('INTERNAL', `The bench ${args[1] ?? ''} failed: ${stderr.trim().split('\n').slice(-5).join('\n')}`, { cause: error }));
    });
  });
}
