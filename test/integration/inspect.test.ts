/** The inspector of a real daemon with real agents. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startDaemon } from '../../src/daemon/daemon.ts';
import type { InvocationList, MachineChart, NodeDetail, NodeList, Tick, TransitionsEvent } from '../../src/inspect/page-api.ts';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { PATIENCE, TOOL, openCluster, openGate, type TestCluster } from './harness.ts';

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await openCluster({ nodes: 2, slots: 2, config: { 'inspect.sampleEvery': 1, 'scheduler.shadowPolicy': 'round-robin' } });
  await cluster.deploy('tool', TOOL);
});
afterAll(() => cluster.close());

const get = async <T>(path: string): Promise<T> => (await (await fetch(`${cluster.daemon.httpUrl}/inspect/api/${path}`)).json()) as T;

/** Reads the stream until `enough` says so. */
async function follow(enough: (ticks: readonly Tick[], transitions: readonly TransitionsEvent[]) => boolean): Promise<{ ticks: Tick[]; transitions: TransitionsEvent[] }> {
  const controller = new AbortController();
  const response = await fetch(`${cluster.daemon.httpUrl}/inspect/api/stream`, { signal: controller.signal });
  const ticks: Tick[] = [], transitions: TransitionsEvent[] = [];
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const [, event, data] = /event: (\w+)\ndata: (.*)/.exec(text.slice(0, end)) ?? [];
      if (event === 'tick') ticks.push(JSON.parse(data ?? '') as Tick);
      if (event === 'transitions') transitions.push(JSON.parse(data ?? '') as TransitionsEvent);
      text = text.slice(end + 2);
    }
    if (enough(ticks, transitions)) break;
  }
  controller.abort();
  return { ticks, transitions };
}

describe('the inspector of a running scheduler', () => {
  it('shows live counts, flow, transitions and latencies as they happen', async () => {
    const reading = follow((ticks) => ticks.reduce((sum, { ended }) => sum + ended.reduce((all, { count }) => all + count, 0), 0) >= 3);
    // The first tick says that somebody listens.
    await vi.waitFor(async () => expect((await cluster.client.getStatus({})).pageUrl).toBe(`${cluster.daemon.httpUrl}/inspect/`), PATIENCE);
    const charts = await get<MachineChart[]>('machines');
    const invocation = charts.find(({ name }) => name === 'invocation');
    for (let i = 0; i < 3; i++) await cluster.call('tool', { value: i });
    // Whatever ended before the stream was open is not in it: until it has three, there are more.
    const more = setInterval(() => void cluster.call('tool', { value: 0 }).catch(() => {}), 200);
    const { ticks, transitions } = await reading;
    clearInterval(more);
    const last = ticks.at(-1)!;
    const completed = invocation!.states.findIndex(({ name }) => name === 'completed');
    expect(last.machines['invocation']?.counts[completed]).toBeGreaterThanOrEqual(3);
    const dispatch = invocation!.edges.findIndex(({ from, event }) => from === 'classified' && event === 'DISPATCH');
    expect(last.machines['invocation']?.flow[dispatch]).toBeGreaterThanOrEqual(3);
    expect(last.machines['node']?.counts).toEqual([0, 0, 2, 0, 0, 0]);
    expect(last.nodes.map(({ name, state, slots }) => [name, state, slots])).toEqual([...cluster.agents.keys()].sort().map((name) => [name, 'ready', 2]));
    const seen = new Set(transitions.flatMap(({ records }) => records.map(({ from, to }) => `${from} ${to}`)));
    expect([...seen]).toEqual(expect.arrayContaining(['arriving classified', 'classified dispatched', 'dispatched completed']));
    const groups = ticks.flatMap(({ ended }) => ended);
    expect(groups[0]).toMatchObject({ function: 'tool', policy: 'metronome', failed: 0 });
    expect(last.shadow?.policy).toBe('round-robin');
    await cluster.quiet();
  }, 60_000);

  it('tells who is where, and everything of one node', async () => {
    const gate = cluster.scratch();
    const held = cluster.call('tool', { gate });
    const [running] = await cluster.running('tool', 1);
    const name = running!.node;
    const { invocations } = await get<InvocationList>('invocations?state=dispatched');
    expect(invocations.map(({ id }) => id)).toEqual([running!.id]);
    expect((await get<InvocationList>(`invocations?node=${name}&state=completed&limit=1`)).invocations.length).toBeLessThanOrEqual(1);
    const { nodes, leftOut } = await get<NodeList>('nodes');
    expect(nodes.find((node) => node.name === name)?.used).toBe(1);
    expect(leftOut).toBe(0);
    const detail = await get<NodeDetail>(`nodes/${name}`);
    expect(detail.running.map(({ id }) => id)).toEqual([running!.id]);
    expect(Object.keys(detail.warmByFunction)).toEqual(['tool']);
    expect(detail.metrics['memoryFreeMb']).toBeGreaterThan(0);
    // Measured by the I/O thread as soon as the streams stand.
    await vi.waitFor(async () => expect((await get<NodeDetail>(`nodes/${name}`)).metrics['roundTripMs']).toBeGreaterThan(0), PATIENCE);
    expect(Object.values(await cluster.nodes()).find((node) => node.name === name)?.roundTripMs).toBeGreaterThan(0);
    openGate(gate);
    await held;
    await cluster.quiet();
  });

  it('drains a node and takes it back, and switches the shadow', async () => {
    const [name] = [...cluster.agents.keys()];
    const post = async (path: string): Promise<number> => (await fetch(`${cluster.daemon.httpUrl}/inspect/api/nodes/${name}/${path}`, { method: 'POST' })).status;
    expect(await post('drain')).toBe(200);
    expect((await get<NodeDetail>(`nodes/${name}`)).state).toBe('draining');
    expect(await post('undrain')).toBe(200);
    await vi.waitFor(async () => expect((await get<NodeDetail>(`nodes/${name}`)).state).toBe('ready'), PATIENCE);
    expect((await get<{ shadow: string }>('policies')).shadow).toBe('round-robin');
    await cluster.client.setShadowPolicy({ policy: '' });
    expect((await cluster.client.getStatus({})).shadowPolicy).toBe('');
  });

  it('gives out the transitions that it remembers, in pages', async () => {
    const first = await cluster.client.readTransitions({ limit: 2 });
    expect(first.transitions).toHaveLength(2);
    expect(first.end).toBe(false);
    const rest = await cluster.client.readTransitions({ from: first.next, function: 'tool' });
    expect(rest.end).toBe(true);
    expect(rest.transitions.at(-1)?.to).toBe(InvocationState.COMPLETED);
    expect((await cluster.client.readTransitions({ untilUnixMs: 1 })).transitions).toEqual([]);
  });

  it('does not start with a shadow policy that nobody knows', async () => {
    const { config } = cluster;
    const mistaken = { ...config, scheduler: { ...config.scheduler, dataDir: cluster.scratch(), shadowPolicy: 'metronom' } };
    const log = { debug() {}, info() {}, warn() {}, error() {} };
    await expect(startDaemon({ config: mistaken, log })).rejects.toMatchObject({ code: 'POLICY_UNKNOWN', message: expect.stringContaining('Did you mean "metronome"?') });
  });
});
