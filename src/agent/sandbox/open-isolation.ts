/** Puts together the kinds of sandboxes that a node offers: what agent.isolation allows and what works on this machine. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import type { AgentLog } from '../agent-options.ts';
import { openCgroups, type Cgroups } from './cgroups.ts';
import { createContainedDriver } from './contained-driver.ts';
import { createIsolationDriver } from './isolation-driver.ts';
import { probeBubblewrap } from './isolation-probe.ts';
import { createProcessContainment } from './process-containment.ts';
import type { SandboxDriver } from './sandbox-driver.ts';

/**
 * What an operator wants. `process`: that kind, and bubblewrap for functions that ask for it; `auto`: bubblewrap where it works, else process, and
 * each for functions that ask; `bubblewrap`: nothing else.
 */
export type IsolationChoice = 'auto' | 'process' | 'bubblewrap';

/** What is needed to open it. */
export interface IsolationOptions {
  readonly choice: IsolationChoice;
  /** Real path of the agent's folder. */
  readonly dataDir: string;
  readonly python: () => Promise<string>;
  /** The largest file that a function may write, bytes. */
  readonly maxFileBytes: number;
  readonly log: AgentLog;
}

/** Opens the driver. Rejects with CONFIG_INVALID when bubblewrap is demanded and does not work; the message says why and what to do. */
export async function openIsolation({ choice, dataDir, python, maxFileBytes, log }: IsolationOptions): Promise<SandboxDriver> {
  // The same name after a restart, and another one for another agent on this machine.
  const cgroups = openCgroups(`metronome-${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}`);
  const probe = await probeBubblewrap({ dir: join(dataDir, 'isolation'), cgroups, maxFileBytes });
  const common = { dir: join(dataDir, 'sandboxes'), python, log };
  const plain = (): SandboxDriver => createContainedDriver({ ...common, containment: createProcessContainment(maxFileBytes) });
  if ('missing' in probe) {
    await cgroups?.close();
    if (choice === 'bubblewrap') throw new MetronomeError('CONFIG_INVALID', `agent.isolation is "bubblewrap", but ${probe.missing}`, { component: 'agent' });
    log.info({ reason: probe.missing }, 'isolation.missing');
    return createIsolationDriver([plain()]);
  }
  log.info({ limits: limitsWord(cgroups) }, 'isolation.found');
  const isolated = createContainedDriver({ ...common, containment: probe.containment });
  if (choice === 'bubblewrap') return createIsolationDriver([isolated]);
  return createIsolationDriver(choice === 'auto' ? [isolated, plain()] : [plain(), isolated]);
}

function limitsWord(cgroups: Cgroups | undefined): string {
  return cgroups === undefined ? 'memory is looked at, CPU is not limited (no control groups that the agent may write)' : `${cgroups.controllers.join(', ')} by control groups, version ${cgroups.version}`;
}
