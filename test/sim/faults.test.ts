/** Simulations with faults. A failure prints the one command that replays its seed, and the smallest scenario that still fails. */
import { describe, expect, it } from 'vitest';
import { POLICY_NAMES } from '../../src/policy/registry.ts';
import { FAULT_KINDS, SHARD_FAULT_KINDS } from '../../src/sim/faults.ts';
import { breachesOf } from '../../src/sim/invariants.ts';
import { runScenario, type Scenario } from '../../src/sim/scenario.ts';
import { formatReduction, parseReduction, reduce, shrink } from '../../src/sim/shrink.ts';
import { Simulation } from '../../src/sim/simulation.ts';
import { DECEITFUL, ROUGH } from './scenario.ts';

const replayed = process.env.METRONOME_SEED;
const SCENARIOS: Readonly<Record<string, Scenario>> = { rough: ROUGH, deceitful: DECEITFUL };

describe.each(Object.keys(SCENARIOS).flatMap((name) => POLICY_NAMES.map((policy) => [name, policy] as const)))('with %s faults under policy %s', (name, policy) => {
  it('what must always hold holds all along', async () => {
    const scenario = SCENARIOS[name]!;
    const seeds = replayed === undefined ? Array.from({ length: policy === 'metronome' || policy === 'lookahead' ? 12 : 4 }, (_, i) => i + 1) : [Number(replayed)];
    for (const seed of seeds) {
      const result = runScenario(scenario, policy, seed);
      if (result.breaches.length > 0) {
        expect.fail(`${result.breaches.slice(0, 3).join('; ')}\nagain: METRONOME_SEED=${seed} npx vitest run test/sim/faults.test.ts -t 'with ${name} faults under policy ${policy}'\nshrunk to ${formatReduction(await shrink(scenario, policy, seed))}`);
      }
      expect(result.faults).toBeGreaterThan(5);
      expect(result.completed).toBeGreaterThan(0.9 * result.submitted);
    }
  });
});

describe('with all faults at once and the forest as predictor', () => {
  it.each(['metronome', 'lookahead'])('what must always hold holds under policy %s', (policy) => {
    const scenario: Scenario = { ...DECEITFUL, predictor: 'forest', faults: { ...ROUGH.faults, ...DECEITFUL.faults } };
    for (const seed of [1, 2]) expect(runScenario(scenario, policy, seed), `seed ${seed}`).toMatchObject({ breaches: [] });
  });
});

describe('with faults while decisions are made by polls', () => {
  it('nobody is said to pass room over before the next poll', () => {
    for (const seed of [1, 2, 3]) expect(runScenario({ ...ROUGH, scheduler: { decideOn: 'polls' } }, 'metronome', seed), `seed ${seed}`).toMatchObject({ breaches: [] });
  });
});

describe('with three times as many faults of all kinds', () => {
  // The moment at which everything heals: a node registers again while it counts as connected, and work is decided on in the same instant.
  it.each([1377, 1475])('nothing runs twice that must run once, seed %i', (seed) => {
    const faults = Object.fromEntries(Object.entries({ ...ROUGH.faults, ...DECEITFUL.faults }).map(([kind, perMinute]) => [kind, 3 * perMinute]));
    for (const policy of ['naive-locality', 'metronome']) expect(runScenario({ ...DECEITFUL, faults }, policy, seed), policy).toMatchObject({ breaches: [] });
  });
});

describe('faults', () => {
  it('of every kind happen', () => {
    const calmWith = (shards: number): string => runScenario({ ...ROUGH, durationMs: 10_000, shards, faults: {} }, 'metronome', 3).digest;
    const alone = calmWith(1), sharded = calmWith(2);
    for (const kind of FAULT_KINDS) {
      const shards = SHARD_FAULT_KINDS.includes(kind) ? 2 : 1, calm = shards === 2 ? sharded : alone;
      // Inputs are read soon after they were put there: many must be lost for one to be missed. And few waits are near their deadline when the clock jumps.
      const perMinute = kind === 'loseData' ? 6_000 : kind === 'clockJump' ? 300 : 30;
      const { faults, digest, breaches } = runScenario({ ...ROUGH, durationMs: 10_000, shards, faults: { [kind]: perMinute } }, 'metronome', 3);
      expect(faults, kind).toBeGreaterThan(0);
      // A result that comes again is noticed by nobody; everything else is.
      if (kind === 'duplicateResults') expect(digest).toBe(calm);
      else expect(digest, `${kind} changes nothing`).not.toBe(calm);
      expect(breaches, kind).toEqual([]);
    }
  });

  it('are the same for the same seed', () => {
    for (const scenario of [ROUGH, DECEITFUL]) expect(runScenario(scenario, 'metronome', 5)).toEqual(runScenario(scenario, 'metronome', 5));
    expect(runScenario(ROUGH, 'metronome', 5).digest).not.toBe(runScenario(ROUGH, 'metronome', 6).digest);
  });

  it('that are looked for leave the run as it is: checking has no effect', () => {
    expect(runScenario(ROUGH, 'lookahead', 2, false).digest).toBe(runScenario(ROUGH, 'lookahead', 2, true).digest);
  });
});

describe('the invariants', () => {
  it('notice a slot that is counted wrong, and a waiter without a deadline', () => {
    const sim = new Simulation({ seed: 1, nodes: [{ slots: 1, cores: 1, memoryMb: 1_024, keepAliveMs: 0, zygoteMb: 0, objectQuotaBytes: 1 }] });
    sim.deploy({ name: 'f' });
    sim.submit('f');
    const waiting = sim.submit('f');
    expect(breachesOf(sim.scheduler, sim.clock.nowMs(), 100)).toEqual([]);
    sim.scheduler.cluster.used[0] = 0;
    waiting.duePlace = -1;
    const found = breachesOf(sim.scheduler, sim.clock.nowMs(), 100);
    expect(found.some((breach) => breach.includes('n0 has 0 slots used, 1 booked'))).toBe(true);
    expect(found.some((breach) => breach.includes('delays without an armed deadline'))).toBe(true);
    sim.stop();
  });

  it('that fail are shrunk to the smallest scenario that still fails, which can be said in one word', async () => {
    // No node is ever ready for so long a wait: what was accepted cannot end.
    const hopeless = { ...ROUGH, faults: {}, node: { ...ROUGH.node, memoryMb: 1 }, scheduler: { maxWaitMs: 10_000_000 } };
    expect(runScenario(hopeless, 'metronome', 1).breaches.length).toBeGreaterThan(0);
    const small = await shrink(hopeless, 'metronome', 1, 12);
    expect(small.functions).toBe(1);
    expect(small.durationMs).toBeLessThan(ROUGH.durationMs);
    expect(parseReduction(formatReduction(small), hopeless)).toEqual(small);
    expect(runScenario(reduce(hopeless, small), 'metronome', 1).breaches.length).toBeGreaterThan(0);
  });
});

describe('a part of a scenario', () => {
  it('loses the faults that do not matter', async () => {
    const isBad = ({ faults, nodes }: Scenario): boolean => faults.kill === ROUGH.faults.kill && nodes >= 2;
    expect(formatReduction(await shrink(ROUGH, 'metronome', 1, 100, isBad))).toBe('nodes=2,functions=1,duration=157,faults=kill');
  });

  it.each([
    ['nodes=5', 'nodes must be from 1 to 4, not "5"'],
    ['functions=x', 'functions must be from 1 to 8, not "x"'],
    ['faults=clockJump', 'it has no faults "clockJump"'],
    ['seconds=3', 'there is no "seconds"'],
  ])('that is none is refused: %s', (text, message) => expect(() => parseReduction(text, ROUGH)).toThrow(message));

  it('keeps what is not named', () => {
    expect(parseReduction('faults=none', ROUGH)).toEqual({ nodes: 4, functions: 8, durationMs: 20_000, faults: [] });
  });
});
