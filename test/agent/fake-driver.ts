/** A driver whose sandboxes are only records: they are ready at once, run nothing, and end when they are told to. */
import { MetronomeError } from '../../src/core/errors.ts';
import type { Sandbox, SandboxDriver, SandboxSpec } from '../../src/agent/sandbox/sandbox-driver.ts';

export interface FakeSandbox extends Sandbox {
  readonly spec: SandboxSpec;
  isAlive: boolean;
  /** It ends by itself. */
  die(): void;
}

export interface FakeDriver extends SandboxDriver {
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
    sandboxes,
    onKill: () => {},
    ready: () => Promise.resolve(),
    create: (spec) => createFakeSandbox(driver, spec),
    zygoteTraits: () => undefined,
    createZygote: () => undefined,
    sweep: () => Promise.resolve(),
    async close() {
      for (const sandbox of sandboxes) sandbox.die();
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
