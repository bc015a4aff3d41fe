/** The kinds of sandboxes that contract tests run against, and why one is missing on this machine. */
import { createContainedDriver } from '../../src/agent/sandbox/contained-driver.ts';
import { createProcessContainment } from '../../src/agent/sandbox/process-containment.ts';
import { createPythonLookup } from '../../src/agent/sandbox/python-interpreter.ts';
import type { Isolation, SandboxDriver } from '../../src/agent/sandbox/sandbox-driver.ts';
import { silent } from './harness.ts';

export const CONTRACT_KINDS: readonly { readonly name: Isolation; readonly missing: string | undefined }[] = [{ name: 'process', missing: undefined }];

const python = createPythonLookup(undefined);
const MAX_FILE_BYTES = 64 * 1024 ** 2;

/** A driver in a folder, after its sweep. */
export async function openDriver(name: Isolation, dir: string): Promise<SandboxDriver> {
  const containment = createProcessContainment(MAX_FILE_BYTES);
  const driver = createContainedDriver({ containment, dir, python: () => python.find(), log: silent });
  await driver.sweep();
  return driver;
}
