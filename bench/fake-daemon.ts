/**
 * A load generator for the page: answers what src/inspect/page-api.ts says with an invented cluster under any load, so that the page can be measured
 * and tested with ten thousand waiting invocations on a small machine. Everything comes from a seed. What it shows is no measurement of Metronome.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createRandom } from '../src/core/random.ts';
import { readPageFile } from '../src/gateway/page-files.ts';
import { machineCharts } from '../src/inspect/charts.ts';
import type { EndedGroup, Hello, InvocationList, InvocationRow, MachineChart, NodeCell, NodeDetail, NodeList, RecordingList, ScenarioInfo, SimulationFrame, SimulationRun, Tick, TransitionRow, TransitionsEvent } from '../src/inspect/page-api.ts';

/** How much is invented. */
export interface FakeLoad {
  /** Invocations that wait for a better node, all the time. */
  readonly delaying: number;
  readonly transitionsPerS: number;
  readonly nodes: number;
  readonly slots: number;
}

export interface FakeDaemon {
  readonly url: string;
  readonly port: number;
  /** Changes asked for by the page: "drain node-3", "policy lookahead". */
  readonly changes: readonly string[];
  /** Pages that are connected. */
  clients(): number;
  close(): Promise<void>;
}

const TICK_MS = 250;
const MAX_ROWS_PER_TICK = 500;
const MAX_TICK_NODES = 256;
const MAX_KEPT = 20_000;
/** Transitions of an invocation that waits: predicted, delayed, sent, started, ended. Every third one does not wait. */
const TRANSITIONS_EACH = 4.67;
const FUNCTIONS = ['thumbnail', 'transcode', 'parse-log', 'to-markdown', 'classify-image', 'merge-counts', 'resize', 'embed-text'] as const;
const POLICIES = { metronome: 'Waits for a busy local node if that beats the best free one by the gain, and the slack allows it (Algorithm 1).', lookahead: 'Compares completion times, waits included.', 'round-robin': 'The next node with room, whatever it holds.', 'data-locality': 'A node that holds input data, if one has room.', xfaas: 'Groups of workers by locality, the less loaded of two.' } as const;

type Live = InvocationRow;

/** Starts on loopback. `port` 0: any. */
export async function startFakeDaemon(load: FakeLoad, { port = 0, seed = 1 }: { readonly port?: number; readonly seed?: number } = {}): Promise<FakeDaemon> {
  const world = createWorld(load, seed);
  const streams = new Set<ServerResponse>();
  const changes: string[] = [];
  const server = createServer((request, response) => {
    void answer(world, streams, changes, request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { code: 'INTERNAL', message: String(error) } }));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const timer = setInterval(() => {
    const { tick, transitions } = world.step();
    const text = `${event(transitions.next, 'tick', tick)}${event(transitions.next, 'transitions', transitions)}`;
    for (const stream of streams) stream.write(text);
  }, TICK_MS);
  const bound = (server.address() as AddressInfo).port; // it listens on TCP
  return {
    url: `http://127.0.0.1:${bound}/inspect/`, port: bound, changes,
    clients: () => streams.size,
    async close() {
      clearInterval(timer);
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function event(id: number, name: string, data: unknown): string {
  return `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

type World = ReturnType<typeof createWorld>;

async function answer(world: World, streams: Set<ServerResponse>, changes: string[], request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://localhost');
  const path = url.pathname.replace(/^\/inspect\//, '');
  const json = (body: unknown, status = 200): void => void response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(body));
  const [, what = '', subject = '', action = ''] = path.split('/').map(decodeURIComponent);
  if (!path.startsWith('api/')) {
    const file = await readPageFile(path);
    if (file === undefined) return json({ error: { code: 'ROUTE_NOT_FOUND', message: `There is no ${path}.` } }, 404);
    response.writeHead(200, file.headers).end(file.bytes);
    return;
  }
  if (what === 'stream') {
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store' });
    response.write(`retry: 1000\n\n${event(world.next(), 'hello', world.hello())}`);
    streams.add(response);
    response.once('close', () => streams.delete(response));
    return;
  }
  if (request.method === 'POST' && what === 'nodes') {
    changes.push(`${action} ${subject}`);
    world.drain(subject, action === 'drain');
    return json({});
  }
  if (request.method === 'PUT') {
    const { policy } = JSON.parse(await bodyOf(request)) as { policy: string }; // the page sends nothing else
    changes.push(`${what} ${policy}`);
    world.setPolicy(what, policy);
    for (const stream of streams) stream.write(event(world.next(), 'hello', world.hello()));
    return json({});
  }
  if (request.method === 'POST' && what === 'simulations') {
    const { policies, recording } = JSON.parse(await bodyOf(request)) as { policies: string[]; recording?: string }; // the page sends nothing else
    if (recording === undefined) return json(policies.map((policy, i) => inventRun(policy, i)));
    return json([{ ...inventRun('metronome', 0), kind: 'recorded', notes: ['Invented.'] }, ...policies.map((policy, i) => ({ ...inventRun(policy, i + 1), kind: 'whatIf' as const }))] satisfies SimulationRun[]);
  }
  const query = (name: string): string => url.searchParams.get(name) ?? '';
  if (what === 'machines') return json(machineCharts());
  if (what === 'policies') return json({ policies: Object.entries(POLICIES).map(([name, description]) => ({ name, description })), active: world.hello().policy });
  if (what === 'scenarios') return json([{ name: 'large-inputs', description: 'Invented: functions that read tens of MiB.', nodes: 8, slots: 4, durationMs: 30_000, functions: [...FUNCTIONS] }, { name: 'cold-starts', description: 'Invented: heavy packages.', nodes: 6, slots: 4, durationMs: 30_000, functions: [...FUNCTIONS] }] satisfies ScenarioInfo[]);
  if (what === 'recordings') return json({ recordings: [{ name: '20261125T190838123Z-2', startedAtMs: Date.UTC(2026, 10, 25, 19, 8, 38, 123), bytes: 1_400_000, isRunning: true }, { name: '20261124T080000000Z-1', startedAtMs: Date.UTC(2026, 10, 24, 8), bytes: 310_000, isRunning: false }], leftOut: 0 } satisfies RecordingList);
  if (what === 'model') return json(world.model());
  if (what === 'nodes' && subject === '') return json(world.nodes());
  if (what === 'nodes') return json(world.node(subject));
  if (what === 'invocations' && subject !== '') {
    const found = world.explain(subject);
    return found === undefined ? json({ error: { code: 'INVOCATION_NOT_FOUND', message: `Invocation "${subject}" is not remembered.` } }, 404) : json(found);
  }
  if (what === 'invocations') return json(world.list(query('state'), query('function'), query('node'), Number(query('limit') || 100), Number(query('before') || 0), Number(query('beforeSeq') || 0)));
  json({ error: { code: 'ROUTE_NOT_FOUND', message: `There is no ${url.pathname}.` } }, 404);
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer); // no encoding is set
  return Buffer.concat(chunks).toString('utf8');
}

function createWorld({ delaying, transitionsPerS, nodes, slots }: FakeLoad, seed: number) {
  const random = createRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.uniform() * list.length)] as T; // lists are not empty
  const charts = machineCharts();
  const chart = charts.find(({ name }) => name === 'invocation') as MachineChart; // it is one of the five
  const stateIndex = new Map(chart.states.map(({ name }, i) => [name, i]));
  const counts = new Array<number>(chart.states.length).fill(0);
  const flow = new Array<number>(chart.edges.length).fill(0);
  const edgeIndex = new Map<string, number>();
  chart.edges.forEach(({ from, to, event: name }, i) => {
    if (!edgeIndex.has(`${from} ${to} ${name}`)) edgeIndex.set(`${from} ${to} ${name}`, i);
  });
  const startedAtMs = Date.now();
  const nodeNames = Array.from({ length: nodes }, (_, i) => `node-${i + 1}`);
  const draining = new Set<string>();
  const policy = { active: 'metronome', shadow: 'round-robin' };
  let serial = 0, next = 0, live: Live[] = [], sent: Live[] = [], ended: Live[] = [];
  const counters = { submitted: 0, decisions: 0, dispatched: 0, delayed: 0, completed: 0 };

  const invent = (arrivedAtMs: number): Live => {
    const seq = ++serial;
    const fn = FUNCTIONS[Math.min(FUNCTIONS.length - 1, Math.floor(-Math.log(1 - random.uniform()) * 2))] ?? FUNCTIONS[0];
    return { seq, id: `inv-${seq.toString(36).padStart(8, '0')}`, function: fn, policy: policy.active, state: 'arriving', delayingFor: '', node: pick(nodeNames), arrivedAtMs, latencyMs: 0, slaMs: 2_000, reason: 'arrived' };
  };
  const move = (each: Live, to: string, name: string, reason: string, atMs: number, rows: TransitionRow[]): Live => {
    counters.decisions += name === 'PREDICTED' ? 1 : 0;
    const edge = edgeIndex.get(`${each.state} ${to} ${name}`);
    if (edge !== undefined) flow[edge] = (flow[edge] ?? 0) + 1;
    const before = stateIndex.get(each.state) ?? 0, after = stateIndex.get(to) ?? 0;
    counts[before] = Math.max(0, (counts[before] ?? 0) - 1);
    counts[after] = (counts[after] ?? 0) + 1;
    next++;
    const delayingFor = to === 'delaying' ? 'locality' : '';
    rows.push({ id: each.id, function: each.function, from: each.state, to, event: name, reason, node: to === 'classified' ? '' : each.node, delayingFor, atMs });
    return { ...each, state: to, delayingFor, reason };
  };
  const arrive = (atMs: number, rows: TransitionRow[], waits: boolean): void => {
    counters.submitted++;
    counts[0] = (counts[0] ?? 0) + 1;
    const classified = move(invent(atMs), 'classified', 'PREDICTED', 'predicted', atMs + 1, rows);
    if (waits) {
      counters.delayed++;
      live.push(move(classified, 'delaying', 'DELAY', 'waitForLocalNode', atMs + 1.2, rows));
    } else {
      counters.dispatched++;
      sent.push(move(move(classified, 'dispatched', 'DISPATCH', random.uniform() < 0.7 ? 'bestNodeHasRoom' : 'gainTooSmall', atMs + 1.2, rows), 'dispatched', 'STARTED', 'started', atMs + 4, rows));
    }
  };
  // Who waits from the beginning came over the last two seconds.
  for (let i = 0; i < delaying; i++) arrive(startedAtMs - 2_000 + (2_000 * i) / Math.max(1, delaying), [], true);

  const cells = (): NodeCell[] => nodeNames.map((name, i) => {
    const wave = 0.62 + 0.33 * Math.sin(i * 1.7 + next / 9_000);
    const used = draining.has(name) ? 0 : Math.min(slots, Math.round(slots * wave + random.uniform() - 0.5));
    return {
      name, state: draining.has(name) ? 'draining' : 'ready', slots, used, waiting: Math.round((delaying / nodes) * Math.max(0, wave - 0.5) * 2), warm: used + Math.round((slots - used) * 0.5), zygotes: 2 + (i % 4), cpu: Math.min(1, wave * 0.9), memoryUsed: 0.35 + 0.03 * (i % 9),
      objectBytes: (120 + 83 * (i % 11)) * 1024 ** 2, fetchBytesPerS: i % 3 === 0 ? wave * 24e6 : 0,
    };
  });

  return {
    next: () => next,
    hello: (): Hello => ({ version: '0.1.0', startedAtMs, policy: policy.active, shadowPolicy: policy.shadow, simulated: false }),
    setPolicy(which: string, name: string) {
      if (which === 'shadow') policy.shadow = name;
      else policy.active = name;
    },
    drain(name: string, on: boolean) {
      if (on) draining.add(name);
      else draining.delete(name);
    },
    /** A quarter of a second passes. */
    step(): { readonly tick: Tick; readonly transitions: TransitionsEvent } {
      const atMs = Date.now();
      const rows: TransitionRow[] = [];
      const arrivals = Math.max(0, Math.round((transitionsPerS * TICK_MS) / 1_000 / TRANSITIONS_EACH * (0.9 + 0.2 * random.uniform())));
      const groups = new Map<string, EndedGroup & { histogram: number[] }>();
      const finish = (each: Live): void => {
        const done = move(each, 'completed', 'RESULT', 'completed', atMs - 2, rows);
        const rank = FUNCTIONS.indexOf(each.function as (typeof FUNCTIONS)[number]); // invented from this list
        const waited = each.seq % 3 === 0 ? 0 : 40 + 220 * random.uniform();
        const ranMs = (30 + 55 * rank) * Math.exp(0.5 * (random.uniform() + random.uniform() - 1));
        const latencyMs = waited + ranMs + 6;
        counters.completed++;
        ended.push({ ...done, latencyMs });
        const group = groups.get(each.function) ?? { function: each.function, policy: each.policy, count: 0, failed: 0, slaMissed: 0, latencyMs: 0, delayedMs: 0, savedMs: 0, warm: 0, local: 0, error: 0, leastSlackMs: Infinity, histogram: [] };
        const bucket = Math.max(0, Math.min(95, Math.floor(4 * Math.log2(latencyMs))));
        const histogram = Array.from({ length: Math.max(group.histogram.length, bucket + 1) }, (_, i) => group.histogram[i] ?? 0);
        histogram[bucket] = (histogram[bucket] ?? 0) + 1;
        groups.set(each.function, {
          ...group, histogram, count: group.count + 1, slaMissed: group.slaMissed + (latencyMs > each.slaMs ? 1 : 0), latencyMs: group.latencyMs + latencyMs, delayedMs: group.delayedMs + waited, savedMs: group.savedMs + (waited > 0 ? waited * (0.9 + 1.4 * random.uniform()) : 0),
          warm: group.warm + (random.uniform() < 0.8 ? 1 : 0), local: group.local + (random.uniform() < 0.86 ? 1 : 0), error: group.error + 0.22 * random.uniform(), leastSlackMs: Math.min(group.leastSlackMs, each.slaMs - latencyMs),
        });
      };
      const running = Math.min(sent.length, Math.max(0, sent.length - nodes * slots * 0.6));
      for (const each of sent.splice(0, running)) finish(each);
      const released = live.splice(0, Math.max(0, live.length - delaying + Math.round(arrivals * 0.66)));
      for (const each of released) sent.push(move(move(each, 'dispatched', 'NODE_RELEASED', 'localNodeReleased', atMs - 8, rows), 'dispatched', 'STARTED', 'started', atMs - 5, rows));
      for (let i = 0; i < arrivals; i++) arrive(atMs - TICK_MS + (TICK_MS * i) / Math.max(1, arrivals), rows, i % 3 !== 0 && delaying > 0);
      if (ended.length > MAX_KEPT) ended = ended.slice(-MAX_KEPT / 2);
      const all = cells();
      const used = all.reduce((sum, cell) => sum + cell.used, 0);
      const others = Object.fromEntries(charts.filter(({ name }) => name !== 'invocation').map(({ name, states, edges }) => [name, { counts: states.map((_, i) => (name === 'node' ? (i === 2 ? nodes - draining.size : i === 4 ? draining.size : 0) : name === 'sandbox' ? (i === 2 ? used : i === 1 ? Math.round(used * 0.7) : 0) : i === 1 ? 1 : 0)), flow: edges.map((_, i) => (name === 'sandbox' ? Math.round(next / (20 * (i + 2))) : 0)) }]));
      const agreed = Math.round(arrivals * 0.34), activeMs = arrivals * (240 + 20 * random.uniform()), shadowMs = arrivals * (410 + 60 * random.uniform());
      const sampled = rows.length > MAX_ROWS_PER_TICK ? rows.filter((_, i) => i % Math.ceil(rows.length / MAX_ROWS_PER_TICK) === 0) : rows;
      return {
        tick: {
          atMs, machines: { invocation: { counts: [...counts], flow: [...flow] }, ...others }, live: live.length + sent.length, delayingForLocality: live.length, delayingForCapacity: 0, counters: { ...counters }, ended: [...groups.values()], nodes: all.slice(0, MAX_TICK_NODES),
          ...(policy.shadow === '' ? {} : { shadow: { policy: policy.shadow, decisions: arrivals, agreed, activeMs, shadowMs } }),
        },
        transitions: { next, missed: rows.length - sampled.length, records: sampled },
      };
    },
    list(state: string, fn: string, node: string, limit: number, before: number, beforeSeq: number): InvocationList {
      const now = Date.now();
      const fitting: Live[] = [];
      const pools = state === 'delaying' ? [live] : state === 'dispatched' ? [sent] : state === 'completed' ? [ended] : state === '' ? [ended, sent, live] : [];
      for (const pool of pools) for (const each of pool) if ((fn === '' || each.function === fn) && (node === '' || each.node === node) && (before === 0 || each.arrivedAtMs < before || (each.arrivedAtMs === before && each.seq < beforeSeq))) fitting.push(each);
      fitting.sort((a, b) => b.arrivedAtMs - a.arrivedAtMs || b.seq - a.seq);
      return { invocations: fitting.slice(0, limit).map((row) => ({ ...row, latencyMs: row.state === 'completed' ? row.latencyMs : now - row.arrivedAtMs })), more: fitting.length > limit };
    },
    nodes: (): NodeList => ({ nodes: cells(), leftOut: 0 }),
    node(name: string): NodeDetail {
      const cell = cells().find((each) => each.name === name) as NodeCell; // the page asks for nodes that it was told of
      return {
        ...cell, running: this.list('dispatched', '', name, cell.used, 0, 0).invocations, line: this.list('delaying', '', name, 200, 0, 0).invocations, warmByFunction: Object.fromEntries(FUNCTIONS.slice(0, 5).map((fn, i) => [fn, { idle: i % 3, busy: (i + 1) % 3 }])),
        zygoteSets: ['numpy, pillow', '@aws-sdk/client-s3'], packageSets: 6, objects: 412, metrics: { cpuUtilisation: cell.cpu, memoryUtilisation: cell.memoryUsed, fetchBytesPerS: cell.fetchBytesPerS, loadAverage: 3.2, contextSwitchesPerS: 12_400 },
      };
    },
    explain(id: string) {
      const found = live.findLast((each) => each.id === id) ?? sent.findLast((each) => each.id === id) ?? ended.findLast((each) => each.id === id);
      return found === undefined ? undefined : inventExplanation(found, nodeNames);
    },
    model: () => ({
      predictor: 'forest', state: 'serving', version: 14, trainer: 'native', observations: String(counters.completed), trees: 100, treeNodes: '18342', windowSize: 4_096, windowRoom: 8_192, driftEvents: '2', nodeDriftEvents: '1', answerP50Ms: 0.31, answerP99Ms: 1.9,
      functions: FUNCTIONS.map((fn, i) => ({ function: fn, observations: String(400 - 40 * i), medianError: 0.06 + 0.01 * i, p95Error: 0.31 + 0.03 * i, forestMedianError: 0.05 + 0.01 * i, servedCoverageP95: 0.95 - 0.004 * i, servedCoverageP99: 0.99 - 0.002 * i, ...(i === 2 ? { driftEvents: '2' } : {}) })),
    }),
  };
}

/** One that waited for the node with its data, was asked again when another became warm, and ran there; or one that still waits. */
function inventExplanation(each: Live, nodeNames: readonly string[]) {
  const at = each.arrivedAtMs;
  const others = nodeNames.filter((name) => name !== each.node).slice(0, 6);
  const isOver = each.state === 'completed', isSent = isOver || each.state === 'dispatched';
  const waits = each.seq % 3 !== 0 || each.state === 'delaying';
  const waitedMs = waits ? 132 : 0;
  const best = (waitMs: number, room: number) => ({ node: each.node, locality: { class: 'LOCALITY_CLASS_LOCAL', degree: 0.94, data: 0.58, infrastructure: 0.36 }, predictedMs: 238, spreadMs: 21, ...(waitMs > 0 ? { expectedWaitMs: waitMs } : {}), room, load: room > 0 ? 0.75 : 1, startState: 'START_STATE_WARM', p95Ms: 286, p99Ms: 331, source: 'forest' });
  const rest = others.map((node, i) => ({
    node, locality: { class: i === 0 ? 'LOCALITY_CLASS_LOCAL' : 'LOCALITY_CLASS_FALLBACK', ...(i < 3 ? { degree: 0.55 - 0.22 * i, infrastructure: 0.36 - 0.14 * i, data: 0.19 - 0.08 * i } : {}) }, predictedMs: 520 + 130 * i, spreadMs: 40 + 12 * i, ...(i === 0 ? { expectedWaitMs: 60 } : {}), room: i === 0 ? 0 : 1 + (i % 3), load: i === 0 ? 1 : 0.4 + 0.08 * i,
    startState: i < 2 ? 'START_STATE_ZYGOTE' : i < 4 ? 'START_STATE_PACKAGES' : 'START_STATE_COLD', missingBytes: String((6 + 4 * i) * 1024 ** 2), ...(i < 2 ? { zygoteDistance: 0.15 * i } : {}), p95Ms: 640 + 170 * i, p99Ms: 760 + 200 * i, source: 'forest',
  }));
  const decision = (atMs: number, action: string, reason: string, room: number, slackMs: number) => ({ atUnixMs: atMs, policy: each.policy, action: `DECISION_ACTION_${action}`, node: each.node, reason, slackMs, ...(action === 'DELAY' ? { deadlineUnixMs: atMs + slackMs } : {}), ...(atMs > at + 2 ? { waitedMs: atMs - at } : {}), candidates: [best(room > 0 ? 0 : 118, room), ...rest], candidatesInAll: 7 + 9, localityThreshold: 0.5, predictedMs: 238, ...(isOver && action === 'DISPATCH' ? { measuredMs: 251 } : {}) });
  const step = (from: string, to: string, name: string, reason: string, atMs: number, delayingFor = '') => ({ invocationId: each.id, function: each.function, from: `INVOCATION_STATE_${from}`, to: `INVOCATION_STATE_${to}`, event: name, reason, node: to === 'CLASSIFIED' ? '' : each.node, atUnixMs: atMs, ...(delayingFor === '' ? {} : { delayingFor }) });
  const sentAt = at + 1.2 + waitedMs;
  const transitions = [step('ARRIVING', 'CLASSIFIED', 'PREDICTED', 'predicted', at + 0.9)];
  const decisions = [];
  if (waits) {
    decisions.push(decision(at + 1.1, 'DELAY', 'waitForLocalNode', 0, 1_279));
    transitions.push(step('CLASSIFIED', 'DELAYING', 'DELAY', 'waitForLocalNode', at + 1.1, 'locality'));
    if (isSent) {
      decisions.push(decision(at + 61, 'DELAY', 'revised', 0, 1_219));
      transitions.push(step('DELAYING', 'CLASSIFIED', 'CLASSIFY', 'localityGained', at + 60.8), step('CLASSIFIED', 'DELAYING', 'DELAY', 'waitForLocalNode', at + 61, 'locality'));
      decisions.push(decision(sentAt, 'DISPATCH', 'localNodeReleased', 1, 1_148));
      transitions.push(step('DELAYING', 'DISPATCHED', 'NODE_RELEASED', 'localNodeReleased', sentAt));
    }
  } else {
    decisions.push(decision(sentAt, 'DISPATCH', 'bestNodeHasRoom', 1, 1_279));
    transitions.push(step('CLASSIFIED', 'DISPATCHED', 'DISPATCH', 'bestNodeHasRoom', sentAt));
  }
  if (isSent) transitions.push(step('DISPATCHED', 'DISPATCHED', 'STARTED', 'started', sentAt + 12));
  if (isOver) transitions.push(step('DISPATCHED', 'COMPLETED', 'RESULT', 'completed', sentAt + 3 + 251));
  const totalMs = sentAt - at + 3 + 251;
  return {
    invocation: {
      id: each.id, function: each.function, state: `INVOCATION_STATE_${each.state.toUpperCase()}`, ...(each.state === 'delaying' ? { delayingFor: 'locality' } : {}), reason: each.reason, node: each.node, locality: best(0, 1).locality,
      phases: { predictedMs: 0.9, ...(isSent && waits ? { delayedMs: 131.7 } : {}), ...(isSent ? { dispatchedMs: 3 } : {}), ...(isOver ? { fetchedMs: 14, initialisedMs: 9, ranMs: 228, totalMs, startState: 'START_STATE_WARM' } : {}) },
      attempt: 1, arrivedAtUnixMs: at, ...(isOver ? { endedAtUnixMs: at + totalMs } : {}), slaMs: each.slaMs, predictedMs: 238, policy: each.policy,
    },
    decisions, transitions,
  };
}

/** A run that waits more under some policies than under others. */
function inventRun(policy: string, rank: number): SimulationRun {
  const random = createRandom(rank + 1);
  const frames: SimulationFrame[] = [];
  let completed = 0;
  for (let i = 0; i < 300; i++) {
    const simulatedMs = i * 100;
    const running = 18 + 8 * Math.sin(i / 20) + 3 * random.uniform(), delaying = Math.max(0, (rank === 0 ? 9 : 2) * (1 + Math.sin(i / 18 + rank)) + 2 * random.uniform());
    completed += 6 - rank;
    const transitions: TransitionRow[] = Array.from({ length: 4 }, (_, j) => ({ id: `sim-${i}-${j}`, function: FUNCTIONS[(i + j) % FUNCTIONS.length] ?? '', from: j === 3 ? 'dispatched' : 'classified', to: j === 3 ? 'completed' : j === 2 ? 'delaying' : 'dispatched', event: j === 3 ? 'RESULT' : j === 2 ? 'DELAY' : 'DISPATCH', reason: j === 3 ? 'completed' : j === 2 ? 'waitForLocalNode' : 'bestNodeHasRoom', node: `node-${1 + ((i + j) % 8)}`, delayingFor: j === 2 ? 'locality' : '', atMs: simulatedMs + j * 20 }));
    frames.push({
      simulatedMs, counts: [Math.round(random.uniform()), 0, Math.round(delaying), Math.round(running), completed, 0, 0, 0], transitions,
      nodes: Array.from({ length: 8 }, (_, n) => {
        const used = Math.max(0, Math.min(4, Math.round(running / 8 + Math.sin(i / 9 + n * 2) + (rank === 0 ? 0.2 : 0))));
        return { name: `node-${n + 1}`, state: 'ready', slots: 4, used, waiting: Math.round(delaying / 8), warm: Math.min(4, used + 1), zygotes: 1, cpu: used / 4, memoryUsed: 0.4, objectBytes: 4e8, fetchBytesPerS: 0 };
      }),
    });
  }
  return { policy, frames, summary: { completed, meanLatencyMs: 310 + 140 * rank, p99LatencyMs: 940 + 380 * rank, localShare: 0.88 - 0.3 * rank, slaMissed: 3 + 11 * rank, delayedMs: rank === 0 ? 4_210 : 380 } };
}
