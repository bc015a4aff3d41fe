/** Plots as files: Observable Plot drawn without a browser, written as SVG and as PNG. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as Plot from '@observablehq/plot';
import { Resvg } from '@resvg/resvg-js';
import { parseHTML } from 'linkedom';

/** One line of a chart. */
export interface Series {
  readonly name: string;
  /** Points in the order in which they are joined. */
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** A chart of lines. */
export interface LineChart {
  readonly title: string;
  /** What a reader must know to believe it: where the data comes from, how many. */
  readonly caption: string;
  readonly x: { readonly label: string; readonly domain?: readonly [number, number]; readonly type?: 'linear' | 'log' };
  readonly y: { readonly label: string; readonly domain?: readonly [number, number]; readonly type?: 'linear' | 'log' };
  readonly series: readonly Series[];
  /** Horizontal lines, for example a bound to be kept. */
  readonly rules?: readonly number[];
}

/** Colours that people with any colour vision tell apart, in order of use (Okabe and Ito). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999'];
const FONT = 'DejaVu Sans, Liberation Sans, Helvetica, Arial, sans-serif';
const WIDTH = 760, HEIGHT = 460, LEFT = 64, RIGHT = 20, TOP = 100, BOTTOM = 48;
const LEGEND_COLUMNS = 4;

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** The chart as an SVG document of its own. */
export function drawLines(chart: LineChart): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const points = chart.series.flatMap(({ name, points: own }) => own.map(({ x, y }) => ({ x, y, name })));
  const names = chart.series.map(({ name }) => name);
  const plot = Plot.plot({
    document: document as never, // linkedom implements what Plot needs of it; the DOM types are not loaded here
    width: WIDTH, height: HEIGHT, marginLeft: LEFT, marginRight: RIGHT, marginTop: TOP, marginBottom: BOTTOM,
    style: { fontFamily: FONT, fontSize: '12px', background: '#ffffff' },
    x: { label: chart.x.label, grid: true, ...(chart.x.domain === undefined ? {} : { domain: [...chart.x.domain] }), type: chart.x.type ?? 'linear' },
    y: { label: null, grid: true, ...(chart.y.domain === undefined ? {} : { domain: [...chart.y.domain] }), type: chart.y.type ?? 'linear' },
    color: { domain: names, range: COLOURS.slice(0, Math.max(1, names.length)) },
    marks: [
      ...(chart.rules === undefined ? [] : [Plot.ruleY([...chart.rules], { stroke: '#777777', strokeDasharray: '4 3' })]),
      Plot.line(points, { x: 'x', y: 'y', stroke: 'name', strokeWidth: 1.8, clip: true }),
    ],
  });
  // Title, legend and the name of the y axis by hand: Plot would make HTML of them, and a file wants to be one SVG.
  const text = (x: number, y: number, content: string, style: string): string => `<text x="${x}" y="${y}" text-anchor="start" font-family="${FONT}" ${style}>${escape(content)}</text>`;
  const head = [
    text(LEFT, 20, chart.title, 'font-size="15" font-weight="bold" fill="#000000"'),
    text(LEFT, 37, chart.caption, 'font-size="11" fill="#555555"'),
    text(8, TOP - 8, chart.y.label, 'font-size="12" fill="#000000"'),
    ...names.map((name, i) => {
      const x = LEFT + (i % LEGEND_COLUMNS) * 170, y = 53 + Math.floor(i / LEGEND_COLUMNS) * 15;
      return `<rect x="${x}" y="${y - 5}" width="16" height="3" fill="${COLOURS[i % COLOURS.length]}"/>${text(x + 21, y, name, 'font-size="11" fill="#000000"')}`;
    }),
  ].join('');
  const svg = String((plot as unknown as { outerHTML: string }).outerHTML).replaceAll('&nbsp;', '&#160;').replaceAll(/plot-clip-\d+/g, 'plot-clip'); // a file knows no HTML entities, and its names need not differ from those of other plots
  const withSpace = svg.includes('xmlns=') ? svg : svg.replace('<svg', '<svg xmlns="http://www.w3.org/2000/svg"');
  return withSpace.replace(/<\/svg>\s*$/, `${head}</svg>`);
}

/** Writes `<name>.svg` and `<name>.png` into a folder, which is made. Returns both paths. */
export async function writePlot(folder: string, name: string, svg: string): Promise<readonly [string, string]> {
  await mkdir(folder, { recursive: true });
  const paths = [join(folder, `${name}.svg`), join(folder, `${name}.png`)] as const;
  await writeFile(paths[0], svg);
  const image = new Resvg(svg, { background: '#ffffff', fitTo: { mode: 'width', value: 2 * WIDTH }, font: { loadSystemFonts: true, defaultFontFamily: 'DejaVu Sans' } });
  await writeFile(paths[1], image.render().asPng());
  return paths;
}

/** Points of a cumulative distribution: share (0 to 1) of the values that are at most x. At most `most` points. */
export function cumulative(values: readonly number[], most = 400): { x: number; y: number }[] {
  const sorted = [...values].sort((a, b) => a - b);
  const step = Math.max(1, Math.floor(sorted.length / most));
  const points: { x: number; y: number }[] = [];
  for (let i = 0; i < sorted.length; i += step) points.push({ x: sorted[i] as number, y: (i + 1) / sorted.length });
  const last = sorted.at(-1);
  if (last !== undefined && points.at(-1)?.y !== 1) points.push({ x: last, y: 1 });
  return points;
}
