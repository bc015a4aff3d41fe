/** The Grafana dashboard of deploy/ asks only for metrics and labels that the daemon has. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createGatewayMetrics } from '../../src/gateway/gateway-metrics.ts';
import { responseFor } from '../gateway/fake-loop.ts';

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string }[];
}

const dashboard = JSON.parse(readFileSync(new URL('../../deploy/grafana/metronome.json', import.meta.url), 'utf8')) as { readonly panels: readonly Panel[] };
const SUFFIX = /_(bucket|sum|count)$/;
const METRIC = /\b(?:metronome|grpc_server|process|nodejs)_[a-z0-9_]+/g;

describe('the Grafana dashboard', () => {
  it('asks for metrics that exist, in every panel', async () => {
    const metrics = createGatewayMetrics();
    metrics.invocations.ended('f', 3, { ticket: 1, response: responseFor(1, new Uint8Array(), '') });
    const { text } = await metrics.render({ call: () => Promise.reject(new Error('no scheduler here')), inFlight: 0, waitingCalls: 0 });
    metrics.stop();
    const known = new Set([...text.matchAll(/^# HELP (\S+)/gm)].map(([, name]) => name));
    const asked = dashboard.panels.flatMap(({ title, targets = [] }) => targets.flatMap(({ expr }) => [...expr.matchAll(METRIC)].map(([name]) => ({ title, name }))));
    expect(asked.length).toBeGreaterThan(20);
    expect(asked.filter(({ name }) => !known.has(name) && !known.has(name.replace(SUFFIX, '')))).toEqual([]);
    for (const { type, title, targets = [] } of dashboard.panels) expect(type === 'row' ? 1 : targets.length, title).toBeGreaterThan(0);
  });

  it('has panels that do not lie on each other', () => {
    const cells = new Set<string>();
    for (const { gridPos: { x, y, w, h }, title } of dashboard.panels) {
      for (let column = x; column < x + w; column++) for (let line = y; line < y + h; line++) {
        expect(cells.has(`${column},${line}`), title).toBe(false);
        cells.add(`${column},${line}`);
      }
      expect(x + w).toBeLessThanOrEqual(24);
    }
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
  });
});
