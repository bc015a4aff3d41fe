/** Puts together the kinds of sandboxes that a node offers: what agent.isolation allows and what works on this machine. */
import { join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import type { AgentLog } from '../agent-options.ts';
import { limitsSizes, openCgroups, type Cgroups } from './cgroups.ts';
import { createContainedDriver } from './contained-driver.ts';
import { groupName } from './group-name.ts';
import { createIsolationDriver } from './isolation-driver.ts';
import { probeBubblewrap } from './isolation-probe.ts';
import { createProcessContainment } from './process-containment.ts';
import type { SandboxDriver } from './sandbox-driver.ts';

/**
 * What an operator wants. `process`: that kind, and bubblewrap for functions that ask for it; `auto`: bubblewrap where it works, else process, and
 * each for functions that ask; `bubblewrap`: nothing else.
 */
export type IsolationChoice = 'auto' | 'process' | 'bubblewrap';

/** Whose memory and CPU the kernel limits, where it lets the agent say so: of isolated sandboxes, or of plain processes as well. */
export type LimitsChoice = 'isolated' | 'all';

/** What is needed to open it. */
export interface IsolationOptions {
  readonly choice: IsolationChoice;
  readonly limits: LimitsChoice;
  /** Real path of the agent's folder. */
  readonly dataDir: string;
  readonly python: () => Promise<string>;
  /** The largest file that a function may write, bytes. */
  readonly maxFileBytes: number;
  readonly log: AgentLog;
}

/** Opens the driver. Rejects with CONFIG_INVALID when bubblewrap or limits are demanded and cannot be had; the message says why and what to do. */
export async function openIsolation({ choice, limits, dataDir, python, maxFileBytes, log }: IsolationOptions): Promise<SandboxDriver> {
  const cgroups = openCgroups(groupName(dataDir));
  if (limits === 'all' && !limitsSizes(cgroups)) {
    const missing = (['memory', 'cpu'] as const).filter((controller) => cgroups?.controllers.includes(controller) !== true);
    await cgroups?.close();
    throw new MetronomeError('CONFIG_INVALID', `agent.limits is "all", but this agent may make no control groups for ${missing.join(' and ')}. ${WHERE_GROUPS_ARE} Or set agent.limits to "isolated".`, { component: 'agent' });
  }
  const probe = await probeBubblewrap({ dir: join(dataDir, 'isolation'), cgroups, maxFileBytes });
  const common = { dir: join(dataDir, 'sandboxes'), python, log };
  const plain = (): SandboxDriver => createContainedDriver({ ...common, containment: createProcessContainment(maxFileBytes, limits === 'all' ? cgroups : undefined) });
  if ('missing' in probe) {
    if (limits !== 'all' || choice === 'bubblewrap') {
      // Not used by this agent; former ones may have left some.
      await cgroups?.sweep();
      await cgroups?.close();
    }
    if (choice === 'bubblewrap') throw new MetronomeError('CONFIG_INVALID', `agent.isolation is "bubblewrap", but ${probe.missing}`, { component: 'agent' });
    log.info({ reason: probe.missing }, 'isolation.missing');
    return createIsolationDriver([plain()]);
  }
  log.info({ limits: limitsWord(cgroups) }, 'isolation.found');
  const isolated = createContainedDriver({ ...common, containment: probe.containment });
  if (choice === 'bubblewrap') return createIsolationDriver([isolated]);
  return createIsolationDriver(choice === 'auto' ? [isolated, plain()] : [plain(), isolated]);
}

/** What whoever has none can do. */
const WHERE_GROUPS_ARE = 'Run it as root, or as a systemd unit with Delegate=yes.';

function limitsWord(cgroups: Cgroups | undefined): string {
  return cgroups === undefined ? `memory is looked at, CPU is not limited: the agent may make no control groups. ${WHERE_GROUPS_ARE}` : `${cgroups.controllers.join(', ')} by control groups, version ${cgroups.version}`;
}
