/**
 * Transitions as dots that move along their edges, on a canvas over the chart: what is seen is sampled and bounded, the numbers on the edges are
 * not. Nothing moves for those who asked their system for less motion.
 */
import { useEffect, useRef } from 'preact/hooks';
import type { MachineChart } from '../../../src/inspect/page-api.ts';
import { feed } from '../feed.ts';
import { colour, theme } from '../theme.ts';
import { frameOf, pointsAlong } from './edge-path.ts';
import { stateColour } from './state-badge.tsx';

const MAX_DOTS = 160;
const TRAVEL_MS = 700;
/** Batches come four times a second; their dots start spread over so long. */
const SPREAD_MS = 250;
const STEPS = 48;

export function FlowDots({ chart }: { readonly chart: MachineChart }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const shade = theme();
  useEffect(() => {
    const at = canvas.current;
    const context = at?.getContext('2d');
    if (at === null || context === null || context === undefined || matchMedia('(prefers-reduced-motion: reduce)').matches) return undefined;
    const edges = new Map<string, number>();
    chart.edges.forEach(({ from, to, event }, i) => {
      if (!edges.has(`${from} ${to} ${event}`)) edges.set(`${from} ${to} ${event}`, i);
    });
    const frame = frameOf(chart);
    const along = chart.edges.map((edge) => pointsAlong(edge, STEPS));
    const paints = chart.edges.map(({ to }) => colour(stateColour(to)));
    // A ring of dots: edge and start.
    const edgeOf = new Int16Array(MAX_DOTS).fill(-1);
    const startOf = new Float64Array(MAX_DOTS);
    let written = 0, running = 0;
    const draw = (now: number): void => {
      running = 0;
      const scale = at.width / frame.width;
      context.clearRect(0, 0, at.width, at.height);
      let alive = false;
      const size = Math.max(3.5, 5.5 * scale);
      for (let i = 0; i < MAX_DOTS; i++) {
        const edge = edgeOf[i] ?? -1;
        if (edge < 0) continue;
        const part = (now - (startOf[i] ?? 0)) / TRAVEL_MS;
        if (part >= 1) {
          edgeOf[i] = -1;
          continue;
        }
        alive = true;
        if (part < 0) continue;
        const points = along[edge];
        if (points === undefined) continue;
        const step = Math.min(STEPS - 1, Math.floor(part * STEPS)) * 2;
        context.fillStyle = paints[edge] ?? '';
        context.beginPath();
        context.arc(((points[step] ?? 0) - frame.x) * scale, ((points[step + 1] ?? 0) - frame.y) * scale, size / 2, 0, 7);
        context.fill();
      }
      if (alive) running = requestAnimationFrame(draw);
    };
    const stop = feed.listen((rows) => {
      const now = performance.now();
      // Evenly out of the batch, so that frequent edges stay frequent.
      const stride = Math.max(1, Math.ceil(rows.length / (MAX_DOTS / 4)));
      for (let i = 0; i < rows.length; i += stride) {
        const row = rows[i];
        const edge = row === undefined ? undefined : edges.get(`${row.from} ${row.to} ${row.event}`);
        if (edge === undefined) continue;
        const slot = written++ % MAX_DOTS;
        edgeOf[slot] = edge;
        startOf[slot] = now + (SPREAD_MS * i) / rows.length;
      }
      if (running === 0) running = requestAnimationFrame(draw);
    });
    const fit = new ResizeObserver(() => {
      at.width = at.clientWidth;
      at.height = at.clientHeight;
    });
    fit.observe(at);
    return () => {
      stop();
      fit.disconnect();
      cancelAnimationFrame(running);
    };
  }, [chart, shade]);
  return <canvas ref={canvas} class="flow-dots" aria-hidden="true" />;
}
