/**
 * The scheduler's behaviours, one by one, on virtual time and on both forms of the machines. Predictions are the fake's: a run
 * of f is expected to take 100 ms warm and 600 ms cold; with θ = 1000 and β = 0.1 a waiter whose fallback is cold waits at most 300 ms.
 */
import { describe, expect, it } from 'vitest';
import type { Engine } from '../../machines/host.ts';
import { importNeedOf } from '../../src/core/zygote-distance.ts';
import type { MetronomeError } from '../../src/core/errors.ts';
import { MAX_REJECTIONS, type Invocation } from '../../src/core/invocation.ts';
import { DRAINING, LOST, READY, STALE } from '../../src/scheduler/cluster-view.ts';
import type { Plan } from '../../src/scheduler/scheduler.ts';
import { HOP_MS, PUSH_MS, createCluster, resultOf, type Cluster, type ClusterOptions } from './cluster.ts';

/** No node has memory for another one, so no wait speaks for making it. */
const NO_SECOND_SANDBOX = { memoryMb: 2_000 };

describe.each<Engine>(['table', 'xstate'])('scheduler on engine %s', (engine) => {
  const make = (options: ClusterOptions = {}): Cluster => createCluster({ engine, ...options });

  /** f is warm on n0, whose only slot runs `blockMs`; n1 has room and is cold. */
  const busyLocal = (blockMs: number, settings: Parameters<Cluster['deploy']>[1] = {}, options: ClusterOptions = {}): { cluster: Cluster; blocker: Invocation } => {
    const cluster = make({ slots: [1, 4], ...options });
    cluster.deploy('f', settings);
    cluster.warm('f', cluster.nodes[0]!);
    const blocker = cluster.submit('f', blockMs);
    expect(blocker).toMatchObject({ node: 0, reason: 'bestNodeHasRoom' });
    return { cluster, blocker };
  };
  const codeOf = (act: () => unknown): MetronomeError => {
    try {
      act();
    } catch (error) {
      return error as MetronomeError; // the scheduler throws nothing else
    }
    return expect.fail('nothing was thrown');
  };

  describe('delaying for locality', () => {
    it('waits for the busy local node and goes there on its release', () => {
      const { cluster } = busyLocal(200);
      const waiter = cluster.submit();
      expect(waiter).toMatchObject({ delayingFor: 'locality', target: 0, reason: 'waitForLocalNode' });
      expect(waiter.slackDeadlineMs - waiter.arrivedAtMs).toBe(300);
      cluster.advance(200 + 2 * HOP_MS);
      expect(cluster.state(waiter)).toBe('dispatched');
      expect(waiter).toMatchObject({ node: 0, target: -1, reason: 'localNodeReleased', delayedMs: 202, queuedMs: 0, localClass: 1 });
      cluster.advance(200);
      expect(cluster.state(waiter)).toBe('completed');
    });

    it('goes to a fallback node when its slack is used up, not a millisecond before', () => {
      const { cluster } = busyLocal(1_000);
      const waiter = cluster.submit();
      cluster.advance(299);
      expect(cluster.state(waiter)).toBe('delaying');
      cluster.advance(1);
      expect(waiter).toMatchObject({ node: 1, reason: 'slackExhausted', delayedMs: 300, localClass: 2 });
      expect(cluster.scheduler.counters.slackExhausted).toBe(1);
    });

    it('counts the time already waited when it is classified again', () => {
      const { cluster } = busyLocal(1_000);
      const waiter = cluster.submit();
      cluster.advance(150);
      const other = cluster.addNode(1);
      cluster.advance(2 * HOP_MS);
      cluster.warm('f', other, 0, 1); // its only slot runs f there: warm somewhere else, the waiter looks again
      cluster.warm('f', other, 1, 0);
      cluster.submit('f', 1_000);
      cluster.advance(300 - 152);
      expect(waiter).toMatchObject({ node: 1, reason: 'slackExhausted', delayedMs: 300 });
    });

    it('moves its deadline with the prediction of the fallback nodes', () => {
      const { cluster } = busyLocal(1_000);
      const slower = cluster.submit();
      cluster.predictor.onNode.set(1, 750);
      cluster.advance(100); // one monitor interval
      expect(slower.slackDeadlineMs - slower.arrivedAtMs).toBe(150);
      cluster.predictor.onNode.set(1, 700);
      cluster.advance(50);
      expect(slower.slackDeadlineMs - slower.arrivedAtMs).toBe(200);
      cluster.advance(49);
      expect(cluster.state(slower)).toBe('delaying');
      cluster.advance(1);
      expect(slower).toMatchObject({ node: 1, delayedMs: 200 });
    });

    it('takes another local node that is as good when that one is released first', () => {
      const cluster = make({ slots: [1, 1, 4] });
      cluster.deploy();
      for (const node of [0, 1]) cluster.warm('f', cluster.nodes[node]!);
      cluster.submit('f', 1_000);
      cluster.submit('f', 100);
      const waiter = cluster.submit();
      expect(waiter.target).toBe(0);
      cluster.advance(100 + 2 * HOP_MS);
      expect(waiter).toMatchObject({ node: 1, reason: 'otherLocalNodeReleased' });
    });

    it('looks again at once when the zygote for which it waits goes', () => {
      const cluster = make({ slots: [1, 4], localityThreshold: 0.9 });
      const imports = importNeedOf([{ name: 'a', version: '1', direct: true }]);
      cluster.deploy('f', { zygote: { runtime: 'node', isolation: '', network: true, imports } });
      cluster.deploy('other');
      const zygote = { packageSet: 'p-f', runtime: 'node', isolation: 'process', defaultIsolation: true, network: true, sameSet: false, function: '', idle: 1, packages: ['a@1'], importMs: [80] };
      cluster.scheduler.setPackages('p-f', 0, true);
      cluster.scheduler.setZygote(0, zygote);
      cluster.warm('other', cluster.nodes[0]!);
      expect(cluster.submit('other', 1_000)).toMatchObject({ node: 0 });
      const waiter = cluster.submit();
      expect(waiter).toMatchObject({ delayingFor: 'locality', target: 0 });
      cluster.scheduler.setZygote(0, { ...zygote, idle: 0 });
      cluster.advance(0);
      expect(cluster.trace.some((line) => line.includes(`${waiter.id} delaying>classified CLASSIFY localityLost`))).toBe(true);
      expect(waiter).toMatchObject({ node: 1 });
    });

    it('is classified again at once when its target is lost', () => {
      const { cluster, blocker } = busyLocal(1_000, { idempotent: false });
      const waiter = cluster.submit();
      cluster.advance(10);
      cluster.kill(cluster.nodes[0]!, true);
      cluster.advance(0);
      expect(waiter).toMatchObject({ node: 1, reason: 'noLocalNode', delayedMs: 10 });
      expect(cluster.trace.some((line) => line.includes('TARGET_LOST targetLost'))).toBe(true);
      expect(cluster.state(blocker)).toBe('failed');
    });

    it('is classified again when its target drains or goes stale', () => {
      for (const leave of [(c: Cluster) => c.scheduler.drainNode(0, true), (c: Cluster) => c.disconnect(c.nodes[0]!)]) {
        const { cluster } = busyLocal(1_000);
        const waiter = cluster.submit();
        leave(cluster);
        cluster.advance(0);
        expect(waiter).toMatchObject({ node: 1, reason: 'noLocalNode' });
      }
    });

    it('is classified again when the warmth of its target goes', () => {
      const { cluster } = busyLocal(1_000);
      const waiter = cluster.submit();
      cluster.warm('f', cluster.nodes[0]!, 0, 0);
      cluster.advance(0);
      expect(waiter).toMatchObject({ node: 1, reason: 'noLocalNode' });
      expect(cluster.trace.some((line) => line.includes(`${waiter.id} delaying>classified CLASSIFY localityLost`))).toBe(true);
    });

    it('is classified again when the data that made its target local goes', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy('f');
      cluster.predictor.initMs[1] = 0; // starting is free, data is all
      cluster.scheduler.objectAdded('o', 500_000, 0);
      const inputs = [{ id: 'o', sizeBytes: 500_000, digest: '', name: '', holders: [] }];
      expect(cluster.submit('f', 1_000, { inputs })).toMatchObject({ node: 0, degreeData: 1 });
      const waiter = cluster.submit('f', 100, { inputs });
      expect(waiter).toMatchObject({ target: 0 });
      cluster.scheduler.objectRemoved('o', 0);
      cluster.advance(100);
      expect(waiter).toMatchObject({ node: 1 });
      expect(waiter.delayedMs).toBe(100);
    });

    it('looks again within one monitor interval when its function becomes warm on a node with room', () => {
      const { cluster } = busyLocal(1_000);
      const waiter = cluster.submit();
      cluster.warm('f', cluster.nodes[1]!);
      cluster.advance(100);
      expect(waiter).toMatchObject({ node: 1, reason: 'bestNodeHasRoom' });
    });

    it('always has an armed deadline, and none when it has ended', () => {
      const { cluster } = busyLocal(150);
      const waiter = cluster.submit('f', 10);
      for (let i = 0; i < 30; i++) {
        if (cluster.state(waiter) === 'delaying') expect(waiter.duePlace >= 0 && waiter.dueAtMs <= waiter.slackDeadlineMs).toBe(true);
        cluster.advance(10);
      }
      expect(cluster.state(waiter)).toBe('completed');
      expect(waiter.duePlace).toBe(-1);
    });

    it('ends in another node when the longest wait is over before the slack, not in an error', () => {
      const { cluster } = busyLocal(60_000, {}, { maxWaitMs: 200 });
      const waiter = cluster.submit('f', 10, { slaMs: 30_000 });
      cluster.advance(200);
      expect(waiter).toMatchObject({ node: 1, reason: 'slackExhausted', delayedMs: 200 });
    });
  });

  describe('the waiting line of a node', () => {
    it('is served by slack, then by arrival, and a newcomer overtakes nobody', () => {
      const { cluster } = busyLocal(50, NO_SECOND_SANDBOX);
      const relaxed = cluster.submit('f', 50, { slaMs: 3_000 });
      const first = cluster.submit('f', 50, { slaMs: 2_000 });
      const second = cluster.submit('f', 50, { slaMs: 2_000 });
      cluster.advance(51);
      const newcomer = cluster.submit('f', 50, { slaMs: 2_000 });
      const pressed = cluster.submit('f', 50, { slaMs: 1_500 });
      cluster.advance(500);
      const order = cluster.sent.filter(({ kind, node }) => kind === 'execute' && node === 0).map(({ id }) => id).slice(1);
      expect(order).toEqual([pressed, first, second, newcomer, relaxed].map(({ id }) => id));
      expect(cluster.scheduler.lines.waitingFor(0)).toBe(0);
    });

    it('comes before those who wait for any room', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy('f');
      cluster.deploy('g');
      cluster.warm('f', cluster.nodes[0]!);
      cluster.submit('f', 100);
      const local = cluster.submit('f', 50);
      expect(local).toMatchObject({ delayingFor: 'locality', target: 0 });
      const filler = cluster.submit('g', 250);
      expect(filler.node).toBe(1);
      const capacity = cluster.submit('g', 50, { slaMs: 200 });
      expect(capacity).toMatchObject({ delayingFor: 'capacity' });
      cluster.advance(100 + 2 * HOP_MS);
      expect(local).toMatchObject({ node: 0 });
      expect(cluster.state(capacity)).toBe('delaying');
      cluster.advance(50 + 2 * HOP_MS);
      expect(capacity).toMatchObject({ node: 0 });
    });

    it('comes before the next attempt of the run whose failure released the slot', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy('f', { retries: 3 });
      const failing = cluster.submit('f', 50, { fails: 'SANDBOX_FAILED' });
      const waiter = cluster.submit('f', 50);
      cluster.advance(50 + 2 * HOP_MS);
      expect(cluster.state(waiter)).toBe('dispatched');
      expect(cluster.state(failing)).toBe('delaying');
      expect(failing).toMatchObject({ delayingFor: 'capacity', attempt: 1 });
    });
  });

  describe('waiting for room', () => {
    it('is served before newcomers, by urgency then arrival', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.submit('f', 100);
      const relaxed = cluster.submit('f', 10, { slaMs: 5_000 });
      const first = cluster.submit('f', 10), second = cluster.submit('f', 10);
      expect(first).toMatchObject({ delayingFor: 'capacity', reason: 'noRoom' });
      cluster.advance(101);
      const newcomer = cluster.submit('f', 10);
      cluster.advance(200);
      const order = cluster.sent.filter(({ kind }) => kind === 'execute').map(({ id }) => id).slice(1);
      expect(order).toEqual([first, second, newcomer, relaxed].map(({ id }) => id));
      expect(first).toMatchObject({ queuedMs: 102, delayedMs: 0 });
    });

    it('ends when a node joins', () => {
      const cluster = make({ slots: [1] });
      cluster.predictor.initMs[1] = 0; // no locality: any node will do
      cluster.deploy();
      cluster.submit('f', 1_000);
      const waiter = cluster.submit();
      cluster.advance(20);
      cluster.addNode(1);
      cluster.advance(2 * HOP_MS);
      expect(waiter).toMatchObject({ node: 1, queuedMs: 22 });
    });

    it('fails with QUEUE_FULL after the longest wait, with NO_NODES when none is left', () => {
      const cluster = make({ slots: [1], maxWaitMs: 500 });
      cluster.deploy();
      cluster.submit('f', 5_000);
      const waiter = cluster.submit();
      cluster.advance(500);
      expect(cluster.state(waiter)).toBe('failed');
      expect(waiter.error).toMatchObject({ code: 'QUEUE_FULL', component: 'scheduler', invocationId: waiter.id });
      expect(waiter.error?.retryAfterMs).toBeGreaterThanOrEqual(50);
      const late = cluster.submit();
      cluster.kill(cluster.nodes[0]!, true);
      cluster.advance(500);
      expect(late.error).toMatchObject({ code: 'NO_NODES' });
    });

    it('ends at the deadline of the caller', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.submit('f', 5_000);
      const waiter = cluster.submit('f', 10, { expiresAtMs: cluster.clock.nowMs() + 70 });
      cluster.advance(69);
      expect(cluster.state(waiter)).toBe('delaying');
      cluster.advance(1);
      expect(cluster.state(waiter)).toBe('timedOut');
      expect(waiter.error?.code).toBe('DEADLINE_EXCEEDED');
      expect(cluster.starts.has(waiter.id)).toBe(false);
    });
  });

  describe('concurrency limits', () => {
    it('hold, and those who wait for their turn get it in order of arrival', () => {
      const cluster = make({ slots: [8] });
      cluster.deploy('f', { concurrency: 2 });
      const all = Array.from({ length: 5 }, () => cluster.submit('f', 100));
      expect(all.map((invocation) => invocation.reason)).toEqual(['noLocalNode', 'noLocalNode', 'concurrencyLimit', 'concurrencyLimit', 'concurrencyLimit']);
      cluster.advance(102);
      expect(all.map((invocation) => cluster.state(invocation))).toEqual(['completed', 'completed', 'dispatched', 'dispatched', 'delaying']);
      cluster.advance(1_000);
      expect(cluster.nodes[0]!.mostRunning).toBe(2);
      expect(cluster.settled).toEqual(all);
    });

    it('of one function hold up nobody else', () => {
      const cluster = make({ slots: [2] });
      cluster.deploy('limited', { concurrency: 1 });
      cluster.deploy('free');
      cluster.submit('limited', 400);
      cluster.submit('free', 100);
      const limited = cluster.submit('limited', 10, { slaMs: 100 });
      // Both wait for room; the limited one is the more urgent and may not run.
      const head = cluster.submit('limited', 10, { slaMs: 100 });
      const free = cluster.submit('free', 10);
      cluster.advance(102);
      expect(cluster.state(free)).toBe('dispatched');
      expect([limited, head].map((invocation) => invocation.reason)).toEqual(['concurrencyLimit', 'concurrencyLimit']);
    });

    it('that stand at the head of the line for room do not keep the room from the others', () => {
      const cluster = make({ slots: [2] });
      cluster.deploy('limited', { concurrency: 2 });
      cluster.deploy('free');
      cluster.submit('limited', 300);
      cluster.submit('free', 100);
      // Nothing has room: both wait for it, the limited ones first. Then the limit is lowered.
      const limited = cluster.submit('limited', 10, { slaMs: 100 });
      const free = cluster.submit('free', 10);
      expect(limited.reason).toBe('noRoom');
      cluster.deploy('limited', { concurrency: 1 });
      cluster.advance(102);
      expect(limited.reason).toBe('concurrencyLimit');
      expect(cluster.state(free)).toBe('dispatched');
    });

    it('that are reached when the slack ends keep the waiter waiting for its turn, not for room', () => {
      const { cluster } = busyLocal(1_000, { concurrency: 2 });
      const waiter = cluster.submit();
      expect(waiter.delayingFor).toBe('locality');
      // Another one takes the last turn before the slack of the first ends: it has no time to wait.
      expect(cluster.submit('f', 1_000, { slaMs: 100 })).toMatchObject({ node: 1, reason: 'slackExhausted' });
      cluster.advance(300);
      expect(waiter).toMatchObject({ delayingFor: 'capacity', reason: 'slackExhausted' });
      cluster.deploy('f', { concurrency: 3 });
      expect(cluster.state(waiter)).toBe('dispatched');
    });

    it('that are raised or lifted let the waiting go at once', () => {
      const cluster = make({ slots: [8] });
      cluster.deploy('f', { concurrency: 1 });
      const all = Array.from({ length: 6 }, () => cluster.submit('f', 100));
      const running = (): number => all.filter((invocation) => cluster.state(invocation) === 'dispatched').length;
      cluster.deploy('f', { concurrency: 3 });
      expect(running()).toBe(3);
      cluster.deploy('f', { concurrency: 0 });
      expect(running()).toBe(6);
    });

    it('do not forget those behind one that got its turn, waited for room and was cancelled', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy('limited', { concurrency: 1 });
      cluster.deploy('other');
      cluster.submit('limited', 100);
      const turn = cluster.submit('limited', 10), next = cluster.submit('limited', 10);
      const urgent = cluster.submit('other', 200, { slaMs: 10 });
      cluster.advance(102);
      expect(cluster.state(urgent)).toBe('dispatched');
      expect(turn).toMatchObject({ delayingFor: 'capacity', reason: 'noRoom' });
      cluster.scheduler.cancel(turn.id);
      cluster.advance(250);
      expect(cluster.state(next)).toBe('completed');
    });
  });

  describe('a locality key', () => {
    it('leads to the node that served it last, and only for its function', () => {
      const cluster = make({ slots: [4, 4, 4], localityThreshold: 2 });
      cluster.deploy('f');
      cluster.deploy('g');
      cluster.submit('f', 500);
      cluster.predictor.onNode.set(2, 50);
      expect(cluster.submit('f', 10, { localityKey: 'session-1' })).toMatchObject({ node: 2, localClass: 2 });
      cluster.predictor.onNode.clear();
      cluster.predictor.onNode.set(0, 99);
      cluster.predictor.onNode.set(2, 90);
      expect(cluster.submit('f', 10, { localityKey: 'session-1' })).toMatchObject({ node: 2, localClass: 1 });
      expect(cluster.submit('f', 10, { localityKey: 'session-2' })).toMatchObject({ localClass: 2 });
      expect(cluster.submit('g', 10, { localityKey: 'session-1' })).toMatchObject({ localClass: 2 });
    });

    it('may stand in the settings of the function', () => {
      const cluster = make({ slots: [4, 4], localityThreshold: 2 });
      cluster.deploy('f', { localityKey: 'all' });
      const { node } = cluster.submit('f', 10);
      cluster.advance(20);
      expect(cluster.submit('f', 10)).toMatchObject({ node, localClass: 1 });
    });
  });

  describe('admission', () => {
    it('refuses with QUEUE_FULL and a hint when too many live, and takes nothing in', () => {
      const cluster = make({ slots: [1], maxLive: 2 });
      cluster.deploy();
      cluster.submit('f', 400);
      cluster.submit('f', 400);
      const error = codeOf(() => cluster.submit());
      expect(error.code).toBe('QUEUE_FULL');
      expect(error.extras.retryAfterMs).toBeGreaterThanOrEqual(50);
      expect(error.extras.retryAfterMs).toBeLessThanOrEqual(10_000);
      expect(cluster.scheduler.live.size).toBe(2);
      expect(cluster.scheduler.counters).toMatchObject({ submitted: 2, refused: 1 });
    });

    it('refuses with NO_NODES while none is there, unless the caller is patient', () => {
      const cluster = make();
      cluster.deploy();
      expect(codeOf(() => cluster.submit())).toMatchObject({ code: 'NO_NODES', extras: { retryAfterMs: 1_000 } });
      const patient = cluster.submit('f', 10, { patient: true });
      expect(patient).toMatchObject({ reason: 'noNodes', delayingFor: 'capacity' });
      cluster.addNode(1);
      cluster.advance(2 * HOP_MS);
      expect(cluster.state(patient)).toBe('dispatched');
    });

    it('refuses unknown functions and policies by name', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      expect(codeOf(() => cluster.submit('nobody')).code).toBe('FUNCTION_NOT_FOUND');
      expect(codeOf(() => cluster.submit('f', 1, { policyName: 'metronom' })).message).toContain('Did you mean "metronome"?');
      expect(codeOf(() => cluster.deploy('g', { policy: 'fifo' })).code).toBe('POLICY_UNKNOWN');
      expect(codeOf(() => cluster.scheduler.setPolicy('fifo')).code).toBe('POLICY_UNKNOWN');
      expect(cluster.scheduler.live.size).toBe(0);
    });

    it('refuses new work while the scheduler drains, but goes on with accepted work', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const running = cluster.submit('f', 50), waiting = cluster.submit('f', 50);
      cluster.scheduler.drain();
      expect(codeOf(() => cluster.submit()).code).toBe('DRAINING');
      const patient = cluster.submit('f', 50, { patient: true });
      cluster.advance(500);
      expect([running, waiting, patient].map((invocation) => cluster.state(invocation))).toEqual(['completed', 'completed', 'completed']);
    });
  });

  describe('policies', () => {
    it('can be changed while it runs, by function and by caller', () => {
      const { cluster } = busyLocal(1_000);
      expect(cluster.scheduler.setPolicy('round-robin')).toBe('metronome');
      expect(cluster.submit()).toMatchObject({ decidedBy: 'round-robin', node: 1 });
      expect(cluster.submit('f', 10, { policyName: 'metronome' })).toMatchObject({ decidedBy: 'metronome', target: 0 });
      cluster.deploy('f', { policy: 'naive-locality' });
      expect(cluster.submit()).toMatchObject({ decidedBy: 'naive-locality' });
    });

    it('plan without doing anything', () => {
      const { cluster } = busyLocal(1_000);
      const before = { counters: { ...cluster.scheduler.counters }, sent: cluster.sent.length, live: cluster.scheduler.live.size };
      let plan!: Plan;
      cluster.scheduler.plan({ functionName: 'f', slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', cargo: undefined }, (planned) => (plan = planned));
      expect(plan.decision).toMatchObject({ action: 'delay', reason: 'waitForLocalNode', slackMs: 300 });
      expect(plan.candidates.node[plan.decision.row]).toBe(0);
      expect({ counters: { ...cluster.scheduler.counters }, sent: cluster.sent.length, live: cluster.scheduler.live.size }).toEqual(before);
    });
  });

  describe('nodes', () => {
    it('that drain get no new work, end what they have, and work again when restored', () => {
      const cluster = make({ slots: [2] });
      cluster.deploy();
      const running = cluster.submit('f', 100);
      cluster.scheduler.drainNode(0, true);
      expect(codeOf(() => cluster.submit()).code).toBe('NO_NODES');
      const patient = cluster.submit('f', 10, { patient: true });
      cluster.advance(150);
      expect(cluster.state(running)).toBe('completed');
      expect(cluster.state(patient)).toBe('delaying');
      cluster.scheduler.drainNode(0, false);
      expect(cluster.state(patient)).toBe('dispatched');
    });

    it('that drain stay so through a restart of their agent', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy();
      cluster.scheduler.drainNode(0, true);
      cluster.comeBack(cluster.nodes[0]!, true);
      cluster.advance(100);
      expect(cluster.submit().node).toBe(1);
      expect(cluster.submit()).toMatchObject({ reason: 'noRoom' });
    });

    it('restored from draining while their streams are broken get work only after a snapshot', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.scheduler.drainNode(0, true);
      cluster.disconnect(cluster.nodes[0]!);
      cluster.scheduler.drainNode(0, false);
      expect(cluster.scheduler.cluster.status[0]).toBe(STALE);
      const waiter = cluster.submit();
      cluster.advance(60);
      expect(cluster.state(waiter)).toBe('delaying');
      cluster.reconnect(cluster.nodes[0]!);
      cluster.advance(2 * HOP_MS);
      expect(cluster.state(waiter)).toBe('dispatched');
    });

    it('that are silent are stale: no new work, what runs may end; back on the next state', () => {
      const cluster = make({ slots: [2, 1] });
      cluster.deploy();
      const [silent] = cluster.nodes;
      const running = cluster.submit('f', 300);
      expect(running.node).toBe(0);
      silent!.isSilent = true;
      cluster.advance(250);
      expect(cluster.scheduler.cluster.status[0]).toBe(STALE);
      const elsewhere = cluster.submit('f', 10);
      expect(elsewhere.node).toBe(1);
      cluster.advance(100);
      expect(cluster.state(running)).toBe('completed');
      silent!.isSilent = false;
      cluster.advance(PUSH_MS);
      expect(cluster.scheduler.cluster.status[0]).toBe(READY);
      expect(cluster.submit('f', 10).node).toBe(0);
    });

    it('whose streams broke get no work before a snapshot, however fresh their last state', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.advance(PUSH_MS);
      cluster.disconnect(cluster.nodes[0]!);
      const waiter = cluster.submit();
      cluster.advance(120);
      expect(cluster.scheduler.cluster.status[0]).toBe(STALE);
      expect(cluster.sent).toEqual([]);
      cluster.reconnect(cluster.nodes[0]!);
      cluster.advance(2 * HOP_MS);
      expect(cluster.state(waiter)).toBe('dispatched');
    });

    it('that stay silent are lost: idempotent work runs again elsewhere, other work fails and says why', () => {
      const cluster = make({ slots: [2, 2] });
      cluster.deploy('again', { idempotent: true });
      cluster.deploy('once', { idempotent: false });
      cluster.warm('again', cluster.nodes[0]!);
      cluster.warm('once', cluster.nodes[0]!);
      const again = cluster.submit('again', 5_000), once = cluster.submit('once', 5_000);
      expect([again.node, once.node]).toEqual([0, 0]);
      cluster.advance(10);
      cluster.kill(cluster.nodes[0]!, false);
      cluster.advance(1_100);
      expect(cluster.scheduler.cluster.status[0]).toBe(LOST);
      expect(again).toMatchObject({ node: 1, attempt: 2 });
      expect(cluster.state(once)).toBe('failed');
      expect(once.error).toMatchObject({ code: 'NODE_LOST', invocationId: once.id });
      expect(once.error?.message).toContain('"n0" was lost');
      expect(cluster.starts.get(once.id)).toBe(1);
      expect(cluster.scheduler.counters.nodesLost).toBe(1);
    });

    it('lost again and again use up the attempts', () => {
      const cluster = make({ slots: [1, 1, 1, 1] });
      cluster.deploy('f', { retries: 2 });
      const invocation = cluster.submit('f', 60_000);
      for (let i = 0; i < 3; i++) {
        cluster.advance(10);
        cluster.kill(cluster.nodes[invocation.node]!, true);
      }
      expect(cluster.state(invocation)).toBe('failed');
      expect(invocation.attempt).toBe(3);
      expect(invocation.error?.message).toContain('its attempts are used up');
    });

    it('that come back with another epoch have lost what they ran', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 1_000);
      cluster.advance(10);
      cluster.comeBack(cluster.nodes[0]!, true);
      expect(invocation).toMatchObject({ node: 1, attempt: 2 });
      cluster.advance(2 * HOP_MS);
      expect(cluster.scheduler.cluster.used[0]).toBe(0);
      expect(cluster.scheduler.cluster.room(0, cluster.clock.nowMs())).toBe(1);
    });

    it('that register once more with the same epoch keep what they run', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 100);
      cluster.advance(10);
      cluster.scheduler.nodeRegistered({ name: 'n0', address: 'moved', dataUrl: '', epoch: 1, slots: 1, memoryMb: 1_024 });
      expect(cluster.scheduler.cluster.used[0]).toBe(1);
      cluster.advance(100);
      expect(cluster.state(invocation)).toBe('completed');
    });

    it('beyond the limit are refused, and take the places of lost ones with nothing of theirs', () => {
      const cluster = make({ slots: [1, 1], maxNodes: 2 });
      cluster.deploy();
      const info = { name: 'new', address: '', dataUrl: '', epoch: 7, slots: 3, memoryMb: 1_024 };
      expect(codeOf(() => cluster.scheduler.nodeRegistered(info)).code).toBe('QUEUE_FULL');
      cluster.scheduler.drainNode(1, true);
      cluster.kill(cluster.nodes[1]!, true);
      expect(cluster.scheduler.nodeRegistered(info)).toBe(1);
      cluster.scheduler.nodeSnapshot(1, 3, [], cluster.clock.nowMs());
      expect(cluster.scheduler.cluster).toMatchObject({ count: 2 });
      expect(cluster.scheduler.cluster.indexOf('n1')).toBe(-1);
      expect(cluster.scheduler.cluster.status[1]).toBe(READY);
      expect(cluster.scheduler.cluster.room(1, cluster.clock.nowMs())).toBe(3);
    });
  });

  describe('a snapshot', () => {
    it('books foreign work, and frees its slot when its result comes', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.scheduler.nodeSnapshot(0, 1, ['of a former scheduler'], cluster.clock.nowMs());
      expect(cluster.scheduler.cluster.used[0]).toBe(1);
      expect(cluster.scheduler.counters.slotRepairs).toBe(1);
      const waiter = cluster.submit();
      expect(waiter.reason).toBe('noRoom');
      expect(cluster.scheduler.result('of a former scheduler', 0, resultOf())).toBe(false);
      expect(cluster.state(waiter)).toBe('dispatched');
      expect(cluster.scheduler.cluster.used[0]).toBe(1);
    });

    it('sends again what never arrived, even what may run only once', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy('once', { idempotent: false });
      const [node] = cluster.nodes;
      node!.isConnected = false; // broken, and the scheduler does not know it yet
      const invocation = cluster.submit('once', 50);
      cluster.advance(5);
      cluster.disconnect(node!);
      cluster.reconnect(node!);
      cluster.advance(2 * HOP_MS);
      expect(invocation).toMatchObject({ node: 0, attempt: 1, rejections: 1 });
      // The situation of the dispatch that never arrived is not kept on.
      expect(cluster.predictor.excluded).toMatchObject({ refused: 1, lost: 0 });
      expect([...cluster.predictor.situations.keys()]).toEqual([invocation.situation]);
      cluster.advance(100);
      expect(cluster.state(invocation)).toBe('completed');
      expect(cluster.starts.get(invocation.id)).toBe(1);
      expect(cluster.predictor.situations.size).toBe(0);
    });

    it('leaves alone what was sent on the new streams already', () => {
      const cluster = make({ slots: [2] });
      cluster.deploy();
      const invocation = cluster.submit('f', 50);
      cluster.scheduler.nodeSnapshot(0, 2, [], cluster.clock.nowMs() - 1);
      expect(invocation).toMatchObject({ node: 0, rejections: 0 });
      expect(cluster.scheduler.cluster.used[0]).toBe(1);
    });

    it('that knows nothing of a run that had begun fails what may run only once', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy('once', { idempotent: false });
      const invocation = cluster.submit('once', 50_000);
      cluster.advance(10);
      expect(invocation.started).toBe(true);
      cluster.scheduler.nodeSnapshot(0, 1, [], cluster.clock.nowMs());
      expect(cluster.state(invocation)).toBe('failed');
      expect(invocation.error?.code).toBe('NODE_LOST');
    });

    it('teaches nothing with a run whose function was deleted meanwhile', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 50);
      cluster.advance(10);
      cluster.scheduler.deleteFunction('f');
      cluster.advance(1_000);
      expect(cluster.state(invocation)).toBe('completed');
      expect(cluster.predictor.observed).toEqual([]);
      expect(cluster.predictor.excluded).toMatchObject({ deleted: 1 });
      expect(cluster.predictor.situations.size).toBe(0);
    });

    it('changes the number of slots, up and down', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const all = Array.from({ length: 4 }, () => cluster.submit('f', 100));
      cluster.scheduler.nodeSnapshot(0, 3, all.filter(({ node }) => node === 0).map(({ id }) => id), cluster.clock.nowMs() - 1);
      expect(all.filter((invocation) => cluster.state(invocation) === 'dispatched')).toHaveLength(3);
      cluster.scheduler.nodeSnapshot(0, 1, all.slice(0, 3).map(({ id }) => id), cluster.clock.nowMs() - 1);
      expect(cluster.scheduler.cluster.room(0, cluster.clock.nowMs())).toBe(-2);
    });

    it('of a node that was lost and still runs what went on elsewhere leaks no slot', () => {
      const cluster = make({ slots: [2] });
      cluster.deploy('f', { retries: 5 });
      const [node] = cluster.nodes;
      const invocation = cluster.submit('f', 1_500);
      cluster.advance(10);
      node!.isSilent = true;
      cluster.advance(1_200);
      expect(cluster.scheduler.cluster.status[0]).toBe(LOST);
      expect(cluster.state(invocation)).toBe('delaying');
      cluster.comeBack(node!, false);
      cluster.advance(2_000);
      expect(cluster.state(invocation)).toBe('completed');
      expect(cluster.ends.get(invocation.id)).toBe(1);
      expect(cluster.scheduler.cluster.used[0]).toBe(0);
    });
  });

  describe('results', () => {
    it('free the slot, make the function warm, teach the predictor and name outputs', () => {
      const cluster = make({ slots: [1, 1] });
      const entry = cluster.deploy();
      const invocation = cluster.submit('f', 100);
      cluster.advance(10);
      cluster.scheduler.result(invocation.id, 0, resultOf({ ranMs: 90, startState: 1, initialisedMs: 400, outputs: [{ id: 'out', sizeBytes: 5, digest: '', name: '', holders: ['n0'] }] }));
      expect(invocation).toMatchObject({ node: 0, error: undefined });
      expect(cluster.scheduler.cluster.used[0]).toBe(0);
      expect(entry.idle(0)).toBe(1);
      expect(cluster.predictor.observed).toEqual([expect.objectContaining({ ranMs: 90, initialisedMs: 400, startState: 1, predictedMs: 600, predictedP95Ms: 600, predictedP99Ms: 600, node: 0 })]);
      expect(cluster.scheduler.objects.holderNames({ id: 'out', sizeBytes: 5, digest: '', name: '', holders: [] })).toEqual(['n0']);
    });

    it('of failed runs teach nothing, and leave no warm sandbox unless the function itself failed', () => {
      for (const [code, idle, state] of [['FUNCTION_FAILED', 1, 'failed'], ['FUNCTION_CRASHED', 0, 'failed'], ['FUNCTION_TIMEOUT', 0, 'timedOut'], ['CANCELLED', 0, 'cancelled']] as const) {
        const cluster = make({ slots: [1] });
        const entry = cluster.deploy();
        const invocation = cluster.submit('f', 20, { fails: code });
        cluster.advance(30);
        expect(cluster.state(invocation), code).toBe(state);
        expect(cluster.predictor.observed).toEqual([]);
        expect(entry.idle(0), code).toBe(idle);
      }
    });

    it('that are late, twice, from another node or of nobody change nothing', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 20);
      cluster.advance(5);
      expect(cluster.scheduler.result(invocation.id, 1, resultOf())).toBe(false);
      cluster.scheduler.started(invocation.id, 1, 1);
      expect(invocation.startState).toBe(4);
      cluster.advance(50);
      expect(cluster.scheduler.result(invocation.id, 0, resultOf({ code: 'FUNCTION_FAILED' }))).toBe(false);
      expect(cluster.scheduler.result('nobody', 0, resultOf())).toBe(false);
      expect(cluster.scheduler.result('nobody', 63, resultOf())).toBe(false);
      cluster.scheduler.rejected(invocation.id, 0, { code: 'NODE_FULL', message: '' });
      expect(cluster.ends.get(invocation.id)).toBe(1);
      expect(cluster.state(invocation)).toBe('completed');
      expect([...cluster.scheduler.cluster.used.slice(0, 2)]).toEqual([0, 0]);
    });

    it('of a fault of the platform are tried again only when the function is idempotent', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy('again', { retries: 2 });
      cluster.deploy('once', { idempotent: false, retries: 2 });
      const again = cluster.submit('again', 10, { fails: 'SANDBOX_FAILED' });
      cluster.advance(100);
      expect(again).toMatchObject({ attempt: 3, error: expect.objectContaining({ code: 'SANDBOX_FAILED' }) });
      const once = cluster.submit('once', 10, { fails: 'SANDBOX_FAILED' });
      cluster.advance(100);
      expect(once).toMatchObject({ attempt: 1, error: expect.objectContaining({ code: 'SANDBOX_FAILED' }) });
    });
  });

  describe('refusals', () => {
    it('are no attempt: the invocation goes elsewhere, and the node rests for a moment', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy('once', { idempotent: false });
      cluster.nodes[0]!.refusals = 1;
      const invocation = cluster.submit('once', 30);
      cluster.advance(2 * HOP_MS);
      expect(invocation).toMatchObject({ node: 1, attempt: 1, rejections: 0 });
      const waiter = cluster.submit('once', 10);
      expect(cluster.state(waiter)).toBe('delaying');
      cluster.advance(50);
      expect(waiter.node).toBeGreaterThanOrEqual(0);
    });

    it('for lack of room, however many, do not end it: it runs once there is room', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.nodes[0]!.refusals = 40;
      const invocation = cluster.submit();
      cluster.advance(90_000);
      expect(cluster.state(invocation)).toBe('completed');
      expect(cluster.scheduler.counters.rejected).toBe(40);
    });

    it('of a draining node make it get nothing more', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy();
      cluster.nodes[0]!.refusals = 1_000;
      cluster.nodes[0]!.refusalCode = 'DRAINING';
      for (let i = 0; i < 4; i++) {
        const invocation = cluster.submit();
        cluster.advance(1_000);
        expect(invocation.node).toBe(1);
      }
      expect(cluster.scheduler.cluster.status[0]).toBe(DRAINING);
      expect(cluster.scheduler.counters.rejected).toBe(1);
    });

    it('for other causes end in an error instead of going on for ever', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.nodes[0]!.refusals = 1_000;
      cluster.nodes[0]!.refusalCode = 'INTERNAL';
      const invocation = cluster.submit();
      cluster.advance(60_000);
      expect(cluster.state(invocation)).toBe('failed');
      expect(invocation).toMatchObject({ rejections: MAX_REJECTIONS, error: expect.objectContaining({ code: 'INTERNAL' }) });
    });
  });

  describe('ending early', () => {
    it('by cancel while it waits is at once, without any word to a node', () => {
      const { cluster } = busyLocal(1_000);
      const waiter = cluster.submit();
      expect(cluster.scheduler.cancel(waiter.id)).toBe(true);
      expect(cluster.state(waiter)).toBe('cancelled');
      expect(waiter.error?.code).toBe('CANCELLED');
      expect(cluster.scheduler.cancel(waiter.id)).toBe(false);
      expect(cluster.sent.filter(({ kind }) => kind === 'cancel')).toEqual([]);
      expect(cluster.scheduler.lines.waitingFor(0)).toBe(0);
    });

    it('by deadline while it runs goes by way of the node', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 5_000, { expiresAtMs: cluster.clock.nowMs() + 80 });
      cluster.advance(80);
      expect(cluster.state(invocation)).toBe('dispatched');
      expect(cluster.sent.at(-1)).toMatchObject({ kind: 'cancel', id: invocation.id, node: 0 });
      cluster.advance(2 * HOP_MS);
      expect(cluster.state(invocation)).toBe('timedOut');
      expect(invocation.error?.code).toBe('DEADLINE_EXCEEDED');
      expect(cluster.scheduler.cluster.used[0]).toBe(0);
    });

    it('comes too late for a run that succeeded meanwhile', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 50);
      cluster.advance(50 + HOP_MS);
      cluster.scheduler.cancel(invocation.id);
      cluster.advance(HOP_MS);
      expect(cluster.state(invocation)).toBe('completed');
      expect(invocation.error).toBeUndefined();
    });

    it('of a run whose node never answers ends after five seconds, however often it is asked for, and gives the slot back', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 60_000);
      cluster.advance(10);
      cluster.nodes[0]!.runs.clear(); // it forgot
      for (let i = 0; i < 49; i++) {
        cluster.scheduler.cancel(invocation.id);
        cluster.advance(100);
      }
      expect(cluster.state(invocation)).toBe('dispatched');
      cluster.advance(100);
      expect(cluster.state(invocation)).toBe('cancelled');
      expect(cluster.scheduler.cluster.used[0]).toBe(0);
      expect(cluster.sent.filter(({ kind }) => kind === 'cancel')).toHaveLength(1);
    });

    it('told on broken streams is told again when they stand', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 5_000);
      cluster.advance(10);
      cluster.nodes[0]!.isConnected = false; // broken, and the scheduler does not know it yet
      cluster.scheduler.cancel(invocation.id);
      cluster.disconnect(cluster.nodes[0]!);
      cluster.reconnect(cluster.nodes[0]!);
      cluster.advance(4 * HOP_MS);
      expect(cluster.state(invocation)).toBe('cancelled');
      expect(cluster.nodes[0]!.runs.size).toBe(0);
    });

    it('by cancel, while its node is lost, is the end: no further attempt', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy();
      const invocation = cluster.submit('f', 5_000);
      cluster.advance(10);
      cluster.nodes[0]!.isConnected = false;
      cluster.scheduler.cancel(invocation.id);
      cluster.kill(cluster.nodes[0]!, true);
      expect(cluster.state(invocation)).toBe('cancelled');
      expect(cluster.sent.filter(({ kind }) => kind === 'execute')).toHaveLength(1);
    });
  });

  describe('deleting a function', () => {
    it('fails what waits, lets end what runs, and tries nothing of it again', () => {
      const cluster = make({ slots: [2] });
      cluster.deploy('f');
      const running = cluster.submit('f', 100), failing = cluster.submit('f', 100, { fails: 'SANDBOX_FAILED' });
      const waiting = cluster.submit('f', 100);
      expect(cluster.scheduler.deleteFunction('f')).toBe(true);
      expect(cluster.scheduler.deleteFunction('f')).toBe(false);
      expect(waiting).toMatchObject({ reason: 'functionDeleted', error: expect.objectContaining({ code: 'FUNCTION_NOT_FOUND' }) });
      cluster.advance(200);
      expect(cluster.state(running)).toBe('completed');
      expect(failing).toMatchObject({ reason: 'functionDeleted', attempt: 1, error: expect.objectContaining({ code: 'FUNCTION_NOT_FOUND' }) });
      expect(cluster.scheduler.live.size).toBe(0);
      expect(cluster.scheduler.lines.capacity).toBe(0);
    });
  });

  describe('adopting', () => {
    it('takes back what runs on a node since before the restart, with its slot and attempt', () => {
      const cluster = make({ slots: [1] });
      const entry = cluster.deploy();
      cluster.scheduler.nodeSnapshot(0, 1, ['old-1'], cluster.clock.nowMs());
      const request = { functionName: 'f', slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', cargo: undefined, id: 'old-1' };
      const adopted = cluster.scheduler.adopt(request, 0, 2);
      expect(adopted).toMatchObject({ node: 0, attempt: 2, reason: 'adopted' });
      expect(cluster.scheduler.cluster.used[0]).toBe(1);
      expect(entry.running).toBe(1);
      expect(cluster.scheduler.adopt(request, 0, 2)).toBeUndefined();
      expect(cluster.scheduler.result('old-1', 0, resultOf())).toBe(true);
      expect(cluster.ends.get('old-1')).toBe(1);
      expect(cluster.scheduler.cluster.used[0]).toBe(0);
      expect(entry.running).toBe(0);
    });

    it('takes nothing that the node does not run', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      expect(cluster.scheduler.adopt({ functionName: 'f', slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', cargo: undefined, id: 'old-1' }, 0, 1)).toBeUndefined();
    });

    it('expires at its deadline like any other', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.scheduler.nodeSnapshot(0, 1, ['old-1'], cluster.clock.nowMs());
      const adopted = cluster.scheduler.adopt({ functionName: 'f', slaMs: 0, expiresAtMs: cluster.clock.nowMs() + 100, inputs: [], localityKey: '', policyName: '', cargo: undefined, id: 'old-1' }, 0, 1);
      cluster.advance(100);
      expect(cluster.sent).toEqual([expect.objectContaining({ kind: 'cancel', id: 'old-1' })]);
      cluster.advance(5_000);
      expect(cluster.state(adopted!)).toBe('timedOut');
    });
  });

  describe('the situation of a dispatch', () => {
    it('is kept until the run ends, and taught only by success', () => {
      const cluster = make({ slots: [4] });
      cluster.deploy('f', { retries: 0 });
      cluster.submit('f', 10);
      for (const fails of ['FUNCTION_FAILED', 'FUNCTION_TIMEOUT', 'MEMORY_EXCEEDED'] as const) cluster.submit('f', 10, { fails });
      expect([...cluster.predictor.situations.values()]).toEqual([0, 0, 0, 0]);
      cluster.advance(20);
      expect(cluster.predictor.observed).toEqual([expect.objectContaining({ node: 0, ranMs: 10, situation: 0 })]);
      expect(cluster.predictor.excluded).toEqual({ failed: 1, timedOut: 1, memoryExceeded: 1, cancelled: 0, lost: 0, refused: 0, deleted: 0 });
      expect(cluster.predictor.situations.size).toBe(0);
    });

    it('is forgotten when the node refuses or is lost, or somebody cancels', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.nodes[0]!.refusals = 1;
      const invocation = cluster.submit('f', 1_000);
      cluster.advance(200);
      expect(cluster.state(invocation)).toBe('dispatched');
      cluster.scheduler.cancel(invocation.id);
      cluster.advance(10);
      cluster.submit('f', 1_000);
      cluster.advance(10);
      cluster.kill(cluster.nodes[0]!, true);
      expect(cluster.predictor.excluded).toMatchObject({ refused: 1, cancelled: 1, lost: 1 });
      expect(cluster.predictor.situations.size).toBe(0);
      expect(cluster.predictor.observed).toEqual([]);
    });
  });

  describe('while predictions are on their way', () => {
    it('an invocation stands in arriving, then goes on; the time is booked', () => {
      const cluster = make({ slots: [1] });
      cluster.deploy();
      cluster.predictor.atOnce = false;
      const invocation = cluster.submit();
      expect(cluster.state(invocation)).toBe('arriving');
      cluster.advance(7);
      expect(cluster.predictor.answer()).toBe(1);
      expect(invocation).toMatchObject({ node: 0, predictedMs: 7 });
    });

    it('whoever waits and is looked at again gets the best that is known, at once', () => {
      const { cluster, blocker } = busyLocal(100);
      const waiting = cluster.submit();
      expect(cluster.state(waiting)).toBe('delaying');
      cluster.predictor.atOnce = false;
      cluster.advance(104);
      expect(cluster.state(blocker)).toBe('completed');
      expect(waiting).toMatchObject({ node: 0, placedBecause: 'localNodeReleased' });
      expect(cluster.predictor.answer()).toBe(0);
    });

    it('a plan comes when they came', () => {
      const { cluster } = busyLocal(1_000);
      cluster.predictor.atOnce = false;
      const plans: Plan[] = [];
      cluster.scheduler.plan({ functionName: 'f', slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', cargo: undefined }, (plan) => plans.push(plan));
      expect(plans).toEqual([]);
      expect(cluster.predictor.answer()).toBe(1);
      expect(plans).toHaveLength(1);
      expect(plans[0]?.decision).toMatchObject({ action: 'delay', reason: 'waitForLocalNode' });
    });

    it('it decides with what is known when they do not come for two seconds, and a late one changes nothing', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy('f', { slaMs: 60_000 });
      cluster.predictor.atOnce = false;
      const invocation = cluster.submit('f', 100);
      cluster.advance(1_999);
      expect(cluster.state(invocation)).toBe('arriving');
      cluster.advance(1);
      expect(cluster.state(invocation)).toBe('dispatched');
      expect(cluster.predictor.answer()).toBe(1);
      cluster.advance(200);
      expect(cluster.state(invocation)).toBe('completed');
      expect(cluster.sent).toHaveLength(1);
    });

    it('a plan is answered with what is known when they do not come for two seconds, once', () => {
      const cluster = make({ slots: [1, 1] });
      cluster.deploy('f', { slaMs: 60_000 });
      cluster.predictor.atOnce = false;
      const plans: Plan[] = [];
      cluster.scheduler.plan({ functionName: 'f', slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', cargo: undefined }, (plan) => plans.push(plan));
      cluster.advance(1_999);
      expect(plans).toHaveLength(0);
      cluster.advance(1);
      expect(plans[0]?.decision.action).toBe('dispatch');
      cluster.predictor.answer();
      cluster.advance(5_000);
      expect(plans).toHaveLength(1);
    });

    it('it can be cancelled, expires, or is given up after the longest wait', () => {
      const cluster = make({ slots: [1], maxWaitMs: 400 });
      cluster.deploy();
      cluster.predictor.atOnce = false;
      const cancelled = cluster.submit(), expired = cluster.submit('f', 10, { expiresAtMs: cluster.clock.nowMs() + 100 }), forgotten = cluster.submit();
      cluster.scheduler.cancel(cancelled.id);
      expect(cluster.state(cancelled)).toBe('cancelled');
      cluster.advance(100);
      expect(cluster.state(expired)).toBe('timedOut');
      cluster.advance(300);
      expect(cluster.state(forgotten)).toBe('failed');
      expect(cluster.predictor.answer()).toBe(3);
      expect(cluster.sent).toEqual([]);
      expect([...cluster.ends.values()]).toEqual([1, 1, 1]);
    });
  });

  describe('the work of a release', () => {
    /** Decisions, transitions and dispatches that one release causes while `waiting` invocations delay for another node. */
    const costOf = (waiting: number): { decisions: number; transitions: number; dispatches: number } => {
      const cluster = make({ slots: [1, 1, 1], maxLive: 20_000, monitorIntervalMs: 1_000_000 });
      cluster.deploy('f', { slaMs: 100_000_000, ...NO_SECOND_SANDBOX });
      cluster.deploy('g', { slaMs: 100_000_000, ...NO_SECOND_SANDBOX });
      cluster.warm('f', cluster.nodes[0]!);
      cluster.warm('g', cluster.nodes[1]!);
      cluster.submit('f', 50_000);
      const released = cluster.submit('g', 100);
      const next = cluster.submit('g', 100);
      for (let i = 0; i < waiting; i++) cluster.submit('f', 100);
      expect(cluster.scheduler.lines.locality).toBe(waiting + 1);
      cluster.advance(90);
      const before = { decisions: cluster.scheduler.counters.decisions, transitions: cluster.trace.length, dispatches: cluster.sent.length };
      cluster.advance(12);
      expect([released, next].map((invocation) => cluster.state(invocation))).toEqual(['completed', 'dispatched']);
      return { decisions: cluster.scheduler.counters.decisions - before.decisions, transitions: cluster.trace.length - before.transitions, dispatches: cluster.sent.length - before.dispatches };
    };

    it('is the same with 10 000 waiting as with 10', () => {
      const few = costOf(10);
      expect(few).toEqual({ decisions: 0, transitions: 2, dispatches: 1 });
      expect(costOf(engine === 'table' ? 10_000 : 2_000)).toEqual(few);
    });
  });
});
