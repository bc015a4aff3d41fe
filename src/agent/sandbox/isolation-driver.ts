/** Several kinds of isolation as one driver: each sandbox and zygote is made by the kind that its function asks for. */
import { MetronomeError } from '../../core/errors.ts';
import type { Isolation, Sandbox, SandboxDriver, SandboxSpec, Zygote, ZygoteSpec, ZygoteTraits } from './sandbox-driver.ts';

/** The drivers of an agent, its default first; one for each kind. */
export function createIsolationDriver(drivers: readonly [SandboxDriver, ...SandboxDriver[]]): SandboxDriver {
  const [first] = drivers;
  const isolations = drivers.flatMap((driver) => driver.isolations);
  const driverOf = (isolation: Isolation | ''): SandboxDriver => {
    const found = isolation === '' ? first : drivers.find((driver) => driver.isolations.includes(isolation));
    if (found === undefined) throw new MetronomeError('SANDBOX_FAILED', `This node has no isolation "${isolation}", only ${isolations.join(', ')}.`, { component: 'agent' });
    return found;
  };
  return {
    isolations,
    limited: drivers.flatMap((driver) => driver.limited),
    create: (spec: SandboxSpec): Sandbox => driverOf(spec.isolation).create(spec),
    zygoteTraits: (runtime, isolation): ZygoteTraits | undefined => driverOf(isolation).zygoteTraits(runtime, isolation),
    createZygote: (spec: ZygoteSpec): Zygote | undefined => driverOf(spec.isolation).createZygote(spec),
    async sweep() {
      // One after the other: they share a directory.
      for (const driver of drivers) await driver.sweep();
    },
    async close() {
      await Promise.all(drivers.map((driver) => driver.close()));
    },
  };
}
