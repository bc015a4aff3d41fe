/** A driver whose sandboxes are only records: they are ready at once, run nothing, and end when they are told to. */
import { MetronomeError } from '../../src/core/errors.ts';
import type { Sandbox, SandboxDriver, SandboxSpec, Zygote, ZygoteSpec, ZygoteTraits } from '../../src/agent/sandbox/sandbox-driver.ts';

export interface FakeSandbox extends Sandbox {
  readonly spec: SandboxSpec;
  isAlive: boolean;
  /** It ends by itself. */
  die(): void;
}

export interface FakeZygote extends Zygote {
  isAlive: boolean;
  /** All imports are done, or this is why not. */
  becomeReady(error?: MetronomeError): Promise<void>;
  die(): Promise<void>;
  /** Sandboxes that came of it. */
  readonly children: FakeSandbox[];
}

export interface FakeDriver extends SandboxDriver {
  /** All that were ever made. */
  readonly zygotes: FakeZygote[];
  /** What zygotes are like; undefined: there are none. */
  traits: (runtime: 'node' | 'python3') => ZygoteTraits | undefined;
  /** Resident memory of new zygotes, MiB. */
  zygoteMb: number;
  /** All that were ever made. */
  readonly sandboxes: FakeSandbox[];
  /** Called before a sandbox is killed. */
  onKill: (sandbox: FakeSandbox) => void;
  /** How the next sandboxes become ready. */
  ready: (spec: SandboxSpec) => Promise<void>;
}

export function createFakeDriver(): FakeDriver {
  const sandboxes: FakeSandbox[] = [];
  const driver: FakeDriver = {
    isolations: ['process'],
    limited: [],
    sandboxes,
    onKill: () => {},
    ready: () => Promise.resolve(),
    create: (spec) => createFakeSandbox(driver, spec),
    zygotes: [],
    traits: (runtime) => ({ isConsumed: runtime === 'node', isPerFunction: false, needsSameLayer: false }),
    zygoteMb: 50,
    zygoteTraits: (runtime) => driver.traits(runtime),
    createZygote: (spec) => createFakeZygote(driver, spec),
    sweep: () => Promise.resolve(),
    async close() {
      for (const sandbox of sandboxes) sandbox.die();
      for (const zygote of driver.zygotes) void zygote.die();
    },
  };
  return driver;
}

function createFakeSandbox(driver: FakeDriver, spec: SandboxSpec): FakeSandbox {
  const { promise: gone, resolve } = Promise.withResolvers<void>();
  const ready = driver.ready(spec);
  ready.catch(() => {});
  const sandbox: FakeSandbox = {
    id: `sandbox-${driver.sandboxes.length}`, dir: '/nowhere', inputsDir: '/nowhere/in', outputsDir: '/nowhere/out', spec, ready, gone, isAlive: true, startMs: 1, loadMs: 1, rssBytes: 0,
    run: () => Promise.reject(new MetronomeError('INTERNAL', 'A fake runs nothing.')),
    takeLogs: () => undefined,
    kill() {
      if (sandbox.isAlive) driver.onKill(sandbox);
      sandbox.die();
      return gone;
    },
    die() {
      sandbox.isAlive = false;
      resolve();
    },
  };
  driver.sandboxes.push(sandbox);
  return sandbox;
}

/** Imports take 10 ms for each letter of a package's name. */
function createFakeZygote(driver: FakeDriver, spec: ZygoteSpec): FakeZygote {
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {});
  const gone = Promise.withResolvers<void>();
  const importMs = new Map<string, number>();
  const traits = driver.traits(spec.runtime)!;
  const live = (): number => zygote.children.filter(({ isAlive }) => isAlive).length;
  let isReady = false;
  let isKilled = false;
  const zygote: FakeZygote & { rssBytes: number } = {
    id: `zygote-${driver.zygotes.length}`, spec, traits, ready: ready.promise, gone: gone.promise, isAlive: true, rssBytes: 0, importMs, children: [],
    canServe: (of) => isReady && zygote.isAlive && of.runtime === spec.runtime && of.memoryMb <= spec.memoryMb && of.env['NODE_OPTIONS'] === undefined
      && (spec.layer === undefined || spec.layer.packages.every(({ isDirect, subtree }) => !isDirect || of.layer?.packages.some((own) => own.subtree === subtree) === true)),
    specialise(of) {
      if (!zygote.canServe(of)) throw new Error('this zygote cannot serve that');
      const sandbox = createFakeSandbox(driver, of);
      zygote.children.push(sandbox);
      if (traits.isConsumed) end();
      else void sandbox.gone.then(() => isKilled && live() === 0 && end());
      return sandbox;
    },
    kill() {
      isKilled = true;
      zygote.isAlive = false;
      if (traits.isConsumed || live() === 0) end();
      return gone.promise;
    },
    async becomeReady(error) {
      if (error !== undefined) {
        ready.reject(error);
        end();
      } else {
        isReady = true;
        zygote.rssBytes = driver.zygoteMb * 1024 ** 2;
        for (const { id, name, isDirect } of spec.layer?.packages ?? []) if (isDirect) importMs.set(id, name.length * 10);
        ready.resolve();
      }
      await settle();
    },
    async die() {
      end();
      await settle();
    },
  };
  const end = (): void => {
    zygote.isAlive = false;
    zygote.rssBytes = 0;
    ready.reject(new MetronomeError('CANCELLED', 'It ended.'));
    gone.resolve();
  };
  driver.zygotes.push(zygote);
  return zygote;
}

/** What hangs on promises that are settled has run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}
