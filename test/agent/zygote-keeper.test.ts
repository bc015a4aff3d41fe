import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import type { PackageLayer } from '../../src/agent/program.ts';
import { MemoryBudget } from '../../src/agent/sandbox/memory-budget.ts';
import type { Sandbox, SandboxSpec } from '../../src/agent/sandbox/sandbox-driver.ts';
import { ZygoteKeeper, type ZygoteKeeperOptions } from '../../src/agent/zygotes/zygote-keeper.ts';
import { createVirtualClock } from '../../src/core/clock.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import type { ZygoteState } from '../../src/rpc/gen/metronome/v1/agent.ts';
import { createFakeDriver, settle, type FakeZygote } from './fake-driver.ts';
import { silent } from './harness.ts';

/** A layer of packages "name@version", all direct. */
function layerOf(packages: readonly string[], runtime: 'node' | 'python3' = 'node'): PackageLayer {
  return {
    digest: `set-${packages.join('-')}`, runtime, dir: '/nowhere', importPaths: [],
    packages: packages.map((id) => ({ id, name: id.split('@')[0]!, version: id.split('@')[1]!, dir: '/nowhere', isDirect: true, subtree: id })),
  };
}

function specOf(name: string, packages: readonly string[], { runtime = 'node', memoryMb = 100, env = {} }: Partial<Pick<SandboxSpec, 'runtime' | 'memoryMb' | 'env'>> = {}): SandboxSpec {
  return { functionName: name, runtime, isolation: '', bundleDir: '/nowhere', handler: 'h', layer: packages.length === 0 ? undefined : layerOf(packages, runtime), memoryMb, cpu: 1, network: true, env, maxResultBytes: 1, logBytes: 1 };
}

function scene(options: Partial<Pick<ZygoteKeeperOptions, 'limitMb' | 'stock'>> & { readonly memoryMb?: number } = {}) {
  const clock = createVirtualClock(1_000_000);
  const driver = createFakeDriver();
  const budget = new MemoryBudget(options.memoryMb ?? 1_000);
  const states = new Map<string, ZygoteState>();
  let hasTime = true;
  /** Layers that zygotes hold. */
  let held = 0;
  const here = { isHere: true };
  const specs = new Map<string, SandboxSpec>();
  const keeper = new ZygoteKeeper({
    driver, budget, clock, log: silent, limitMb: options.limitMb ?? 500, stock: options.stock ?? 1, hasTime: () => hasTime,
    tryAcquire: ({ bundleDigest }) => {
      if (!here.isHere) return undefined;
      held++;
      return { dir: '/nowhere', layer: specs.get(bundleDigest)!.layer, wasHere: true, release: () => held-- };
    },
    onChange: (key, state) => states.set(key, state),
  });
  /** A start as the pool does it. */
  const start = async (spec: SandboxSpec, tookMs = 400): Promise<{ sandbox: Sandbox | undefined; distance: number | undefined }> => {
    specs.set(spec.functionName, spec);
    const source = { bundleDigest: spec.functionName, lock: undefined };
    const come = keeper.take(spec, source);
    const took = come === undefined ? tookMs : 10;
    clock.advance(took);
    keeper.started(spec, source, took, come?.distance);
    await settle();
    return { sandbox: come?.sandbox, distance: come?.distance };
  };
  /** Lets the node do what it has to do, until no zygote is under way. */
  const rest = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      clock.advance(250);
      await settle();
      const starting = unready();
      if (starting.length === 0 && i > 1) return;
      for (const zygote of starting) await zygote.becomeReady();
    }
  };
  const isReady = new Set<FakeZygote>();
  const unready = (): FakeZygote[] => driver.zygotes.filter((zygote) => {
    if (!zygote.isAlive || isReady.has(zygote)) return false;
    isReady.add(zygote);
    return true;
  });
  const ready = (): string[] => keeper.states().map(({ packages, idle }) => `${idle} × ${packages.join(' ') || 'bare'}`).sort();
  return { clock, driver, budget, keeper, states, start, rest, ready, here, held: () => held, busy: (isBusy: boolean) => (hasTime = !isBusy) };
}

describe('the zygotes of a node', () => {
  it('are made after the first cold start of a package set, and serve the second', async () => {
    const { start, rest, ready, driver } = scene();
    const spec = specOf('f', ['mammoth@1', 'csv@1']);
    expect(await start(spec)).toMatchObject({ sandbox: undefined });
    expect(driver.zygotes).toHaveLength(0);
    await rest();
    expect(ready()).toContain('1 × mammoth@1 csv@1');
    expect(await start(specOf('g', ['mammoth@1', 'csv@1']))).toMatchObject({ distance: 0 });
  });

  it('end with the layer that they have loaded', async () => {
    const { keeper, start, rest, ready } = scene();
    await start(specOf('f', ['a@1']));
    await rest();
    const before = ready();
    expect(before).toContain('1 × a@1');
    keeper.layerRetired('set-b@1');
    expect(ready()).toEqual(before);
    keeper.layerRetired('set-a@1');
    expect(ready()).not.toContain('1 × a@1');
  });

  it('are replaced when they were used up', async () => {
    const { start, rest, ready, driver } = scene();
    const spec = specOf('f', ['a@1']);
    await start(spec);
    await rest();
    await start(spec);
    expect(ready().filter((kind) => kind.includes('a@1'))).toEqual([]);
    await rest();
    expect(ready()).toContain('1 × a@1');
    expect(driver.zygotes.filter(({ isAlive }) => isAlive).every(({ spec: { layer } }) => layer?.digest === 'set-a@1')).toBe(true);
  });

  it('are kept in the number that was asked for where each serves once, and singly where they fork', async () => {
    const { start, rest, ready } = scene({ stock: 3 });
    await start(specOf('f', ['a@1']));
    await start(specOf('p', ['n@1'], { runtime: 'python3' }));
    await rest();
    expect(ready()).toEqual(expect.arrayContaining(['3 × a@1', '1 × n@1']));
  });

  it('serve a function without packages as bare runtimes', async () => {
    const { start, rest, ready } = scene();
    const spec = specOf('f', []);
    await start(spec, 40);
    await rest();
    expect(ready()).toEqual(['1 × bare']);
    expect(await start(spec)).toMatchObject({ distance: 0 });
  });

  it('serve by the nearest that covers some of the packages and nothing else', async () => {
    const { start, rest, driver } = scene();
    await start(specOf('some', ['aaaa@1']));
    await start(specOf('other', ['bbbb@1', 'x@1']));
    await rest();
    // aaaa takes 40 ms, dd 20 ms, as far as is known.
    const { distance, sandbox } = await start(specOf('more', ['aaaa@1', 'dd@1']));
    expect(distance).toBeCloseTo(0.475);
    expect(driver.zygotes.find(({ spec }) => spec.layer?.digest === 'set-aaaa@1')?.children).toContain(sandbox);
    const { sandbox: none } = await start(specOf('elsewhere', ['aaaa@2', 'dd@1']));
    expect(none).toBeUndefined();
  });

  it('are not made while the node has no time for it', async () => {
    const { start, clock, busy, driver } = scene();
    busy(true);
    await start(specOf('f', ['a@1']));
    clock.advance(5_000);
    expect(driver.zygotes).toHaveLength(0);
    busy(false);
    clock.advance(250);
    expect(driver.zygotes).toHaveLength(1);
  });

  it('are made one at a time', async () => {
    const { start, clock, driver } = scene();
    for (const name of ['a', 'b', 'c']) await start(specOf(name, [`${name}@1`]));
    clock.advance(5_000);
    expect(driver.zygotes).toHaveLength(1);
    await driver.zygotes[0]!.becomeReady();
    clock.advance(500);
    expect(driver.zygotes).toHaveLength(2);
  });

  it('are those that save the most for their memory, within their share of it', async () => {
    // There is room for three, or two of which the size is not known yet.
    const { start, rest, ready, budget } = scene({ limitMb: 150 });
    for (let i = 0; i < 5; i++) await start(specOf('often', ['often@1']));
    for (let i = 0; i < 3; i++) await start(specOf('dear', ['dear@1']), 2_000);
    await start(specOf('rare', ['rare@1']), 100);
    await rest();
    expect(ready()).toEqual(['1 × dear@1', '1 × often@1']);
    expect(budget.usedMb).toBe(100);
  });

  it('are given up when nobody has needed them for long', async () => {
    const { start, rest, ready, clock, held, budget } = scene();
    await start(specOf('f', ['a@1']));
    await rest();
    expect(held()).toBe(1);
    clock.advance(3 * 3_600_000);
    await settle();
    expect([ready(), held(), budget.usedMb]).toEqual([[], 0, 0]);
  });

  it('give way to work, and to nothing that is worth less', async () => {
    const { start, rest, ready, budget } = scene({ memoryMb: 200 });
    await start(specOf('f', ['a@1']));
    await rest();
    expect(budget.take(160, 1e-9)).toBe(false);
    expect(ready()).toContain('1 × a@1');
    expect(budget.take(160)).toBe(true);
    await settle();
    expect(ready()).toEqual([]);
    expect(budget.usedMb).toBe(160);
  });

  it('keep their memory while sandboxes that they forked live, and their packages as long as any of them does', async () => {
    const { start, rest, keeper, budget, driver, held } = scene({ memoryMb: 300 });
    const spec = specOf('p', ['n@1'], { runtime: 'python3' });
    await start(spec);
    await rest();
    const { sandbox } = await start(spec);
    const usedMb = budget.usedMb;
    expect(budget.take(290)).toBe(false);
    keeper.close();
    await settle();
    expect(budget.usedMb).toBe(driver.zygoteMb);
    expect(usedMb).toBeGreaterThanOrEqual(driver.zygoteMb);
    expect(held()).toBe(1);
    await sandbox?.kill(new MetronomeError('CANCELLED', 'over'));
    await settle();
    expect([budget.usedMb, held()]).toEqual([0, 0]);
  });

  it('keep their packages while the sandbox that one of them became lives', async () => {
    const { start, rest, keeper, held } = scene();
    const spec = specOf('f', ['a@1']);
    await start(spec);
    await rest();
    const { sandbox } = await start(spec);
    keeper.close();
    await settle();
    expect(held()).toBe(1);
    await sandbox?.kill(new MetronomeError('CANCELLED', 'over'));
    await settle();
    expect(held()).toBe(0);
  });

  it('are tried again later and later when they cannot be made', async () => {
    const { start, clock, driver } = scene();
    await start(specOf('f', ['a@1']));
    const madeAt: number[] = [];
    for (let i = 0; i < 4; i++) {
      while (driver.zygotes.filter(({ spec }) => spec.layer !== undefined).length <= i) {
        clock.advance(1_000);
        await settle();
        for (const bare of driver.zygotes) if (bare.spec.layer === undefined) await bare.becomeReady();
        if (clock.nowMs() > 2_000_000) throw new Error('nothing was tried again');
        await start(specOf('f', ['a@1']), 1);
      }
      madeAt.push(clock.nowMs());
      await driver.zygotes.filter(({ spec }) => spec.layer !== undefined).at(-1)!.becomeReady(new MetronomeError('FUNCTION_LOAD_FAILED', 'broken'));
    }
    const gaps = madeAt.slice(1).map((at, i) => Math.round((at - madeAt[i]!) / 30_000));
    expect(gaps).toEqual([1, 2, 4]);
  });

  it('are made anew, larger, when a function with a higher memory limit comes', async () => {
    const { start, rest, driver } = scene();
    await start(specOf('small', ['a@1'], { memoryMb: 100 }));
    await rest();
    expect((await start(specOf('large', ['a@1'], { memoryMb: 300 }))).sandbox).toBeUndefined();
    await rest();
    expect(driver.zygotes.filter(({ isAlive, spec }) => isAlive && spec.layer !== undefined).map(({ spec }) => spec.memoryMb)).toEqual([300]);
  });

  it('are not made for a function that none can serve', async () => {
    const { start, rest, clock, ready } = scene();
    const spec = specOf('f', ['a@1'], { env: { NODE_OPTIONS: '--trace-warnings' } });
    await start(spec);
    await rest();
    await start(spec);
    for (let hour = 0; hour < 3; hour++) {
      clock.advance(3_600_000);
      await start(spec);
      await rest();
    }
    expect(ready()).toEqual([]);
  });

  it('are not made of packages that went, until these were brought again', async () => {
    const { start, rest, driver, here, clock, ready } = scene();
    here.isHere = false;
    await start(specOf('f', ['a@1']));
    await rest();
    expect(driver.zygotes.filter(({ spec }) => spec.layer !== undefined)).toEqual([]);
    here.isHere = true;
    await start(specOf('f', ['a@1']));
    clock.advance(250);
    await rest();
    expect(ready()).toContain('1 × a@1');
  });

  it('are made at once when asked for, ended when told to, and not made again before somebody needs them', async () => {
    const { keeper, driver, rest, ready, start } = scene();
    const spec = specOf('f', ['a@1']);
    await start(spec);
    const prewarmed = keeper.prewarm(spec, { bundleDigest: 'f', lock: undefined }, 2);
    for (let i = 0; i < 2; i++) {
      await settle();
      await driver.zygotes.at(-1)!.becomeReady();
    }
    expect(await prewarmed).toBe(2);
    expect(keeper.evict('other', 0)).toBe(0);
    expect(keeper.evict('f', 1)).toBe(1);
    expect(keeper.evict('', 0)).toBe(1);
    await rest();
    expect(ready().filter((kind) => kind.includes('a@1'))).toEqual([]);
    await start(spec);
    await rest();
    expect(ready()).toContain('1 × a@1');
  });

  it('are told of with what they imported and how long it took', async () => {
    const { start, rest, states, keeper } = scene();
    const spec = specOf('p', ['numpy@1', 'six@2'], { runtime: 'python3' });
    await start(spec);
    await rest();
    const told = [...states.values()].find(({ packageSet }) => packageSet !== '');
    expect(told).toEqual({
      packageSet: 'set-numpy@1-six@2', runtime: 'python3', idle: 1, packages: ['numpy@1', 'six@2'], importMs: [50, 30], residentBytes: 50 * 1024 ** 2, isolation: 'process', defaultIsolation: true, sameSet: false, function: '', network: true,
    });
    keeper.evict('', 0);
    expect([...states.values()].find(({ packageSet }) => packageSet !== '')?.idle).toBe(0);
  });

  it('never take more than their share or the budget, and give back all of it', async () => {
    const step = fc.record({ kind: fc.constantFrom('start', 'start', 'end', 'advance', 'ready', 'die', 'work', 'free', 'evict'), which: fc.nat(5), amount: fc.nat(9) });
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { start, keeper, budget, driver, clock, states, held } = scene({ memoryMb: 400, limitMb: 250, stock: 2 });
      const functions = [specOf('a', ['a@1']), specOf('b', ['b@1']), specOf('ab', ['a@1', 'b@1']), specOf('none', []), specOf('p', ['n@1'], { runtime: 'python3' }), specOf('bare-p', [], { runtime: 'python3' })];
      const sandboxes: Sandbox[] = [];
      let works = 0;
      for (const { kind, which, amount } of steps) {
        if (kind === 'start') {
          const { sandbox } = await start(functions[which]!, 50 + 100 * amount);
          if (sandbox !== undefined) sandboxes.push(sandbox);
        } else if (kind === 'end') await sandboxes.splice(which, 1)[0]?.kill(new MetronomeError('CANCELLED', 'over'));
        else if (kind === 'advance') clock.advance(amount * amount * 1_000);
        else if (kind === 'ready') {
          driver.zygoteMb = 20 + 15 * amount;
          await driver.zygotes.filter(({ isAlive, rssBytes }) => isAlive && rssBytes === 0)[0]?.becomeReady(which === 5 ? new MetronomeError('FUNCTION_LOAD_FAILED', 'broken') : undefined);
        } else if (kind === 'die') await driver.zygotes.filter(({ isAlive }) => isAlive)[which]?.die();
        else if (kind === 'work' && budget.take(40)) works++;
        else if (kind === 'free' && works > 0) {
          works--;
          budget.giveBack(40);
        } else if (kind === 'evict') keeper.evict(which < 5 ? functions[which]!.functionName : '', amount % 3);
        await settle();
        expect(budget.usedMb).toBeLessThanOrEqual(400);
        expect(budget.usedMb - 40 * works).toBeLessThanOrEqual(250);
        expect(budget.usedMb - 40 * works).toBeGreaterThanOrEqual(0);
        expect(keeper.count).toBe(keeper.states().reduce((sum, { idle }) => sum + idle, 0));
        expect([...states.values()].reduce((sum, { idle }) => sum + idle, 0)).toBe(keeper.count);
        for (const sandbox of sandboxes) expect(sandbox.isAlive).toBe(true);
      }
      keeper.close();
      for (const sandbox of sandboxes) await sandbox.kill(new MetronomeError('CANCELLED', 'over'));
      await settle();
      expect([budget.usedMb, held(), driver.zygotes.filter(({ isAlive }) => isAlive)]).toEqual([40 * works, 0, []]);
    }), { examples: [[[
      // Two that turn out larger than they were taken for, and together larger than their share.
      { kind: 'start', which: 0, amount: 0 }, { kind: 'start', which: 0, amount: 0 }, { kind: 'start', which: 0, amount: 1 }, { kind: 'ready', which: 0, amount: 7 }, { kind: 'start', which: 1, amount: 0 }, { kind: 'ready', which: 0, amount: 8 },
    ]]] });
  });
});
