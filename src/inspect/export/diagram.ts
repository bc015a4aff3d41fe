/** The invocation machine with how often each edge was taken in an excerpt: Mermaid and DOT. For one invocation, its path. */
import type { AnyStateMachine } from 'xstate';
import { outlineOf, type MachineEdge } from '../mermaid.ts';
import type { Excerpt } from './excerpt.ts';

interface CountedEdge extends MachineEdge {
  readonly to: string;
  readonly count: number;
}

/** Edges with counts. An excerpt knows source, event and target; that names one edge of the invocation machine. */
function countedEdges(machine: AnyStateMachine, { transitions }: Excerpt): CountedEdge[] {
  const counts = new Map<string, number>();
  for (const { from, to, event } of transitions) {
    const key = `${from} ${event} ${to}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return outlineOf(machine).edges.map((edge) => ({ ...edge, to: edge.to ?? edge.from, count: counts.get(`${edge.from} ${edge.event} ${edge.to ?? edge.from}`) ?? 0 }));
}

function labelOf({ event, guard, count }: CountedEdge): string {
  return `${event}${guard === '' ? '' : ` [${guard}]`} ${count}×`;
}

/** A stateDiagram-v2 of the states and edges that were used. */
export function excerptMermaid(machine: AnyStateMachine, excerpt: Excerpt): string {
  const { initial, states } = outlineOf(machine);
  const edges = countedEdges(machine, excerpt).filter(({ count }) => count > 0);
  const used = new Set(edges.flatMap(({ from, to }) => [from, to]));
  const lines = [`---`, `title: ${plain(excerpt.title)}`, `---`, 'stateDiagram-v2'];
  if (used.has(initial)) lines.push(`  [*] --> ${initial}`);
  for (const edge of edges) lines.push(`  ${edge.from} --> ${edge.to} : ${labelOf(edge)}`);
  for (const { name, isFinal } of states) if (isFinal && used.has(name)) lines.push(`  ${name} --> [*]`);
  return `${lines.join('\n')}\n`;
}

/** A digraph for Graphviz: all states, the edges that were used as thick as they were used often. */
export function excerptDot(machine: AnyStateMachine, excerpt: Excerpt): string {
  const { states, id } = outlineOf(machine);
  const edges = countedEdges(machine, excerpt).filter(({ count }) => count > 0);
  const most = Math.max(1, ...edges.map(({ count }) => count));
  const quoted = (text: string): string => `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', ' ')}"`;
  return [
    `digraph ${quoted(id)} {`,
    `  label=${quoted(excerpt.title)}; rankdir=LR; node [shape=box, style=rounded, fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];`,
    ...states.map(({ name, isFinal }) => `  ${quoted(name)}${isFinal ? ' [peripheries=2]' : ''};`),
    ...edges.map((edge) => `  ${quoted(edge.from)} -> ${quoted(edge.to)} [label=${quoted(labelOf(edge))}, penwidth=${(1 + (4 * edge.count) / most).toFixed(2)}];`),
    '}',
  ].join('\n') + '\n';
}

function plain(text: string): string {
  return text.replaceAll(/[\n:;"]/g, ' ').trim();
}
