/** The line of an edge: a smooth curve through the points of the layout, as SVG path and as points at even distances. */
import type { ChartEdge, MachineChart } from '../../../src/inspect/page-api.ts';

/** The part of a chart that something stands in. */
export interface Frame {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const MARGIN = 12;

/** The smallest frame around all boxes, lines and labels of a chart. */
export function frameOf({ states, edges }: MachineChart): Frame {
  let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
  const hold = (x: number, y: number): void => {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  };
  for (const { x, y, width, height, isInitial } of states) {
    hold(x - width / 2 - (isInitial ? 14 : 0), y - height / 2);
    hold(x + width / 2, y + height / 2);
  }
  for (const { points, label } of edges) for (const [x, y] of [...points, label]) hold(x, y);
  return { x: left - MARGIN, y: top - MARGIN, width: right - left + 2 * MARGIN, height: bottom - top + 2 * MARGIN };
}

type Point = readonly [number, number];

/** Quadratic curves from middle to middle of the segments, so that the line has no corners and keeps near its points. */
export function pathOf(points: readonly Point[]): string {
  const [first, ...rest] = points;
  if (first === undefined) return '';
  let path = `M${first[0]} ${first[1]}`;
  for (let i = 0; i < rest.length; i++) {
    const [x, y] = rest[i] as Point; // i < length
    const after = rest[i + 1];
    path += after === undefined ? `L${x} ${y}` : `Q${x} ${y} ${(x + after[0]) / 2} ${(y + after[1]) / 2}`;
  }
  return path;
}

/** x and y of `count` points at even distances along the straight lines between the layout's points: near enough for moving dots. */
export function pointsAlong({ points }: ChartEdge, count: number): Float32Array {
  const out = new Float32Array(count * 2);
  const lengths = points.slice(1).map((point, i) => distance(points[i] ?? point, point));
  const whole = lengths.reduce((sum, each) => sum + each, 0);
  let segment = 0, passed = 0;
  for (let i = 0; i < count; i++) {
    const wanted = (whole * i) / (count - 1);
    while (segment < lengths.length - 1 && passed + (lengths[segment] ?? 0) < wanted) passed += lengths[segment++] ?? 0;
    const from = points[segment] ?? [0, 0], to = points[segment + 1] ?? from;
    const part = (lengths[segment] ?? 0) === 0 ? 0 : Math.min(1, (wanted - passed) / (lengths[segment] ?? 1));
    out[i * 2] = from[0] + (to[0] - from[0]) * part;
    out[i * 2 + 1] = from[1] + (to[1] - from[1]) * part;
  }
  return out;
}

function distance(a: Point, b: Point): number {
  return Math.hypot(b[0] - a[0], b[1] - a[1]);
}
