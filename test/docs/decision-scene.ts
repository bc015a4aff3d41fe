/**
 * The scene of the decision in README.md, played by the real scheduler on virtual time: a log and two warm sandboxes are on node-2,
 * node-2 is full, and a third request comes. `npx node test/docs/decision-scene.ts` prints what the README shows.
 */
import { createVirtualClock } from '../../src/core/clock.ts';
import type { Invocation, RunResult } from '../../src/core/invocation.ts';
import { explanationText } from '../../src/cli/output/explain-text.ts';
import { toDecision, toInvocation, toTransition } from '../../src/daemon/messages.ts';
import { TransitionRing } from '../../src/inspect/transition-ring.ts';
import { createMovingAveragePredictor } from '../../src/predictor/moving-average.ts';
import { COLD, NO_SITUATION, WARM } from '../../src/predictor/predictor.ts';
import { createNodeTable } from '../../src/scheduler/cluster-view.ts';
import { Scheduler } from '../../src/scheduler/scheduler.ts';

const THRESHOLD = 0.1;
const LOG_BYTES = 20 * 1024 ** 2;
const NODES = ['node-1', 'node-2', 'node-3'];

/** Plays the scene. The explanation of the third request, from its first decision on. */
export function playScene(): string {
  const clock = createVirtualClock(1_000_000);
  const transitions = new TransitionRing(1_024);
  const scheduler = new Scheduler({
    clock, seed: 1, engine: 'table', policy: 'metronome', localityGain: 0.85, safetyMargin: 0.1, strict: false, localityThreshold: THRESHOLD, monitorIntervalMs: 100,
    staleAfterMs: 60_000, lostAfterMs: 120_000, maxLive: 100, maxNodes: 8, maxObjects: 100, maxWaitMs: 60_000, rememberDecisions: 64, idPrefix: 'inv-', nodeTable: createNodeTable(8),
    predictor: createMovingAveragePredictor(),
    transport: { execute() {}, cancel() {} },
    observer: { transitioned: (invocation, from, to, event) => transitions.record(invocation, from, to, event), settled() {} },
  });
  try {
    const entry = scheduler.putFunction({ name: 'log-analyze', version: 'v1', packageSet: 'p1', slaMs: 2_000, timeoutMs: 60_000, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false });
    for (const name of NODES) scheduler.nodeSnapshot(scheduler.nodeRegistered({ name, address: '', dataUrl: '', epoch: 1, slots: 2, memoryMb: 1_024 }), 2, [], 0);
    // What was measured before: 240 ms in the handler, 380 ms for a cold start, 320 ms to move the log.
    for (const node of NODES.keys()) {
      for (const [startState, initialisedMs] of [[COLD, 380], [WARM, 0.4]] as const) {
        scheduler.predictor.observe({ functionIndex: entry.index, node, startState, inputBytes: LOG_BYTES, fetchedBytes: LOG_BYTES, fetchedMs: 320, initialisedMs, ranMs: 240, predictedMs: 0, situation: NO_SITUATION });
      }
    }
    const log = { id: 'obj-access-log', sizeBytes: LOG_BYTES, digest: '', name: 'access.log', holders: ['node-2'] };
    scheduler.objectAdded(log.id, log.sizeBytes, 1);
    scheduler.setWarm('log-analyze', 'v1', 1, 2, 0);
    const submit = (): Invocation => scheduler.submit({ functionName: 'log-analyze', slaMs: 0, expiresAtMs: Infinity, inputs: [log], localityKey: '', policyName: '', cargo: undefined });
    const result = (ranMs: number): RunResult => ({ payload: new Uint8Array(), contentType: 'application/json', outputs: [], fetchedMs: 0, initialisedMs: 0.4, installedMs: 0, ranMs, startState: WARM, fetchedBytes: 0, acceptedAtMs: 0, releasedAtMs: 0 });

    const first = submit();
    clock.advance(90);
    submit();
    clock.advance(60);
    const third = submit();
    clock.advance(88);
    scheduler.result(first.id, 1, result(237));
    clock.advance(246);
    scheduler.result(third.id, 1, result(245));
    const text = explanationText({
      invocation: toInvocation(third, scheduler.cluster, clock.nowMs(), { runId: '', step: '' }, false),
      decisions: scheduler.decisions.of(third).map((decision) => toDecision(decision, scheduler.cluster, THRESHOLD)),
      transitions: transitions.of(third.id).map((transition) => toTransition(transition, scheduler.cluster)),
    }, undefined);
    return text.slice(text.indexOf('1. ')).trimEnd();
  } finally {
    scheduler.stop();
  }
}

if (process.argv[1] === import.meta.filename) process.stdout.write(`${playScene()}\n`);
