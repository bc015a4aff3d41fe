/** The kinds of sandboxes that contract tests run against, and why one is missing on this machine. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { limitsSizes, openCgroups } from '../../src/agent/sandbox/cgroups.ts';
import { createContainedDriver } from '../../src/agent/sandbox/contained-driver.ts';
import { probeBubblewrap } from '../../src/agent/sandbox/isolation-probe.ts';
import { createProcessContainment } from '../../src/agent/sandbox/process-containment.ts';
import { createPythonLookup } from '../../src/agent/sandbox/python-interpreter.ts';
import type { SandboxDriver } from '../../src/agent/sandbox/sandbox-driver.ts';
import { silent } from './harness.ts';

/** The largest file that their functions may write; more than the /tmp of an isolated one holds. */
export const MAX_FILE_BYTES = 96 * 1024 ** 2;
const python = createPythonLookup(undefined);

/** Why there are no bubblewrap sandboxes here; undefined: there are. */
export const bubblewrapMissing: string | undefined = await (async () => {
  const dir = mkdtempSync(join(tmpdir(), 'metronome-probe-'));
  const probe = await probeBubblewrap({ dir, cgroups: undefined, maxFileBytes: MAX_FILE_BYTES });
  rmSync(dir, { recursive: true });
  return 'missing' in probe ? probe.missing : undefined;
})();
if (bubblewrapMissing !== undefined) console.warn(`Tests of isolated sandboxes are skipped: ${bubblewrapMissing}`);

/** Why the kernel limits no sandbox here; undefined: it does. */
export const limitsMissing: string | undefined = await (async () => {
  const cgroups = openCgroups(`metronome-test-${process.pid}`);
  await cgroups?.close();
  return limitsSizes(cgroups) ? undefined : 'there are no control groups for memory and cpu that may be written; run the tests as root';
})();
if (limitsMissing !== undefined) console.warn(`Tests of limits are skipped: ${limitsMissing}`);

/** A kind of sandbox, as tests name them. */
export type ContractKind = 'process' | 'limited process' | 'bubblewrap';

export const CONTRACT_KINDS: readonly { readonly name: ContractKind; readonly missing: string | undefined }[] = [
  { name: 'process', missing: undefined }, { name: 'limited process', missing: limitsMissing }, { name: 'bubblewrap', missing: bubblewrapMissing },
];

/** A driver in a folder, after its sweep. */
export async function openDriver(name: ContractKind, dir: string): Promise<SandboxDriver> {
  const cgroups = name === 'process' ? undefined : openCgroups(`metronome-test-${basename(dirname(dir))}-${basename(dir)}`);
  let containment = createProcessContainment(MAX_FILE_BYTES, cgroups);
  if (name === 'bubblewrap') {
    const probe = await probeBubblewrap({ dir: `${dir}-isolation`, cgroups, maxFileBytes: MAX_FILE_BYTES });
    if ('missing' in probe) throw new Error(probe.missing);
    ({ containment } = probe);
  }
  const driver = createContainedDriver({ containment, dir, python: () => python.find(), log: silent });
  await driver.sweep();
  return driver;
}
