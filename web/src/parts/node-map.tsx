/** Nodes × slots as a heat map on a canvas: each column is a node, each cell a slot. The table below it says the same in words. */
import { useEffect, useRef } from 'preact/hooks';
import type { NodeCell } from '../../../src/inspect/page-api.ts';
import { colour, theme } from '../theme.ts';

export interface NodeMapProps {
  readonly nodes: readonly NodeCell[];
  readonly selected?: string;
  readonly onSelect?: (name: string) => void;
  readonly version: number;
  /** Height of a slot at most, px. */
  readonly cellPx?: number;
}

const MAX_CELL = 22;
/** More slots than that share cells. */
const MAX_ROWS = 16;
const FOOT = 5;

export function NodeMap({ nodes, selected = '', onSelect, version, cellPx = MAX_CELL }: NodeMapProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const shade = theme();
  const rows = Math.min(MAX_ROWS, Math.max(1, ...nodes.map(({ slots }) => slots)));
  const height = rows * (cellPx > 14 ? 13 : cellPx) + FOOT + 3;
  const draw = (): void => {
    const at = canvas.current;
    const context = at?.getContext('2d');
    if (at === null || context === null || context === undefined || at.clientWidth === 0) return;
    const ratio = devicePixelRatio;
    const width = at.clientWidth;
    if (at.width !== Math.round(width * ratio) || at.height !== Math.round(height * ratio)) {
      at.width = Math.round(width * ratio);
      at.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const pitch = pitchOf(width, nodes.length);
    const gap = pitch > 6 ? 2 : pitch > 3 ? 1 : 0;
    const cell = (height - FOOT - 3) / rows;
    const busy = colour('slot-busy'), warm = colour('slot-warm'), free = colour('slot-free'), off = colour('slot-off'), waiting = colour('state-delaying'), ring = colour('accent');
    nodes.forEach((node, i) => {
      const x = i * pitch;
      const scale = rows / Math.max(1, node.slots);
      const shown = node.slots > rows ? rows : node.slots;
      const used = node.slots > rows ? Math.round(node.used * scale) : node.used;
      const warmIdle = Math.max(0, Math.min(shown - used, node.slots > rows ? Math.round((node.warm - node.used) * scale) : node.warm - node.used));
      for (let slot = 0; slot < shown; slot++) {
        context.fillStyle = node.state === 'lost' ? off : slot < used ? busy : slot < used + warmIdle ? warm : free;
        context.globalAlpha = node.state === 'ready' ? 1 : 0.45;
        context.fillRect(x, (rows - 1 - slot) * cell, pitch - gap, cell - (cell > 4 ? 2 : 1));
      }
      context.globalAlpha = 1;
      if (node.waiting > 0) {
        context.fillStyle = waiting;
        context.fillRect(x, height - FOOT, Math.max(2, (pitch - gap) * Math.min(1, Math.log2(1 + node.waiting) / 8)), FOOT - 1);
      }
      if (node.name === selected) {
        context.strokeStyle = ring;
        context.lineWidth = 2;
        context.strokeRect(x - 0.5, 0.5, pitch - gap + 1, height - 1);
      }
    });
  };
  useEffect(draw, [version, nodes, selected, shade]);
  useEffect(() => {
    const watch = new ResizeObserver(draw);
    if (canvas.current !== null) watch.observe(canvas.current);
    return () => watch.disconnect();
  });
  const used = nodes.reduce((sum, node) => sum + node.used, 0), slots = nodes.reduce((sum, node) => sum + node.slots, 0);
  const nodeAt = (event: MouseEvent): NodeCell | undefined => {
    const width = canvas.current?.clientWidth ?? 0;
    return nodes[Math.floor(event.offsetX / pitchOf(width, nodes.length))];
  };
  return (
    <canvas
      ref={canvas} class={onSelect === undefined ? 'node-map' : 'node-map is-live'} style={{ height: `${height}px` }} role="img" aria-label={`${nodes.length} nodes, ${used} of ${slots} slots busy`}
      onClick={(event) => {
        const node = nodeAt(event);
        if (node !== undefined) onSelect?.(node.name);
      }}
      onMouseMove={(event) => {
        const node = nodeAt(event);
        event.currentTarget.title = node === undefined ? '' : `${node.name}: ${node.used} of ${node.slots} busy, ${node.warm} warm, ${node.waiting} waiting${node.state === 'ready' ? '' : `, ${node.state}`}`;
      }}
    />
  );
}

function pitchOf(width: number, nodes: number): number {
  return Math.min(120, Math.max(2, width / Math.max(1, nodes)));
}
