/** `metronome top`, `metronome inspect` and `metronome policy shadow` against a gateway with a loop that says what the test wants. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TopWindow, topScreen } from '../../src/cli/output/top-text.ts';
import type { Inspected } from '../../src/gateway/loop-client.ts';
import type { NodeCell } from '../../src/inspect/page-api.ts';
import { Decision, DecisionAction, ExplainResponse, GetStatusResponse, WatchTrafficResponse } from '../../src/rpc/gen/metronome/v1/inspect.ts';
import { InvocationState, Transition } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { startTestGateway, type TestGateway } from '../gateway/fake-loop.ts';
import { run, type Ran, type RunOptions } from './run.ts';

const PATIENCE = { timeout: 20_000, interval: 5 };
let door: TestGateway;

beforeEach(async () => {
  door = await startTestGateway();
});
afterEach(() => door.close());

const cli = (args: readonly string[], options: RunOptions = {}): Promise<Ran> => run(['--scheduler', door.address, ...args], options);

const NODE: NodeCell = { name: 'n1', state: 'ready', slots: 4, used: 3, waiting: 2, warm: 3, zygotes: 1, cpu: 0.5, memoryUsed: 0.25, objectBytes: 2048, fetchBytesPerS: 0 };

/** One moment: `second` seconds in, twenty arrivals a second, each of 16 to 19 ms. */
function moment(second: number): Inspected {
  return {
    kind: 'inspected', hello: { version: 'test', startedAtMs: 1, policy: 'metronome', shadowPolicy: 'xfaas', simulated: false }, transitions: { next: 0, missed: 0, records: [] },
    tick: {
      atMs: 1_000_000 + second * 1_000, machines: { invocation: { counts: [0, 0, 2, 3, 20 * second, 0, 0, 0], flow: [] } }, live: 5, delayingForLocality: 1, delayingForCapacity: 1, counters: { submitted: 20 * second },
      ended: [{ function: 'f', policy: 'metronome', count: 20, failed: 1, slaMissed: 2, latencyMs: 340, delayedMs: 40, savedMs: 100, warm: 15, local: 10, error: 0, leastSlackMs: 1, histogram: [...Array.from({ length: 16 }, () => 0), 20] }],
      nodes: [NODE, { ...NODE, name: 'n2', used: 0 }], shadow: { policy: 'xfaas', decisions: 20, agreed: 5, activeMs: 400, shadowMs: 800 },
    },
  };
}

/** Runs while moments come. */
async function whileTold(run: Promise<Ran>): Promise<Ran> {
  let second = 0;
  await vi.waitFor(() => expect(door.loop.messages.some((message) => message.kind === 'inspect')).toBe(true), PATIENCE);
  const telling = setInterval(() => door.loop.post(moment(second++)), 10);
  try {
    return await run;
  } finally {
    clearInterval(telling);
  }
}

describe('metronome top', () => {
  it('--once prints one interval with rates, percentiles, waiting, the shadow and the nodes', async () => {
    const { code, out } = await whileTold(cli(['top', '--once']));
    expect(code).toBe(0);
    expect(out).toContain('policy metronome, shadow xfaas');
    expect(out).toContain('live 5, waiting for a better node 1, for room 1; in 20.0/s, out 20.0/s, failed 1.0/s');
    expect(out).toContain('shadow  agrees on 25% of 20 decisions; predicted completion 40.0 ms against 20.0 ms');
    expect(out).toMatch(/f +metronome +20\.0 +17\.4 +17\.4 +17\.4 +50% +75% +2 +1 +40\.0 +100/);
    expect(out).toMatch(/n1 +ready +██████░░ 3\/4 +2 +3 +1 +50% +25% +2\.0 KiB/);
    expect(out).not.toContain('\u001b');
  });

  it('prints a line from time to time where there is no terminal, and JSON where that is asked for', async () => {
    const lines = (await whileTold(cli(['top', '-n', '3']))).out.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[1]).toMatch(/live 5 {2}delaying 1\+1 {2}in 20\.0\/s {2}out 20\.0\/s {2}failed 2 {2}p50 17\.4 ms .* slots 3\/8$/);
    const json = (await whileTold(cli(['top', '-n', '2', '-o', 'json']))).out.trimEnd().split('\n').map((line) => WatchTrafficResponse.fromJSON(JSON.parse(line)));
    expect(json.map(({ policy }) => policy)).toEqual(['metronome', 'metronome']);
  });

  it('draws on a terminal without scrolling it, and leaves it as it was', async () => {
    const { out } = await whileTold(cli(['top', '-n', '2'], { columns: 60 }));
    expect(out.startsWith('\u001b[?1049h\u001b[?25l\u001b[H')).toBe(true);
    expect(out.endsWith('\u001b[?25h\u001b[?1049l')).toBe(true);
    expect(out.split('\u001b[?1049h')).toHaveLength(2);
    // oxlint-disable-next-line no-control-regex -- control characters are what this is about
    for (const line of out.replaceAll('\u001b[H', '\n').replaceAll(/\u001b\[[?\d]*[A-Za-z]/g, '').split('\n')) expect([...line].length).toBeLessThanOrEqual(60);
  });

  it('fails when nobody is there', async () => {
    const { code, err } = await run(['--scheduler', '127.0.0.1:1', 'top', '--once']);
    expect(code).toBe(6);
    expect(err).toContain('UNAVAILABLE');
  });

  it('fits into any screen, with nodes and functions', () => {
    const window = new TopWindow(10_000);
    const tell = (second: number): void => window.add(WatchTrafficResponse.fromPartial({
      atUnixMs: second * 1_000, policy: 'metronome', counters: { submitted: second }, nodes: Array.from({ length: 100 }, (_, i) => ({ name: `node-${i}`, state: 'ready', slots: 4 })), ended: Array.from({ length: 40 }, (_, i) => ({ function: `f${i}`, policy: 'p', count: 40 - i })),
    }));
    for (let second = 0; second < 30; second++) tell(second);
    const view = window.view()!;
    expect(view.windowMs).toBe(10_000);
    expect(view.submitted).toBe(10);
    expect(view.groups.find(({ function: name }) => name === 'f0')?.count).toBe(400);
    for (const rows of [8, 24, 50]) {
      const lines = topScreen(view, { columns: 80, rows, address: 'here' }).split('\n');
      expect(lines.length).toBeLessThanOrEqual(rows);
      if (rows >= 24) expect([lines.some((line) => line.startsWith('f0 ')), lines.some((line) => line.startsWith('node-'))]).toEqual([true, true]);
    }
    // Another scheduler at the same address counts anew.
    window.add(WatchTrafficResponse.fromPartial({ atUnixMs: 31_000, counters: { submitted: 1 } }));
    expect(window.view()?.windowMs).toBe(0);
  });
});

describe('metronome inspect', () => {
  const transitions = [
    Transition.fromPartial({ invocationId: 'i1', function: 'f', from: InvocationState.ARRIVING, to: InvocationState.CLASSIFIED, event: 'PREDICTED', reason: 'predicted', atUnixMs: 10 }),
    Transition.fromPartial({ invocationId: 'i1', function: 'f', from: InvocationState.CLASSIFIED, to: InvocationState.DISPATCHED, event: 'DISPATCH', reason: 'noLocalNode', node: 'n1', atUnixMs: 10 }),
    Transition.fromPartial({ invocationId: 'i1', function: 'f', from: InvocationState.DISPATCHED, to: InvocationState.COMPLETED, event: 'RESULT', reason: 'completed', node: 'n1', atUnixMs: 60 }),
  ];

  beforeEach(() => {
    // Two pages: the second begins where the first ended.
    door.loop.handlers.readTransitions = ({ from }) => (from === 0 ? { transitions: transitions.slice(0, 2), next: 102, end: false, missed: 100 } : { transitions: transitions.slice(2), next: 103, end: true, missed: 0 });
    door.loop.handlers.explain = ({ invocationId }) => ExplainResponse.fromPartial({ invocation: { id: invocationId, function: 'f' }, transitions, decisions: [Decision.fromPartial({ policy: 'metronome', action: DecisionAction.DISPATCH, node: 'n1', reason: 'noLocalNode' })] });
  });

  it('export reads all pages and says what is not remembered', async () => {
    const { code, out, err } = await cli(['inspect', 'export', '--format', 'mermaid']);
    expect(code).toBe(0);
    expect(out).toContain('dispatched --> completed : RESULT [succeeded] 1×');
    expect(err).toContain('100 further transitions are not in it');
    expect((await cli(['inspect', 'export', '--format', 'jsonl', '--since', '1h'])).err).toBe('');
  });

  it('export of one invocation has its decisions, in a file that opens in a browser', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'metronome-export-'));
    try {
      const { code, err } = await cli(['inspect', 'export', 'i1', '--file', 'x.html'], { cwd: dir });
      expect(code).toBe(0);
      expect(err).toContain('3 transitions written to');
      const html = await readFile(join(dir, 'x.html'), 'utf8');
      expect(html).toContain('"DECISION_ACTION_DISPATCH"');
      expect((await cli(['inspect', 'export', 'i1', '--file', 'no/such/folder.html'], { cwd: dir })).code).toBe(2);
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it('open says where the page is', async () => {
    door.loop.handlers.getStatus = () => GetStatusResponse.fromPartial({ pageUrl: 'http://127.0.0.1:7071/inspect/' });
    expect((await cli(['inspect', 'open'])).out).toBe('http://127.0.0.1:7071/inspect/\n');
    door.loop.handlers.getStatus = () => GetStatusResponse.fromPartial({});
    expect((await cli(['inspect', 'open'])).code).toBe(6);
  });

  it('stately says what to install', async () => {
    expect((await cli(['inspect', 'stately'])).err).toContain('npm install @statelyai/inspect');
  });
});

describe('metronome policy shadow', () => {
  it('puts a second policy beside the one in force, and takes it away', async () => {
    const asked: string[] = [];
    door.loop.handlers.setShadowPolicy = ({ policy }) => {
      const previous = asked.at(-1) ?? '';
      asked.push(policy);
      return { previous, active: policy };
    };
    expect((await cli(['policy', 'shadow', 'lookahead'])).err).toBe('shadow policy: lookahead (before: none)\n');
    expect((await cli(['policy', 'shadow', 'off'])).err).toBe('shadow policy: none (before: lookahead)\n');
    expect(asked).toEqual(['lookahead', '']);
    expect(JSON.parse((await cli(['policy', 'shadow', 'off', '-o', 'json'])).out)).toEqual({ previous: '', active: '' });
  });
});
