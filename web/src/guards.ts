/** Which guards let a transition happen, read from the chart: edges stand in the order in which they are tried. */
import type { MachineChart } from '../../src/inspect/page-api.ts';

/** In their order, "!" before those that said no; none when the chart does not know the transition. */
export function guardsOf({ edges }: MachineChart, { from, to, event }: { readonly from: string; readonly to: string; readonly event: string }): string[] {
  const tried: string[] = [];
  for (const edge of edges) {
    if (edge.from !== from || edge.event !== event) continue;
    if (edge.to === to) return edge.guard === '' ? tried : [...tried, edge.guard];
    if (edge.guard !== '') tried.push(`!${edge.guard}`);
  }
  return [];
}
