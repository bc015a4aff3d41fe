/** Lines over time or over a scale, drawn by uPlot on a canvas, with a legend in text and the newest numbers as a table behind it. */
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { colour, theme } from '../theme.ts';

export interface Line {
  readonly label: string;
  /** A colour of the style sheet. */
  readonly colour: string;
  readonly values: readonly (number | null)[];
  readonly isDashed?: boolean;
}

export interface LineChartProps {
  readonly title: string;
  readonly x: readonly (number | null)[];
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  /** Redraws when it changes. */
  readonly version: number;
  /** Instead of time of day. */
  readonly xScale?: 'ms';
  readonly yMax?: number;
  readonly empty?: string;
  readonly note?: string;
  readonly height?: number;
}

const HEIGHT = 150;
/** Rows of the table behind a chart. */
const TABLE_ROWS = 12;

export function LineChart({ title, x, lines, format, version, xScale, yMax, empty = 'Nothing yet.', note, height = HEIGHT }: LineChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const isEmpty = x.length < 2;
  const shape = `${theme()} ${lines.map(({ label, colour: name }) => `${label}:${name}`).join()} ${xScale ?? ''}`;
  const data = [x, ...lines.map(({ values }) => values)] as unknown as uPlot.AlignedData; // uPlot reads them only
  useLayoutEffect(() => {
    const at = place.current;
    if (at === null || isEmpty) return undefined;
    const soft = colour('soft'), grid = colour('grid');
    const font = '11px system-ui, sans-serif';
    const axis = { stroke: soft, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const made = new uPlot({
      width: Math.max(200, at.clientWidth), height, legend: { show: false }, cursor: { y: false, points: { size: 5 } }, padding: [8, 26, 0, 0],
      scales: { x: xScale === 'ms' ? { time: false, distr: 3 } : { time: true }, y: { range: (_plot, _least, most) => [0, yMax ?? (most > 0 ? most * 1.08 : 1)] } },
      axes: [
        { ...axis, size: 24, space: xScale === 'ms' ? 40 : 72, ...(xScale === 'ms' ? { filter: (_plot: uPlot, ticks: number[]) => ticks.map((tick) => (/^(?:0\.0*)?[125]0*$/.test(String(tick)) ? tick : null)), values: (_plot: uPlot, ticks: (number | null)[]) => ticks.map((tick) => (tick === null ? '' : shortMs(tick))) } : { values: (_plot: uPlot, ticks: number[]) => ticks.map(timeOfDay) }) },
        { ...axis, size: 54, values: (_plot: uPlot, ticks: number[]) => ticks.map((tick) => format(tick)) },
      ],
      series: [{}, ...lines.map(({ label, colour: name, isDashed }) => ({ label, stroke: colour(name), width: 1.75, points: { show: false }, ...(isDashed === true ? { dash: [5, 4] } : {}) }))],
    }, data, at);
    plot.current = made;
    const watch = new ResizeObserver(() => {
      if (at.clientWidth > 0 && at.clientWidth !== made.width) made.setSize({ width: at.clientWidth, height });
    });
    watch.observe(at);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape, isEmpty, height]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [version, shape]);
  const newest = (values: readonly (number | null)[]): string => {
    const value = values.findLast((each) => each !== null);
    return value === undefined || value === null ? '–' : format(value);
  };
  return (
    <figure class="chart">
      <figcaption><h3>{title}</h3>
        <ul class="legend">{lines.map(({ label, colour: name, values, isDashed }) => <li key={label}><i class={isDashed === true ? 'is-dashed' : ''} style={{ '--line-colour': `var(--${name})` }} />{label}{xScale === undefined && <b>{newest(values)}</b>}</li>)}</ul>
      </figcaption>
      {isEmpty ? <p class="chart-empty" style={{ height: `${height}px` }}>{empty}</p> : <div ref={place} role="img" aria-label={`${title}: ${lines.map(({ label, values }) => `${label} ${newest(values)}`).join(', ')}`} style={{ height: `${height}px` }} />}
      {note !== undefined && <p class="note">{note}</p>}
      {!isEmpty && <NumbersBehind title={title} x={x} lines={lines} format={format} isMs={xScale === 'ms'} />}
    </figure>
  );
}

function NumbersBehind({ title, x, lines, format, isMs }: { readonly title: string; readonly x: readonly (number | null)[]; readonly lines: readonly Line[]; readonly format: (value: number) => string; readonly isMs: boolean }) {
  const step = isMs ? Math.max(1, Math.floor(x.length / TABLE_ROWS)) : 1;
  const at = x.map((_, i) => i).filter((i) => i % step === 0).slice(-TABLE_ROWS);
  return (
    <details>
      <summary>Numbers<span class="unseen"> of {title}</span></summary>
      <div class="scrolls" tabIndex={0} role="group" aria-label={`Numbers of ${title}`}>
        <table>
          <thead><tr><th scope="col">{isMs ? 'ms' : 'time'}</th>{lines.map(({ label }) => <th scope="col" key={label}>{label}</th>)}</tr></thead>
          <tbody>{at.map((i) => <tr key={i}><th scope="row">{isMs ? (x[i] ?? 0).toFixed(1) : timeOfDay(x[i] ?? 0)}</th>{lines.map(({ label, values }) => <td key={label}>{values[i] === null || values[i] === undefined ? '–' : format(values[i])}</td>)}</tr>)}</tbody>
        </table>
      </div>
    </details>
  );
}

function timeOfDay(atS: number): string {
  const at = new Date(atS * 1_000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
}

function shortMs(value: number): string {
  return value >= 1_000 ? `${value / 1_000} s` : `${value} ms`;
}
