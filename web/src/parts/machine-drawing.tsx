/** A machine as a chart: states with how many are in them, edges as wide as what flows over them, and the path of one invocation lit up. */
import type { ChartEdge, ChartState, MachineChart } from '../../../src/inspect/page-api.ts';
import { count, perSecond, spaced } from '../words.ts';
import { frameOf, pathOf } from './edge-path.ts';
import { FlowDots } from './flow-dots.tsx';
import { stateColour } from './state-badge.tsx';

export interface MachineDrawingProps {
  readonly chart: MachineChart;
  readonly counts: readonly number[];
  /** Taken since the start, by edge. */
  readonly flow: readonly number[];
  /** Per second, by edge. */
  readonly rates: Float64Array | undefined;
  readonly selected: string;
  readonly linkOf: ((state: string) => string) | undefined;
  /** Edges of the invocation that is followed, with the numbers of its steps; undefined: none is. */
  readonly path: ReadonlyMap<number, readonly number[]> | undefined;
  readonly pathStates: ReadonlySet<string>;
  readonly hasDots: boolean;
}

const MAX_WIDTH = 9;

/** Width of an edge's line: 1 for nothing, growing with the logarithm of the rate. */
function widthOf(rate: number): number {
  return rate <= 0 ? 1 : Math.min(MAX_WIDTH, 1.4 + Math.log2(1 + rate) * 0.62);
}

export function MachineDrawing({ chart, counts, flow, rates, selected, linkOf, path, pathStates, hasDots }: MachineDrawingProps) {
  const frame = frameOf(chart);
  return (
    <div class={`machine${path === undefined ? '' : ' has-path'}`} {...(linkOf === undefined ? { tabIndex: 0, role: 'group' as const, 'aria-label': 'Chart, scrolls where it is wider than the page' } : {})} style={{ '--wide': frame.width, '--high': frame.height }}>
      <div class="machine-inner">
        <svg viewBox={`${frame.x} ${frame.y} ${frame.width} ${frame.height}`} role="group" aria-label={`Chart of the ${chart.name} machine`}>
          <defs>
            <marker id={`tip-${chart.name}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 8 4 0 7.5z" class="tip" /></marker>
            <marker id={`tip-lit-${chart.name}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="10" markerHeight="10" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 8 4 0 7.5z" class="tip is-lit" /></marker>
          </defs>
          <g aria-hidden="true">
            {chart.edges.map((edge, i) => <EdgeLine key={i} edge={edge} machine={chart.name} taken={flow[i] ?? 0} rate={rates?.[i] ?? 0} steps={path?.get(i)} />)}
          </g>
          <g aria-hidden="true">
            {chart.edges.map((edge, i) => <EdgeLabel key={i} edge={edge} taken={flow[i] ?? 0} rate={rates?.[i] ?? 0} steps={path?.get(i)} />)}
          </g>
          {chart.states.map((state, i) => <StateBox key={state.name} state={state} inIt={counts[i] ?? 0} isSelected={state.name === selected} isLit={pathStates.has(state.name)} href={linkOf?.(state.name)} />)}
        </svg>
        {hasDots && path === undefined && <FlowDots chart={chart} />}
      </div>
    </div>
  );
}

function EdgeLine({ edge, machine, taken, rate, steps }: { readonly edge: ChartEdge; readonly machine: string; readonly taken: number; readonly rate: number; readonly steps: readonly number[] | undefined }) {
  const kind = steps !== undefined ? 'is-lit' : rate > 0 ? 'is-flowing' : taken > 0 ? 'is-taken' : '';
  return <path d={pathOf(edge.points)} class={`edge ${kind}`} style={{ 'stroke-width': steps !== undefined ? 3.5 : widthOf(rate), '--edge': `var(--${stateColour(edge.to)})` }} marker-end={`url(#tip-${steps !== undefined ? 'lit-' : ''}${machine})`} />;
}

function EdgeLabel({ edge, taken, rate, steps }: { readonly edge: ChartEdge; readonly taken: number; readonly rate: number; readonly steps: readonly number[] | undefined }) {
  const [x, y] = edge.label;
  const kind = steps !== undefined ? 'is-lit' : rate > 0 ? 'is-flowing' : taken > 0 ? 'is-taken' : '';
  const said = steps !== undefined ? `${steps.slice(0, 4).join(', ')}${steps.length > 4 ? ' …' : ''}` : rate > 0 ? perSecond(rate) : taken > 0 ? count(taken) : '';
  return (
    <text x={x} y={steps !== undefined || rate > 0 ? y - 6 - widthOf(rate) / 2 : y} class={`edge-label ${kind}`}>
      <title>{`${edge.from} → ${edge.to}: ${edge.event}${edge.guard === '' ? '' : ` [${edge.guard}]`}, taken ${count(taken)} times`}</title>
      <tspan>{edge.event.toLowerCase().replaceAll('_', ' ')}</tspan>{said !== '' && <tspan class="edge-number" dx="5">{said}</tspan>}
    </text>
  );
}

function StateBox({ state, inIt, isSelected, isLit, href }: { readonly state: ChartState; readonly inIt: number; readonly isSelected: boolean; readonly isLit: boolean; readonly href: string | undefined }) {
  const { x, y, width, height } = state;
  const drawing = (
    <g class={`state${isSelected ? ' is-selected' : ''}${isLit ? ' is-lit' : ''}${inIt > 0 ? ' is-busy' : ''}`} style={{ '--edge': `var(--${stateColour(state.name)})` }}>
      <rect x={x - width / 2} y={y - height / 2} width={width} height={height} rx={state.isFinal ? height / 2 : 7} class="state-box" />
      {state.isInitial && <circle cx={x - width / 2 - 9} cy={y} r="4" class="state-start" />}
      <text x={x} y={y - 3} class="state-name">{spaced(state.name)}</text>{' '}
      <text x={x} y={y + 14} class="state-count">{count(inIt)}</text>
    </g>
  );
  const name = `${spaced(state.name)} ${count(inIt)}`;
  return (
    <g>
      <title>{`${state.description}${state.isFinal ? ' Counted since the start.' : ''}`}</title>
      {href === undefined ? <g role="img" aria-label={name}>{drawing}</g> : <a href={href} aria-label={`${name}, show who is in it`} {...(isSelected ? { 'aria-current': 'true' as const } : {})}>{drawing}</a>}
    </g>
  );
}
