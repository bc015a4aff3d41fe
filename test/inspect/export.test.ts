import { createContext, runInContext } from 'node:vm';
import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { invocationMachine } from '../../machines/invocation.ts';
import { toChromeTrace } from '../../src/inspect/export/chrome-trace.ts';
import { excerptDot, excerptMermaid } from '../../src/inspect/export/diagram.ts';
import { invocationsOf, type Excerpt } from '../../src/inspect/export/excerpt.ts';
import { toHtml } from '../../src/inspect/export/html.ts';
import { toJsonLines } from '../../src/inspect/export/json-lines.ts';
import type { TransitionRow } from '../../src/inspect/page-api.ts';
import { StatelyForwarder, connectStately, type StatelyInspector } from '../../src/inspect/stately.ts';

const row = (id: string, atMs: number, from: string, to: string, event: string, more: Partial<TransitionRow> = {}): TransitionRow => ({ id, function: 'f', from, to, event, reason: 'because', node: '', delayingFor: '', atMs, ...more });

/** `a` waits for a node and runs there, `b` runs at once beside it, `c` is under way. */
const EXCERPT: Excerpt = {
  title: 'A "title": <script>alert(1)</script>',
  transitions: [
    row('a', 1_000, 'arriving', 'classified', 'PREDICTED'), row('a', 1_000, 'classified', 'delaying', 'DELAY', { node: 'n1', delayingFor: 'locality' }),
    row('b', 1_010, 'arriving', 'classified', 'PREDICTED'), row('b', 1_010, 'classified', 'dispatched', 'DISPATCH', { node: 'n1' }),
    row('a', 1_020, 'delaying', 'dispatched', 'NODE_RELEASED', { node: 'n1' }), row('a', 1_021, 'dispatched', 'dispatched', 'STARTED', { node: 'n1' }),
    row('b', 1_050, 'dispatched', 'completed', 'RESULT', { node: 'n1' }), row('a', 1_060, 'dispatched', 'failed', 'RESULT', { node: 'n1' }),
    row('c', 1_070, 'arriving', 'classified', 'PREDICTED'), row('c', 1_070, 'classified', 'dispatched', 'DISPATCH', { node: 'n2' }),
  ],
  decisions: new Map([['a', [{ policy: 'metronome', action: 'DECISION_ACTION_DELAY', node: 'n1', reason: '</script><b>', candidates: [{ node: 'n1', predictedMs: 12, locality: { class: 'LOCALITY_CLASS_LOCAL', degree: 0.9 } }, { node: 'n2', predictedMs: 40 }] }]]]),
  missed: 3,
};

describe('an excerpt', () => {
  it('tells how long each invocation stayed where', () => {
    const [a, b, c] = invocationsOf(EXCERPT);
    expect(a?.stays.map(({ state, fromMs, toMs }) => [state, fromMs, toMs])).toEqual([['classified', 1_000, 1_000], ['delaying', 1_000, 1_020], ['dispatched', 1_020, 1_060], ['failed', 1_060, 1_060]]);
    expect(b?.stays.at(-1)).toMatchObject({ state: 'completed', toMs: 1_050 });
    expect(c?.stays.at(-1)).toMatchObject({ state: 'dispatched', node: 'n2', toMs: undefined });
  });

  it('becomes a diagram with the edges that were taken, how often, and under which guard', () => {
    const mermaid = excerptMermaid(invocationMachine, EXCERPT);
    expect(mermaid).toContain('  arriving --> classified : PREDICTED 3×\n');
    expect(mermaid).toContain('  dispatched --> completed : RESULT [succeeded] 1×\n');
    expect(mermaid).toContain('  delaying --> dispatched : NODE_RELEASED [namesNode] 1×\n');
    expect(mermaid).not.toContain('timedOut');
    expect(mermaid.split('\n')[1]).toBe('title: A  title   <script>alert(1)</script>');
    const dot = excerptDot(invocationMachine, EXCERPT);
    expect(dot).toMatch(/^digraph "invocation" \{\n {2}label="A \\"title\\": .*\n/);
    expect(dot).toContain('"arriving" -> "classified" [label="PREDICTED 3×", penwidth=5.00];');
  });

  it('becomes JSON Lines that say what each is', () => {
    const lines = toJsonLines(EXCERPT).trimEnd().split('\n').map((line) => JSON.parse(line) as { kind: string; id?: string });
    expect(lines.map(({ kind }) => kind)).toEqual(['excerpt', ...EXCERPT.transitions.map(() => 'transition'), 'decision']);
    expect(lines.at(-1)).toMatchObject({ id: 'a', policy: 'metronome' });
  });

  it('becomes a trace in which nothing overlaps within a lane', () => {
    const { traceEvents, otherData } = JSON.parse(toChromeTrace(EXCERPT)) as { traceEvents: { name: string; ph: string; pid: number; tid: number; ts: number; dur?: number; args: Record<string, unknown> }[]; otherData: { missed: number } };
    expect(otherData.missed).toBe(3);
    expect(traceEvents.filter(({ ph }) => ph === 'M').map(({ args }) => args['name'])).toEqual(['scheduler', 'node n1', 'node n2']);
    const spans = traceEvents.filter(({ ph }) => ph === 'X');
    expect(spans.map(({ name, ts, dur }) => [name, ts, dur])).toEqual([['f delaying for locality', 0, 20_000], ['f dispatched', 10_000, 40_000], ['f dispatched', 20_000, 40_000]]);
    for (const a of spans) for (const b of spans) if (a !== b && a.pid === b.pid && a.tid === b.tid) expect(a.ts + (a.dur ?? 0) <= b.ts || b.ts + (b.dur ?? 0) <= a.ts).toBe(true);
    // Two at once on one node: two lanes.
    expect(new Set(spans.filter(({ name }) => name === 'f dispatched').map(({ tid }) => tid)).size).toBe(2);
    expect(JSON.parse(toChromeTrace({ title: '', transitions: [], decisions: new Map(), missed: 0 }))).toMatchObject({ otherData: { beginsAtUnixMs: 0 } });
  });

  it('becomes one HTML file that shows it without anything from elsewhere, whatever stands in it', () => {
    const html = toHtml(EXCERPT);
    expect(html).not.toMatch(/(?:src|href)=/);
    expect(html).toContain("default-src 'none'");
    expect(html).toContain('<title>A &quot;title&quot;: &lt;script&gt;');
    expect(html.match(/<\/script>/g)).toHaveLength(2);
    const { document } = parseHTML(html);
    const script = [...document.querySelectorAll('script')].at(-1)?.textContent ?? '';
    runInContext(script, createContext({ document, Object, JSON, Math, String, Date, Infinity }));
    expect(document.querySelectorAll('#list li')).toHaveLength(3);
    expect(document.getElementById('summary')?.textContent).toContain('3 earlier transitions are not remembered');
    const detail = document.getElementById('detail')?.textContent ?? '';
    expect(detail).toContain('f a');
    expect(detail).toContain('delaying for locality');
    expect(detail).toContain('waits for n1 (</script><b>)');
    expect(document.querySelectorAll('#detail tr.chosen')).toHaveLength(1);
  });
});

describe('the forwarder to Stately Inspector', () => {
  function fake(): { inspector: StatelyInspector; calls: string[] } {
    const calls: string[] = [];
    return {
      calls,
      inspector: { actor: (id, snapshot) => void calls.push(`actor ${id} ${snapshot?.value}`), event: (id, { type }) => void calls.push(`event ${id} ${type}`), snapshot: (id, { value, status }) => void calls.push(`snapshot ${id} ${value} ${status}`), stop: () => void calls.push('stop') },
    };
  }

  it('tells whole lives, few at a time, and counts the others', () => {
    const { inspector, calls } = fake();
    const forwarder = new StatelyForwarder(inspector, { definition: '{}', most: 1, every: 1 });
    for (const transition of EXCERPT.transitions) forwarder.told(transition);
    expect(calls.slice(0, 3)).toEqual(['actor a arriving', 'event a PREDICTED', 'snapshot a classified active']);
    expect(calls).toContain('snapshot a failed done');
    expect(calls.some((call) => call.includes(' b '))).toBe(false); // a was followed when it began
    expect(calls.filter((call) => call.startsWith('actor'))).toEqual(['actor a arriving', 'actor c arriving']);
    expect([forwarder.forwarded, forwarder.leftOut]).toEqual([2, 1]);
  });

  it('samples one in so many, and begins none that is under way', () => {
    const { inspector, calls } = fake();
    const forwarder = new StatelyForwarder(inspector, { definition: '{}', most: 10, every: 2 });
    forwarder.told(row('old', 1, 'delaying', 'dispatched', 'NODE_RELEASED'));
    for (let i = 0; i < 6; i++) forwarder.told(row(`i${i}`, 1, 'arriving', 'classified', 'PREDICTED'));
    expect(calls.filter((call) => call.startsWith('actor'))).toEqual(['actor i0 arriving', 'actor i2 arriving', 'actor i4 arriving']);
  });

  it('says how to install what is not there, and what is wrong with what is', async () => {
    await expect(connectStately('ws://localhost:1', () => Promise.reject(new Error('ERR_MODULE_NOT_FOUND')))).rejects.toMatchObject({ code: 'UNIMPLEMENTED', message: expect.stringContaining('npm install @statelyai/inspect') });
    await expect(connectStately('ws://localhost:1', () => Promise.resolve({}))).rejects.toMatchObject({ code: 'UNIMPLEMENTED' });
    const { inspector } = fake();
    expect(await connectStately('ws://localhost:1', () => Promise.resolve({ createWebSocketInspector: ({ url }: { url: string }) => (url === 'ws://localhost:1' ? inspector : undefined) }))).toBe(inspector);
  });
});
