/** A full disk, or a full quota of the file system, in our words. */
import { MetronomeError } from '../../core/errors.ts';

/** True for what the system says when there is no space. */
export function isDiskFull(error: unknown): boolean {
  const code = (error as { readonly code?: unknown } | null)?.code;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** STORE_FULL for a full disk; anything else as it is. `what` begins the sentence "… finds no space". */
export function orDiskFull(error: unknown, what: string): unknown {
  if (!isDiskFull(error)) return error;
  return new MetronomeError('STORE_FULL', `${what} finds no space on the disk of the agent's data folder. Free some there, or lower agent.packageQuota and agent.objectQuota so that what is unused goes earlier.`, { component: 'agent', cause: error });
}
