import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readRq3Benches, rq3Plots, runRq3Benches, type Rq3Bench, type Rq3Options } from '../../src/cli/evaluation/rq3-benches.ts';
import { openResultFolder } from '../../src/evaluation/result-folder.ts';

/** A program of benches: writes down how it was called, and does what the name of the bench says. */
const PROGRAM = `
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
const [name, ...flags] = process.argv.slice(2);
const out = flags[flags.indexOf('--out') + 1];
appendFileSync(new URL('calls', import.meta.url), [name, ...flags.filter((each) => each !== out)].join(' ') + '\\n');
console.error(name + ': half way');
if (name === 'breaks') { console.error('the disk is full'); process.exit(3); }
if (name === 'babbles') { console.log('no report'); process.exit(0); }
if (name === 'hangs') await new Promise((resolve) => setTimeout(resolve, 600_000));
mkdirSync(out, { recursive: true });
writeFileSync(out + '/figure-9.svg', '<svg/>');
writeFileSync(out + '/figure-9.png', '');
console.log(JSON.stringify({ figures: [{ name: 'p50', unit: 'ms', value: 7 }] }));
`;
const bench = (name: string): Rq3Bench => ({ name, seconds: 10, quickSeconds: 1 });

let dir: string;
let lines: string[];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-rq3-'));
  lines = [];
  await mkdir(join(dir, 'out'));
  await writeFile(join(dir, 'program.mjs'), PROGRAM);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function options(names: readonly string[], changes: Partial<Rq3Options> = {}): Promise<Rq3Options> {
  return { benches: names.map(bench), quick: true, seed: 5, folder: await openResultFolder(join(dir, 'out'), {}, true), isOver: () => false, signal: new AbortController().signal, progress: (line) => void lines.push(line), program: join(dir, 'program.mjs'), ...changes };
}
const calls = async (): Promise<string[]> => (await readFile(join(dir, 'calls'), 'utf8')).trim().split('\n');

it('a bench that fails is named, and the others run all the same', { timeout: 60_000 }, async () => {
  const { figures, failed } = await runRq3Benches(await options(['breaks', 'babbles', 'good']));
  expect(figures).toEqual([{ name: 'good_p50', unit: 'ms', value: 7 }]);
  expect(failed).toEqual([{ name: 'breaks', problem: 'It ended with exit code 3: breaks: half way the disk is full' }, { name: 'babbles', problem: 'What it printed is no report.' }]);
  expect(await calls()).toEqual(['breaks', 'babbles', 'good'].map((name) => `${name} --json --seed 5 --out --quick`));
  expect(lines[0]).toBe('RQ3 [1/3] bench breaks: about 1.00 s on a quiet machine, 3.00 s with those after it');
  expect(lines).toContain('  good: half way');
  expect(lines.at(-1)).toMatch(/^RQ3 \[3\/3\] bench good: 1 figures? in /);
  expect(await rq3Plots(await options(['good']))).toEqual(['rq3/good/figure-9.svg']);
});

it('a bench whose report is in the folder is not run again, unless another form or seed is asked for', { timeout: 60_000 }, async () => {
  await runRq3Benches(await options(['good']));
  const { figures, failed } = await runRq3Benches(await options(['good', 'fine']));
  expect(figures.map(({ name }) => name)).toEqual(['good_p50', 'fine_p50']);
  expect(failed).toEqual([]);
  expect((await calls()).map((call) => call.split(' ')[0])).toEqual(['good', 'fine']);
  expect((await readRq3Benches(await options(['good', 'fine']))).missing).toEqual([]);
  expect((await readRq3Benches(await options(['good'], { quick: false }))).missing).toHaveLength(1);
  expect((await readRq3Benches(await options(['good'], { seed: 6 }))).missing).toHaveLength(1);
});

it('is begun no more when the time is over, and says so of each', async () => {
  const { failed } = await runRq3Benches(await options(['good', 'fine'], { isOver: () => true }));
  expect(failed.map(({ name, problem }) => [name, problem])).toEqual([['good', 'It was not begun: the time was over.'], ['fine', 'It was not begun: the time was over.']]);
});

it('ends with the bench that runs when it is stopped, and keeps what ended before', { timeout: 60_000 }, async () => {
  const stopping = new AbortController();
  const running = runRq3Benches(await options(['good', 'hangs', 'fine'], {
    signal: stopping.signal,
    progress(line) {
      lines.push(line);
      if (line === '  hangs: half way') stopping.abort();
    },
  }));
  await expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
  expect((await calls()).map((call) => call.split(' ')[0])).toEqual(['good', 'hangs']);
  expect((await readRq3Benches(await options(['good', 'hangs', 'fine']))).missing.map(({ name }) => name)).toEqual(['hangs', 'fine']);
});
