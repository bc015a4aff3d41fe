/** The machines as charts: every state and edge with its place, laid out once by dagre, so that pages only draw. */
import { Graph, layout } from '@dagrejs/dagre';
import { MACHINES } from './diagrams.ts';
import { outlineOf } from './mermaid.ts';
import type { ChartEdge, MachineChart } from './page-api.ts';

/** Sizes in the units of the chart; pages scale. */
const STATE_HEIGHT = 44;
const CHARACTER = 8;
const LABEL_HEIGHT = 14;
const LABEL_CHARACTER = 6;
const LABEL_MAX = 150;

let made: readonly MachineChart[] | undefined;

/** All charts. The first call computes them, some tens of ms. */
export function machineCharts(): readonly MachineChart[] {
  made ??= MACHINES.map(({ machine, summary }) => chartOf(outlineOf(machine), summary));
  return made;
}

function chartOf({ id, initial, states, edges }: ReturnType<typeof outlineOf>, summary: string): MachineChart {
  const graph = new Graph({ directed: true, multigraph: true });
  graph.setGraph({ rankdir: 'LR', nodesep: 26, edgesep: 12, ranksep: 26, marginx: 16, marginy: 64 });
  for (const { name } of states) graph.setNode(name, { width: Math.max(96, name.length * CHARACTER + 56), height: STATE_HEIGHT });
  edges.forEach(({ from, to, event, guard }, number) => {
    if (to === undefined || to === from) return; // drawn beside its state
    const width = Math.min(LABEL_MAX, (event.length + (guard === '' ? 0 : guard.length + 3)) * LABEL_CHARACTER);
    graph.setEdge(from, to, { width, height: LABEL_HEIGHT, labelpos: 'c' }, String(number));
  });
  layout(graph);
  const round = (value: number | undefined): number => Math.round((value ?? 0) * 10) / 10;
  const loops = new Map<string, number>();
  const drawn = edges.map(({ from, to, event, guard }, number): ChartEdge => {
    if (to === undefined || to === from) {
      const place = loops.get(from) ?? 0;
      loops.set(from, place + 1);
      return { from, to: from, event, guard, ...loopAt(graph.node(from), place) };
    }
    const { points = [], x, y }: { points?: { x: number; y: number }[]; x?: number; y?: number } = graph.edge({ v: from, w: to, name: String(number) });
    return { from, to, event, guard, points: points.map((point) => [round(point.x), round(point.y)] as const), label: [round(x ?? points[points.length >> 1]?.x), round(y ?? points[points.length >> 1]?.y)] };
  });
  const { width, height }: { width?: number; height?: number } = graph.graph();
  return {
    name: id,
    summary,
    states: states.map(({ name, description, isFinal }) => {
      const box: { x?: number; y?: number; width?: number; height?: number } = graph.node(name);
      return { name, isInitial: name === initial, isFinal, description, x: round(box.x), y: round(box.y), width: round(box.width), height: round(box.height) };
    }),
    edges: drawn,
    width: Math.ceil(width ?? 0),
    height: Math.ceil(height ?? 0),
  };
}

/** A transition that stays in its state: an arch over the box, each further one higher. */
function loopAt({ x = 0, y = 0, height = 0 }: { x?: number; y?: number; height?: number }, place: number): Pick<ChartEdge, 'points' | 'label'> {
  const top = y - height / 2, rise = 18 + place * 16, half = 14 + place * 8;
  return { points: [[x - half, top], [x - half, top - rise], [x + half, top - rise], [x + half, top]], label: [x, top - rise] };
}
