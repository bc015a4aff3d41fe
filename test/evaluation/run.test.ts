import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Load } from '../../src/evaluation/backend.ts';
import { planCells, type Cell } from '../../src/evaluation/plan.ts';
import { openResultFolder } from '../../src/evaluation/result-folder.ts';
import { runCells } from '../../src/evaluation/run-cells.ts';
import { writeReport } from '../../src/evaluation/report.ts';
import { SMALL_PLAN, fakeBackend } from './records.ts';

const ASKED = { executions: 4, seeds: [1, 2] };
const CELLS = planCells(SMALL_PLAN);
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-evaluation-test-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function run(cells: readonly Cell[], backend = fakeBackend(), resume = false, lines: string[] = []): Promise<void> {
  const folder = await openResultFolder(dir, ASKED, resume);
  await runCells({ cells, folder, backend, slots: 10, nowMs: () => 0, signal: new AbortController().signal, progress: (line) => lines.push(line) });
}

describe('running the cells', () => {
  it('gives every cell but the first the latency target of its application: 1.2 times the P99 of the reference', async () => {
    const seen: [string, Load][] = [];
    await run(CELLS, fakeBackend((cell, load) => seen.push([cell.purpose, load])));
    expect(seen[0]).toEqual(['sla', {}]);
    // Three executions of 100, 110 and 120 ms: P99 is 119.8.
    for (const [, load] of seen.slice(1)) expect(load).toEqual({ slaMs: Math.ceil(1.2 * 119.8) });
    expect(seen).toHaveLength(CELLS.length);
  });

  it('gives an open loop the rate that keeps 70 % of the slots busy', async () => {
    const cells = planCells({ ...SMALL_PLAN, concurrency: { video: 0, log: 0, document: 0, inference: 0 } });
    const rates = new Set<number | undefined>();
    await run(cells, fakeBackend(({ purpose }, { ratePerS }) => void (purpose === 'compare' && rates.add(ratePerS))));
    // Executions run for 10 ms; 7 of 10 slots are busy with 700 of them per second.
    expect([...rates]).toEqual([700]);
  });

  it('goes on where it was killed: what ended is not run again, and half a cell does not count', async () => {
    await run(CELLS.slice(0, 4));
    const recordsFile = join(dir, 'records.jsonl');
    // Killed while it wrote the records of the fifth cell, and the line of the fourth is cut off.
    await appendFile(recordsFile, '{"application":"log","variant":"round');
    const cellsFile = join(dir, 'cells.jsonl');
    await truncate(cellsFile, (await readFile(cellsFile)).length - 20);
    const again: string[] = [], lines: string[] = [];
    await run(CELLS, fakeBackend(({ id }) => again.push(id)), true, lines);
    expect(again).toEqual(CELLS.slice(3).map(({ id }) => id));
    expect(lines[0]).toBe(`3 of ${CELLS.length} cells are there already`);
    expect(lines.at(-1)).toMatch(new RegExp(`^\\[${CELLS.length}/${CELLS.length}\\].*about 0`));
    const folder = await openResultFolder(dir, ASKED, true);
    expect(folder.ended.size).toBe(CELLS.length);
    for (const cell of CELLS) expect(folder.ended.get(cell.id)?.records.map(({ index }) => index), cell.id).toEqual(Array.from({ length: cell.executions }, (_, i) => i));
  });

  it('refuses a folder that is taken, and one that holds something else', async () => {
    await run(CELLS.slice(0, 1));
    await expect(openResultFolder(dir, ASKED, false)).rejects.toThrow('holds an evaluation already. Go on with it: --resume');
    await expect(openResultFolder(dir, { ...ASKED, executions: 5 }, true)).rejects.toThrow('with other options (executions)');
    await writeFile(join(dir, 'run.json'), 'no');
    await expect(openResultFolder(dir, ASKED, true)).rejects.toThrow('is not the description of an evaluation');
  });

  it('writes one cell at a time although several run at once', async () => {
    await run(CELLS, fakeBackend(undefined, 4));
    const folder = await openResultFolder(dir, ASKED, true);
    expect(folder.ended.size).toBe(CELLS.length);
  });

  it('begins no further cell when the time is over, and says how many are left', async () => {
    const folder = await openResultFolder(dir, ASKED, false);
    const seen: string[] = [];
    const left = await runCells({ cells: CELLS, folder, backend: fakeBackend(({ id }) => seen.push(id)), slots: 10, nowMs: () => 0, isOver: () => seen.length >= 3, signal: new AbortController().signal, progress: () => {} });
    expect(seen).toEqual(CELLS.slice(0, 3).map(({ id }) => id));
    expect(left).toBe(CELLS.length - 3);
    expect(folder.ended.size).toBe(3);
  });

  it('says that there is no latency target when nothing succeeded', async () => {
    const backend = fakeBackend();
    const failing = { ...backend, run: async (...args: Parameters<typeof backend.run>) => ({ ...(await backend.run(...args)), records: [] }) };
    await expect(run(CELLS, failing)).rejects.toThrow('No execution of log succeeded alone');
  });
});

describe('the report', () => {
  it('holds tables, plots, raw data and the deviations', async () => {
    await run(CELLS);
    const folder = await openResultFolder(dir, ASKED, true);
    const { files, summaries } = await writeReport({ folder, cells: CELLS, variants: SMALL_PLAN.variants, isSimulated: true, description: 'nothing at all', parameters: {}, command: 'metronome bench paper', figures: [{ name: 'decision_decision_10_p95', unit: 'µs', value: 12 }] });
    expect(summaries.map(({ variant, n }) => [variant, n])).toEqual([['round-robin', 8], ['metronome', 8]]);
    expect(files).toEqual(expect.arrayContaining(['figures/figure-5-log.svg', 'figures/figure-5-log.png', 'figures/figure-6-log.svg', 'summary.csv', 'executions.csv', 'steps.csv', 'deviation.md', 'report.md', 'report.json']));
    const text = await readFile(join(dir, 'report.md'), 'utf8');
    expect(text).toContain('**SIMULATION**: nothing at all');
    expect(text).toContain(`${CELLS.length} of ${CELLS.length} cells.`);
    const deviation = await readFile(join(dir, 'deviation.md'), 'utf8');
    expect(deviation).toContain('| decision latency, P95 | 60 µs | 12 µs | reached |');
    expect(deviation).toContain('| log: mean of metronome below round-robin | yes | metronome 115 ms, round-robin 115 ms; not told apart |');
    const executions = (await readFile(join(dir, 'executions.csv'), 'utf8')).trim().split('\n');
    expect(executions).toHaveLength(1 + CELLS.reduce((sum, cell) => sum + cell.executions, 0));
  });

  it('names benches that gave nothing, shows the plots of the others, and needs no cells', async () => {
    const folder = await openResultFolder(dir, ASKED, false);
    await writeReport({ folder, cells: [], variants: [], isSimulated: false, description: 'nodes', parameters: {}, command: 'metronome bench paper --figure 9', figures: [['decision_decision_10_p50', 3], ['decision_decision_100_p50', 12], ['metrics-lag_state_age_p50', 6], ['metrics-lag_state_age_p95', 25]].map(([name, value]) => ({ name: String(name), unit: '', value: Number(value) })), benchPlots: ['rq3/decision/figure-9.svg'], failedBenches: [{ name: 'inference', problem: 'It did not end within 15m 0s.\nat x' }] });
    const text = await readFile(join(dir, 'report.md'), 'utf8');
    expect(text).toContain('Benches alone, no cells. Made by `metronome bench paper --figure 9`.');
    expect(text).toContain('- `inference`: It did not end within 15m 0s.\n');
    expect(text).toContain('![decision: figure-9](rq3/decision/figure-9.svg)');
    // Of inference there is nothing.
    expect(text.match(/figures\/figure-9-\w+\.svg/g)).toEqual(['figures/figure-9-decision.svg', 'figures/figure-9-lag.svg']);
    expect(text).not.toContain('## Conditions');
  });

  it('of an evaluation that is not whole says what is missing', async () => {
    await run(CELLS.slice(0, 4));
    const folder = await openResultFolder(dir, ASKED, true);
    await writeReport({ folder, cells: CELLS, variants: SMALL_PLAN.variants, isSimulated: false, description: 'nodes', parameters: {}, command: 'x', figures: [] });
    expect(await readFile(join(dir, 'report.md'), 'utf8')).toContain(`4 of ${CELLS.length} cells (**${CELLS.length - 4} are missing**`);
  });
});
