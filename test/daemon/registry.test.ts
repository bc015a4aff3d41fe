/** What the scheduler is told of a function when it is applied. */
import { expect, it } from 'vitest';
import { countPackages } from '../../src/config/lockfile.ts';
import { Registry, type RegistryOptions } from '../../src/daemon/registry.ts';
import { FunctionSpec } from '../../src/rpc/gen/metronome/v1/function.ts';
import type { FunctionSettings } from '../../src/scheduler/function-table.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { locked, lockOf } from '../agent/fake-registry.ts';

it('predictions count the packages that the command line counts: those for other machines are not among them', async () => {
  const store = createMemoryStore();
  const told: (number | undefined)[] = [];
  // The parts of both that the registry uses.
  const scheduler = { putFunction: ({ profile }: FunctionSettings) => void told.push(profile?.dependencies) } as unknown as RegistryOptions['scheduler'];
  const links = { define: () => {} } as unknown as RegistryOptions['links'];
  const registry = new Registry({ store, scheduler, links, maxFunctions: 10, nowMs: () => 0 });
  const integrity = `sha512-${Buffer.alloc(64).toString('base64')}`;
  const one = (name: string, more = {}) => locked({ name, version: '1.0.0', integrity }, more);
  const lock = lockOf([one('a'), one('here', { optional: true, os: [process.platform] }), one('elsewhere', { optional: true, os: ['aix'] }), one('needed', { os: ['aix'] })]);
  const dependencyCount = countPackages(lock);
  expect(dependencyCount).toBe(3);
  const spec = FunctionSpec.fromPartial({ name: 'f', runtime: 'node', handler: 'handler.mjs', memoryMb: 128, cpu: 1, timeoutMs: 1_000, slaMs: 1_000, dependencyCount });
  await registry.applyFunction({ spec, bundle: Buffer.from('code'), dryRun: false, lock });
  await registry.applyFunction({ spec: { ...spec, name: 'g', dependencyCount: 7 }, bundle: Buffer.from('code'), dryRun: false, lock: undefined });
  expect(told).toEqual([3, 7]);
  await store.close();
});
