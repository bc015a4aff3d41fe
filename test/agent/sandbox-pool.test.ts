import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { createKeepAlive, type KeepAliveName } from '../../src/agent/sandbox/keep-alive/registry.ts';
import { MemoryBudget } from '../../src/agent/sandbox/memory-budget.ts';
import { SandboxPool, type Deployed, type SandboxLease } from '../../src/agent/sandbox/sandbox-pool.ts';
import type { SandboxSpec } from '../../src/agent/sandbox/sandbox-driver.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { createVirtualClock } from '../../src/core/clock.ts';
import { FunctionMessage, FunctionSpec } from '../../src/rpc/gen/metronome/v1/function.ts';
import { createFakeDriver, settle, type FakeSandbox } from './fake-driver.ts';

const PROGRAM = { dir: '/nowhere', layer: undefined, wasHere: true, release: () => {} };

function deployed(name: string, { memoryMb = 100, keepAliveMs = 0, version = 1, reuse = true } = {}): Deployed {
  const spec = FunctionSpec.fromPartial({ name, runtime: 'node', handler: 'h.mjs', memoryMb, keepAliveMs, reuse });
  return { ...FunctionMessage.fromPartial({ version: String(version), appliedAtUnixMs: version }), spec };
}

function scene(policy: KeepAliveName, { memoryMb = 400, keepAliveMs = 60_000 } = {}) {
  const clock = createVirtualClock(1_000_000);
  const driver = createFakeDriver();
  const budget = new MemoryBudget(memoryMb);
  const pool = new SandboxPool({ driver, budget, keepAlive: createKeepAlive(policy, keepAliveMs), maxResultBytes: 1, logBytes: 1, onChange: () => {}, clock });
  const take = (of: Deployed): SandboxLease => {
    const lease = pool.lease(of);
    if ('refusal' in lease) throw new Error(lease.refusal);
    return lease;
  };
  /** One invocation whose start takes `startMs` when it is not warm. Returns whether it was warm. */
  const use = async (of: Deployed, startMs = 100): Promise<boolean> => {
    const lease = take(of);
    if (!lease.isWarm) {
      const { promise, resolve } = Promise.withResolvers<void>();
      driver.ready = () => promise;
      const started = pool.start(lease, PROGRAM);
      clock.advance(startMs);
      resolve();
      await started;
      driver.ready = () => Promise.resolve();
    }
    clock.advance(1);
    pool.release(lease);
    return lease.isWarm;
  };
  const idle = (): Record<string, number> => Object.fromEntries(pool.warm().filter((state) => state.idle > 0).map((state) => [state.function, state.idle]));
  return { clock, driver, budget, pool, take, use, idle };
}

describe('keep-alive', () => {
  it('ttl ends an idle sandbox when its time is over, the function\'s own before the node\'s', async () => {
    const { clock, use, idle, budget } = scene('ttl', { keepAliveMs: 1_000 });
    await use(deployed('a'));
    await use(deployed('short', { keepAliveMs: 300 }));
    clock.advance(500);
    expect(idle()).toEqual({ a: 1 });
    clock.advance(500);
    expect(idle()).toEqual({});
    expect(budget.usedMb).toBe(0);
  });

  it('ttl of nothing keeps nothing', async () => {
    const { use, idle } = scene('ttl', { keepAliveMs: 0 });
    await use(deployed('a'));
    expect(idle()).toEqual({});
  });

  it.each<KeepAliveName>(['lru', 'greedy-dual'])('%s keeps until memory is needed, unless the function says otherwise', async (policy) => {
    const { clock, use, idle } = scene(policy, { keepAliveMs: 1_000 });
    await use(deployed('a'));
    await use(deployed('short', { keepAliveMs: 300 }));
    clock.advance(3_600_000);
    expect(idle()).toEqual({ a: 1 });
  });

  it.each<KeepAliveName>(['ttl', 'lru'])('%s drives out the least recently used when memory is needed', async (policy) => {
    const { use, idle } = scene(policy);
    for (const name of ['a', 'b', 'c', 'd']) await use(deployed(name));
    await use(deployed('a'));
    await use(deployed('e'));
    expect(idle()).toEqual({ a: 1, c: 1, d: 1, e: 1 });
  });

  it('greedy-dual keeps what is dear to make and often used, and drives out what is large', async () => {
    const { use, idle } = scene('greedy-dual');
    await use(deployed('dear'), 2_000);
    await use(deployed('cheap'), 50);
    await use(deployed('large', { memoryMb: 200 }), 50);
    await use(deployed('cheap'), 50);
    await use(deployed('new'), 50);
    expect(idle()).toEqual({ dear: 1, cheap: 1, new: 1 });
    await use(deployed('newer', { memoryMb: 200 }), 50);
    expect(idle()).toEqual({ dear: 1, cheap: 1, newer: 1 });
  });

  it('greedy-dual lets go of what was dear once, when it is not used any more', async () => {
    const { use, idle } = scene('greedy-dual', { memoryMb: 200 });
    await use(deployed('dear'), 1_000);
    // Each new one drives out the one before it and moves the clock on by its 2.
    let rounds = 0;
    while ('dear' in idle() && rounds < 100) await use(deployed(`f${rounds++}`), 200);
    expect(rounds).toBeGreaterThan(3);
    expect(rounds).toBeLessThan(10);
  });

  it('drives out nobody for a sandbox for which there is not enough memory anyway', async () => {
    const { use, take, pool, idle } = scene('lru');
    take(deployed('busy', { memoryMb: 300 }));
    await use(deployed('idle'));
    expect(pool.lease(deployed('large', { memoryMb: 200 }))).toMatchObject({ refusal: expect.stringContaining('300 of 400 MiB') });
    expect(idle()).toEqual({ idle: 1 });
  });
});

describe('a start from a zygote', () => {
  /** A pool whose zygote gives sandboxes that end with this error. */
  const broken = (code: 'SANDBOX_FAILED' | 'FUNCTION_LOAD_FAILED') => {
    const driver = createFakeDriver();
    const told: (number | undefined)[] = [];
    let released = 0;
    const zygotes = {
      take(spec: SandboxSpec) {
        driver.ready = () => Promise.reject(new MetronomeError(code, 'broken'));
        const sandbox = driver.create(spec) as FakeSandbox;
        driver.ready = () => Promise.resolve();
        sandbox.die();
        return { sandbox, distance: 0.25 };
      },
      started: (_spec: SandboxSpec, _source: unknown, _tookMs: number, distance: number | undefined) => void told.push(distance),
    };
    const pool = new SandboxPool({ driver, budget: new MemoryBudget(400), keepAlive: createKeepAlive('ttl', 60_000), zygotes, maxResultBytes: 1, logBytes: 1, onChange: () => {}, clock: createVirtualClock(1_000_000) });
    const lease = pool.lease(deployed('f')) as SandboxLease;
    return { driver, pool, lease, told, released: () => released, start: (isWanted?: () => boolean) => pool.start(lease, { ...PROGRAM, release: () => released++ }, isWanted) };
  };

  it('that breaks goes on in a process of its own, and keeps its program until that ends', async () => {
    const { driver, pool, lease, told, released, start } = broken('SANDBOX_FAILED');
    await start();
    expect(driver.sandboxes).toHaveLength(2);
    expect(lease).toMatchObject({ sandbox: driver.sandboxes[1], zygoteDistance: undefined });
    expect([told, released()]).toEqual([[undefined], 0]);
    pool.release(lease);
    expect(pool.evict('f', 0)).toBe(1);
    await settle();
    expect(released()).toBe(1);
  });

  it('that breaks ends there when nobody waits for it any more, or when it is the function that cannot be loaded', async () => {
    for (const { start, driver, released } of [broken('FUNCTION_LOAD_FAILED'), broken('SANDBOX_FAILED')].map((one, i) => ({ ...one, start: () => one.start(() => i === 0) }))) {
      await expect(start()).rejects.toThrow('broken');
      await settle();
      expect(driver.sandboxes).toHaveLength(1);
      expect(released()).toBe(1);
    }
  });
});

describe.each<KeepAliveName>(['ttl', 'lru', 'greedy-dual'])('a pool with policy %s', (policy) => {
  type Step = { readonly kind: 'lease' | 'release' | 'die' | 'evict' | 'prewarm' | 'advance' | 'deploy'; readonly which: number; readonly amount: number };
  const step = fc.record<Step>({ kind: fc.constantFrom('lease', 'lease', 'lease', 'release', 'release', 'die', 'evict', 'prewarm', 'advance', 'deploy'), which: fc.nat(9), amount: fc.nat(5) });

  it('never exceeds its memory, never ends work, and counts what is there', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
      const { clock, driver, budget, pool } = scene(policy, { memoryMb: 500, keepAliveMs: 1_000 });
      const sizes = [60, 100, 170];
      const versions = [1, 1, 1];
      const definition = (which: number): Deployed => deployed(`f${which % 3}`, { memoryMb: sizes[which % 3]!, version: versions[which % 3]!, keepAliveMs: which % 3 === 2 ? 300 : 0 });
      const out: SandboxLease[] = [];
      const ended: FakeSandbox[] = [];
      driver.onKill = (sandbox) => ended.push(sandbox);
      const check = (): void => {
        const works = out.reduce((sum, { deployed: { spec } }) => sum + spec.memoryMb, 0);
        const warm = pool.warm();
        // Older versions have no idle ones.
        const waits = warm.reduce((sum, { function: name, idle }) => sum + idle * sizes[Number(name[1])]!, 0);
        expect(budget.usedMb).toBeLessThanOrEqual(500);
        expect(budget.usedMb).toBe(works + waits);
        expect(budget.boundMb).toBe(works);
        expect(pool.idleCount).toBe(warm.reduce((sum, { idle }) => sum + idle, 0));
        const busy = out.filter(({ deployed: { spec, version } }) => version === String(versions[Number(spec.name[1])])).length;
        expect(warm.reduce((sum, state) => sum + (state.version === String(versions[Number(state.function[1])]) ? state.busy : 0), 0)).toBe(busy);
        expect(driver.sandboxes.filter(({ isAlive }) => isAlive)).toHaveLength(out.filter(({ sandbox }) => sandbox?.isAlive === true).length + pool.idleCount);
        for (const { sandbox } of out) expect(ended).not.toContain(sandbox);
      };
      for (const { kind, which, amount } of steps) {
        if (kind === 'lease') {
          const bound = budget.boundMb;
          const of = definition(which);
          const lease = pool.lease(of);
          if ('refusal' in lease) expect(bound + of.spec.memoryMb).toBeGreaterThan(500);
          else {
            out.push(lease);
            if (!lease.isWarm) await pool.start(lease, PROGRAM);
          }
        } else if (kind === 'release') {
          const [lease] = out.splice(which, 1);
          if (lease !== undefined) pool.release(lease);
        } else if (kind === 'die') {
          driver.sandboxes.filter(({ isAlive }) => isAlive)[which]?.die();
          await Promise.resolve();
        } else if (kind === 'evict') pool.evict(which > 6 ? '' : `f${which % 3}`, amount);
        else if (kind === 'prewarm') await pool.prewarm(definition(which), amount + 1, () => Promise.resolve(PROGRAM));
        else if (kind === 'advance') clock.advance(amount * 200);
        else if (which === 0) {
          versions[amount % 3]!++;
          await pool.prewarm(definition(amount), 1, () => Promise.resolve(PROGRAM));
        }
        check();
      }
      for (const lease of out.splice(0)) pool.release(lease);
      pool.close();
      check();
      expect(budget.usedMb).toBe(0);
    }));
  });
});
