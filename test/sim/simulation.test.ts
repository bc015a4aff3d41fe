import { readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import type { Invocation } from '../../src/core/invocation.ts';
import { POLICY_NAMES } from '../../src/policy/registry.ts';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import { EPOCH_MS, Simulation, type SimulationOptions } from '../../src/sim/simulation.ts';
import type { VirtualNodeOptions } from '../../src/sim/virtual-node.ts';

const NODE: VirtualNodeOptions = { slots: 2, cores: 2, memoryMb: 1_024, keepAliveMs: 60_000, zygoteMb: 0, objectQuotaBytes: 1e12 };
const MIB = 1024 ** 2;

function simulation(nodes: number, more: Partial<SimulationOptions> = {}, node: Partial<VirtualNodeOptions> = {}): Simulation {
  return new Simulation({ seed: 1, nodes: Array.from({ length: nodes }, () => ({ ...NODE, ...node })), ...more });
}

const phases = ({ result }: Invocation): (number | undefined)[] => [result?.startState, result?.fetchedMs, result?.initialisedMs, result?.ranMs].map((value) => (value === undefined ? undefined : Math.round(value)));

describe('a simulated function', () => {
  const exact = { installMs: 1_000, processMs: 40, importMs: 160, zygoteMs: 10, warmMs: 1, runMs: 100, noise: 0 };

  it('pays packages, process and imports on its first start, and only the hand-over when it is warm', () => {
    const sim = simulation(1);
    sim.deploy({ name: 'f' }, exact);
    const first = sim.submit('f');
    sim.settle(10_000);
    const second = sim.submit('f');
    sim.settle(10_000);
    expect(phases(first)).toEqual([1, 0, 1_200, 100]);
    expect(phases(second)).toEqual([4, 0, 1, 100]);
    sim.stop();
  });

  it('starts from the packages after its keep-alive, and from a zygote where one is kept', () => {
    const cold = simulation(1, {}, { keepAliveMs: 500 });
    cold.deploy({ name: 'f' }, exact);
    cold.submit('f');
    cold.advance(5_000);
    const again = cold.submit('f');
    cold.settle(10_000);
    expect(phases(again)).toEqual([2, 0, 200, 100]);
    cold.stop();
    const sim = simulation(1, {}, { keepAliveMs: 500, zygoteMb: 512 });
    sim.deploy({ name: 'f' }, exact);
    sim.submit('f');
    sim.advance(5_000);
    const fromZygote = sim.submit('f');
    sim.settle(10_000);
    expect(phases(fromZygote)).toEqual([3, 0, 10, 100]);
    sim.stop();
  });

  it('runs faster the more often its sandbox has run, and is no faster for having been made ready', () => {
    const sim = simulation(1);
    sim.deploy({ name: 'f' }, { ...exact, freshFactor: 3 });
    const ran = Array.from({ length: 4 }, () => {
      const run = sim.submit('f');
      sim.settle(10_000);
      return Math.round(run.result?.ranMs ?? 0);
    });
    expect(ran).toEqual([300, 200, 167, 150]);
    sim.deploy({ name: 'g' }, { ...exact, freshFactor: 3 });
    sim.nodes[0]?.prewarm({ settings: sim.scheduler.functions.get('g')!.settings, profile: { ...PLAIN_PROFILE, ...exact, freshFactor: 3 } }, 1);
    sim.advance(5_000);
    const first = sim.submit('g');
    sim.settle(10_000);
    expect(phases(first)).toEqual([4, 0, 1, 300]);
    sim.stop();
  });

  it('fetches what its node lacks over the link, once for two that want it at the same time', () => {
    const sim = simulation(2, { policy: 'round-robin', bytesPerMs: 1_000, latencyMs: 0 });
    sim.deploy({ name: 'f' }, exact);
    const object = sim.upload(0, 'o', 500_000);
    const runs = [0, 1, 2, 3].map(() => sim.submit('f', { inputs: [object] }));
    sim.settle(60_000);
    const away = runs.filter(({ node }) => node === 1);
    expect(away).toHaveLength(2);
    for (const run of away) expect(run.result?.fetchedMs).toBeCloseTo(500, 0);
    expect(sim.network.movedBytes).toBe(500_000);
    expect(away.map(({ result }) => result?.fetchedBytes).sort()).toEqual([0, 500_000]);
    expect(sim.scheduler.objects.holderNames(object)).toContain('n1');
    sim.stop();
  });

  it('costs the same under every policy when it has the same key', () => {
    const ran = POLICY_NAMES.map((policy) => {
      const sim = simulation(3, { policy });
      sim.deploy({ name: 'f', critical: true }, { runMs: 100, noise: 0.5 });
      const run = sim.submit('f', { key: 42 });
      sim.settle(10_000);
      sim.stop();
      return run.result?.ranMs;
    });
    expect(new Set(ran.map((ms) => ms?.toFixed(6))).size).toBe(1);
  });

  it('is slowed down by others on the same cores', () => {
    const sim = simulation(1, {}, { slots: 4, cores: 1 });
    sim.deploy({ name: 'f' }, { ...exact, installMs: 0, processMs: 0, importMs: 0 });
    const runs = [0, 1, 2, 3].map(() => sim.submit('f'));
    sim.settle(10_000);
    for (const run of runs) expect(run.result?.ranMs).toBeCloseTo(400, 0);
    sim.stop();
  });

  it('is refused where memory or slots do not suffice, and waits', () => {
    const sim = simulation(1, {}, { slots: 4, memoryMb: 512 });
    sim.deploy({ name: 'f', memoryMb: 256 }, exact);
    const runs = [0, 1, 2].map(() => sim.submit('f'));
    expect(sim.settle(60_000)).toBe(0);
    for (const run of runs) expect(run.error).toBeUndefined();
    expect(sim.nodes[0]?.mostRunning).toBe(2);
    sim.stop();
  });

  it('whose node dies runs elsewhere, and what its disk held is there again after the restart', () => {
    const sim = simulation(2, { policy: 'round-robin' });
    sim.deploy({ name: 'f' }, { ...exact, runMs: 5_000 });
    const run = sim.submit('f');
    sim.advance(2_000);
    sim.kill(run.node);
    const dead = sim.nodes.findIndex(({ isAlive }) => !isAlive);
    expect(sim.settle(60_000)).toBe(0);
    expect(run.error).toBeUndefined();
    expect(run.attempt).toBe(2);
    expect(run.node).not.toBe(dead);
    sim.restart(dead);
    sim.advance(100);
    expect(sim.nodes[dead]?.hasPackages('packages of f')).toBe(true);
    sim.stop();
  });

  it('whose result cannot be delivered is not run again: the result comes after the streams', () => {
    const sim = simulation(1);
    sim.deploy({ name: 'f', idempotent: false, retries: 0 }, exact);
    const run = sim.submit('f');
    sim.advance(600);
    sim.disconnect(0);
    sim.advance(1_200); // it ended meanwhile
    sim.reconnect(0);
    expect(sim.settle(10_000)).toBe(0);
    expect(run.error).toBeUndefined();
    sim.stop();
  });
});

describe('a simulation', () => {
  const story = (seed: number, policy: string, engine: 'table' | 'xstate' = 'table'): string => {
    const sim = simulation(5, { seed, policy, engine }, { zygoteMb: 256 });
    const random = createRandom(seed, 9);
    for (let f = 0; f < 6; f++) sim.deploy({ name: `f${f}`, slaMs: 2_000, critical: f % 2 === 0 }, { installMs: 400, importMs: 200, runMs: 30 * (f + 1), runMsPerMib: 3, noise: 0.1, output: { count: 1, share: 0.5, bytes: 0 } });
    const objects = Array.from({ length: 10 }, (_, o) => sim.upload(o % 5, `o${o}`, (1 + o) * MIB));
    let left = 400;
    const arrive = (): void => {
      if (left-- <= 0) return;
      sim.submit(`f${random.below(6)}`, { inputs: random.below(2) === 0 ? [objects[random.below(10)]!] : [] });
      sim.clock.setTimer(sim.clock.nowMs() - 20 * Math.log(1 - random.uniform()), arrive);
    };
    arrive();
    sim.at(3_000, () => sim.kill(2));
    sim.at(5_000, () => sim.restart(2));
    sim.settle(120_000);
    expect(sim.scheduler.live.size).toBe(0);
    expect(sim.clock.nowMs()).toBeGreaterThan(EPOCH_MS + 7_000);
    sim.stop();
    return `${sim.digest} of ${sim.digest.count}`;
  };

  it.each(POLICY_NAMES)('with policy %s has the same digest for the same seed, compiled or interpreted, and another one for another seed', (policy) => {
    const first = story(1, policy);
    expect(story(1, policy)).toBe(first);
    expect(story(1, policy, 'xstate')).toBe(first);
    expect(story(2, policy)).not.toBe(first);
  });
});

describe('the scheduling code', () => {
  it('knows nothing of the simulator, so that both worlds run the very same modules', () => {
    const root = new URL('../../', import.meta.url);
    const files = ['src/scheduler', 'src/policy', 'src/predictor', 'src/core', 'machines'].flatMap((folder) => readdirSync(new URL(folder, root), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => `${folder}/${name}`));
    expect(files.length).toBeGreaterThan(30);
    for (const file of files) expect(readFileSync(new URL(file, root), 'utf8'), file).not.toMatch(/from '[^']*\/sim\//);
    const simulated = readdirSync(new URL('src/sim', root)).map((name) => readFileSync(new URL(`src/sim/${name}`, root), 'utf8')).join('\n');
    expect(simulated).toMatch(/from '\.\.\/scheduler\/scheduler\.ts'/);
    // Decisions are made there and nowhere else: the simulator has no policy and no classifier of its own.
    // It may know the names of the policies (a scenario names some).
    expect(simulated).not.toMatch(/\/(?:policy\/(?!registry\.ts)|policy\.ts|classify|waiting-lines|decision-ring)[^']*\.ts'/);
    expect(simulated).not.toMatch(/create\w*Policy\b|implements Policy\b|: Policy\b|class \w*(?:Policy|Scheduler)\b/);
  });
});
