import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cumulative, drawLines, writePlot } from '../../src/report/plot.ts';

const CHART = { title: 'Errors < 5 %', caption: 'synthetic & labelled', x: { label: 'error, %', domain: [0, 2] as const }, y: { label: 'share' }, series: [{ name: 'ours', points: cumulative([1, 0.5, 2]) }, { name: 'floor', points: cumulative([0.1, 0.2]) }], rules: [0.5] };

describe('a plot', () => {
  it('is one SVG with title, caption, a legend and a line per series', () => {
    const svg = drawLines(CHART);
    expect(svg).toMatch(/^<svg[^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    for (const text of ['Errors &lt; 5 %', 'synthetic &amp; labelled', 'ours', 'floor', 'error, %', 'share']) expect(svg).toContain(text);
    expect(svg.match(/<path[^>]* d="M/g)?.length ?? 0).toBeGreaterThanOrEqual(2);
    expect(svg).not.toContain('NaN');
  });

  it('is written as SVG and PNG into a folder that is made', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'metronome-plot-'));
    try {
      const [svg, png] = await writePlot(join(folder, 'figures'), 'errors', drawLines(CHART));
      expect(await readFile(svg, 'utf8')).toBe(drawLines(CHART));
      expect((await readFile(png)).subarray(1, 4).toString()).toBe('PNG');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('a cumulative distribution', () => {
  it('ends at its greatest value and one, however many points are left out', () => {
    expect(cumulative([3, 1, 2])).toEqual([{ x: 1, y: 1 / 3 }, { x: 2, y: 2 / 3 }, { x: 3, y: 1 }]);
    const many = cumulative(Array.from({ length: 10_001 }, (_, i) => i), 100);
    expect(many.length).toBeLessThanOrEqual(103);
    expect(many.at(-1)).toEqual({ x: 10_000, y: 1 });
    expect(cumulative([])).toEqual([]);
  });
});
