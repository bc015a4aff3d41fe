/**
 * Removal of folders in which somebody may be at work still. It must hold on to folders and not to names, so that a link in the
 * place of one cannot lead it elsewhere: rm(1) does that, Node's rm does not.
 */
import { execFile } from 'node:child_process';

/** Who adds to a folder all the time must not hold up the remover for good. */
const GIVE_UP_MS = 30_000;
const ARGUMENTS = process.platform === 'linux' ? ['-rf', '--one-file-system', '--'] : ['-rf', '--'];

/** Never rejects; what could not be removed stays. */
export function removeTrees(paths: readonly string[]): Promise<void> {
  return new Promise((resolve) => execFile('rm', [...ARGUMENTS, ...paths], { timeout: GIVE_UP_MS, killSignal: 'SIGKILL' }, () => resolve()));
}
