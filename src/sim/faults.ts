/**
 * Faults from the seed. Nodes die, hang, grow slow, drain, lose their streams, data or warmth, and lie about warmth and slots; messages are late, lost, in
 * another order, or come twice; predictions are wrong, late or missing; the scheduler's clock jumps; with several
 * schedulers one of them dies, or messages about leases of slots are late or lost. Each heals after a while. One stream of
 * randomness per kind, so that switching one off leaves the others as they were.
 *
 * Streams keep their order and lose nothing without breaking, as real ones do (ARCHITECTURE.md): a lost message breaks its stream, and only what
 * travels on different streams overtakes.
 */
import { exponential } from '../core/distributions.ts';
import { createRandom, type Random } from '../core/random.ts';
import type { TimerHandle } from '../core/clock.ts';
import { LOST } from '../scheduler/cluster-view.ts';
import type { Simulation } from './simulation.ts';
import type { Disturbance } from './slot-leases.ts';
import type { PredictionFaults } from './unreliable-predictor.ts';

/** Kinds of faults. The place of a kind is its stream of randomness: new ones come at the end. */
export const FAULT_KINDS = [
  'kill', 'hang', 'disconnect', 'loseData', 'slow', 'drain', 'forgetWarm', 'lateMessages', 'duplicateResults',
  'loseWarm', 'claimWarm', 'claimSlots', 'loseMessages', 'reorderMessages', 'wrongPredictions', 'latePredictions', 'missingPredictions', 'clockJump',
  'killShard', 'lateLeases', 'lostLeases',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];
/** Those that happen to shards, and need some. */
export const SHARD_FAULT_KINDS: readonly FaultKind[] = ['killShard', 'lateLeases', 'lostLeases'];

/** How often each kind happens in the whole cluster, per minute. @default 0 */
export type FaultRates = Readonly<Partial<Record<FaultKind, number>>>;

/** How long a fault lasts on average, ms. */
const LASTS_MS = 2_000;
const SLOW = 0.2;
/** Share of messages that are lost. */
const LOST_SHARE = 0.05;
/** A node that boasts says that it has up to so many times its slots. */
const BOAST = 3;
const LONGEST_JUMP_MS = 10_000;
/** Share of the messages about leases that is lost for a while, and by how much late ones are late at most, ms. */
const LOST_LEASES = 0.5, LATE_LEASES_MS = 200;

export class FaultInjector {
  /** Faults so far. */
  count = 0;
  readonly #sim: Simulation;
  readonly #predictions: PredictionFaults | undefined;
  readonly #timers = new Set<TimerHandle>();
  /** What has to be put right again at the end. */
  readonly #open = new Set<() => void>();
  #stopped = false;

  /** `predictions`: what may be wrong with the predictor, if anything. */
  constructor(sim: Simulation, rates: FaultRates, seed: number, predictions?: PredictionFaults) {
    this.#sim = sim;
    this.#predictions = predictions;
    FAULT_KINDS.forEach((kind, i) => {
      const perMinute = rates[kind] ?? 0;
      if (perMinute > 0) this.#plan(kind, perMinute, createRandom(seed, 500 + i));
    });
  }

  /** No more faults; everything is put right. */
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) this.#sim.clock.clearTimer(timer);
    for (const heal of [...this.#open]) heal();
    // Nodes that count as lost register again, as their agents do.
    for (const node of this.#sim.nodes) if (this.#sim.schedulers.some(({ cluster }) => cluster.status[node.index] === LOST)) this.#sim.registerAgain(node.index);
  }

  #plan(kind: FaultKind, perMinute: number, random: Random): void {
    const timer = this.#sim.clock.setTimer(this.#sim.clock.nowMs() + exponential(random, 60_000 / perMinute), () => {
      this.#timers.delete(timer);
      if (this.#stopped) return;
      this.#inject(kind, random.below(this.#sim.nodes.length), random);
      this.#plan(kind, perMinute, random);
    });
    this.#timers.add(timer);
  }

  /** Heals after a while, or at the end. */
  #later(random: Random, heal: () => void): void {
    const once = (): void => {
      if (this.#open.delete(once)) heal();
    };
    this.#open.add(once);
    const timer = this.#sim.clock.setTimer(this.#sim.clock.nowMs() + exponential(random, LASTS_MS), () => {
      this.#timers.delete(timer);
      once();
    });
    this.#timers.add(timer);
  }

  #inject(kind: FaultKind, index: number, random: Random): void {
    const sim = this.#sim;
    const node = sim.nodes[index];
    if (node === undefined) return;
    this.count++;
    switch (kind) {
      case 'kill':
        if (!node.isAlive) return;
        sim.kill(index, random.uniform() < 0.5);
        return this.#later(random, () => sim.restart(index));
      case 'hang':
        node.isHanging = true;
        return this.#later(random, () => {
          node.isHanging = false;
          if (node.isAlive) sim.registerAgain(index);
        });
      case 'disconnect':
        sim.disconnect(index);
        return this.#later(random, () => sim.reconnect(index));
      case 'loseData':
        return node.loseData();
      case 'slow':
        node.processor.setSpeed(SLOW);
        return this.#later(random, () => node.processor.setSpeed(1));
      case 'drain':
        for (const scheduler of sim.living()) scheduler.drainNode(index, true);
        return this.#later(random, () => {
          for (const scheduler of sim.living()) scheduler.drainNode(index, false);
        });
      case 'forgetWarm':
        // It says that it has nothing warm, whatever is true.
        return node.lie();
      case 'lateMessages':
        sim.slowMessages(index, 20 + 200 * random.uniform());
        return this.#later(random, () => sim.slowMessages(index, 0));
      case 'duplicateResults':
        sim.duplicateResults(index, true);
        return this.#later(random, () => sim.duplicateResults(index, false));
      case 'loseWarm':
        return node.loseWarm();
      case 'claimWarm':
        // It says that all its functions have warm sandboxes, whatever is true.
        return node.lie(node.options.slots);
      case 'claimSlots':
        sim.claimSlots(index, 1 + random.below(BOAST * node.options.slots));
        return this.#later(random, () => sim.claimSlots(index, undefined));
      case 'loseMessages':
        sim.loseMessages(index, { random, share: LOST_SHARE });
        return this.#later(random, () => sim.loseMessages(index, undefined));
      case 'reorderMessages':
        sim.reorderMessages(index, random);
        return this.#later(random, () => sim.reorderMessages(index, undefined));
      case 'clockJump':
        return sim.jumpClock(Math.ceil(LONGEST_JUMP_MS * random.uniform()));
      case 'wrongPredictions':
      case 'latePredictions':
      case 'missingPredictions':
        return this.#spoil(kind, random);
      case 'killShard': {
        const shard = index % sim.schedulers.length;
        sim.killShard(shard);
        return this.#later(random, () => sim.restartShard(shard));
      }
      case 'lateLeases':
        return this.#disturb(random, { lateMs: LATE_LEASES_MS }, { lateMs: 0 });
      case 'lostLeases':
        return this.#disturb(random, { lost: LOST_LEASES }, { lost: 0 });
    }
  }

  /** All messages about leases at once. */
  #disturb(random: Random, how: Partial<Disturbance>, afterwards: Partial<Disturbance>): void {
    const { leases } = this.#sim;
    if (leases === undefined) return;
    leases.disturbance = { ...leases.disturbance, ...how };
    this.#later(random, () => {
      leases.disturbance = { ...leases.disturbance, ...afterwards };
    });
  }

  /** All predictions at once: there is one predictor. */
  #spoil(kind: 'wrongPredictions' | 'latePredictions' | 'missingPredictions', random: Random): void {
    const faults = this.#predictions;
    if (faults === undefined) return;
    switch (kind) {
      case 'wrongPredictions':
        faults.wrong = random;
        return this.#later(random, () => (faults.wrong = undefined));
      case 'latePredictions':
        faults.lateMs = 5 + 500 * random.uniform();
        return this.#later(random, () => (faults.lateMs = 0));
      case 'missingPredictions':
        faults.missing = true;
        return this.#later(random, () => (faults.missing = false));
    }
  }
}
