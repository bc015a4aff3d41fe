import { describe, expect, it } from 'vitest';
import { machineCharts } from '../../src/inspect/charts.ts';
import { MACHINES } from '../../src/inspect/diagrams.ts';
import { outlineOf } from '../../src/inspect/mermaid.ts';

describe.each(machineCharts().map((chart) => ({ name: chart.name, chart })))('the chart of the $name machine', ({ name, chart }) => {
  const { states, edges } = outlineOf(MACHINES.find(({ machine }) => machine.id === name)!.machine);

  it('has every state and edge, in the order of the counts', () => {
    expect(chart.states.map((state) => state.name)).toEqual(states.map((state) => state.name));
    expect(chart.edges.map(({ from, to, event, guard }) => [from, to, event, guard])).toEqual(edges.map(({ from, to, event, guard }) => [from, to ?? from, event, guard]));
    expect(chart.states.filter(({ isInitial }) => isInitial)).toHaveLength(1);
  });

  it('draws within its own size, and no state over another', () => {
    for (const { x, y, width, height } of chart.states) {
      expect(x - width / 2).toBeGreaterThanOrEqual(0);
      expect(y - height / 2).toBeGreaterThanOrEqual(0);
      expect(x + width / 2).toBeLessThanOrEqual(chart.width);
      expect(y + height / 2).toBeLessThanOrEqual(chart.height);
    }
    for (const { points, label } of chart.edges) for (const [x, y] of [...points, label]) expect(x >= 0 && y >= 0 && x <= chart.width && y <= chart.height).toBe(true);
    for (const a of chart.states) for (const b of chart.states) if (a !== b) expect(Math.abs(a.x - b.x) >= (a.width + b.width) / 2 || Math.abs(a.y - b.y) >= (a.height + b.height) / 2, `${a.name} and ${b.name}`).toBe(true);
  });
});
