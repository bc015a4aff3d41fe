/** Removes what killed emulated clusters left behind, and tells it: `metronome up --clean`, `metronome doctor --fix`. */
import { MetronomeError } from '../../../core/errors.ts';
import { abandoned, reapAbandoned } from './reaper.ts';

/** Returns how many clusters are still not gone. CONFIG_INVALID when there are some and this is not root. Blocking. */
export function cleanUp(tell: (line: string) => void): number {
  const found = abandoned();
  if (found.length === 0) {
    tell('No emulated cluster was left behind.');
    return 0;
  }
  if (process.getuid?.() !== 0) throw new MetronomeError('CONFIG_INVALID', `Root left emulated clusters behind (${found.map(({ id }) => id).join(', ')}); only root can remove them: sudo metronome up --clean`);
  const reaped = reapAbandoned();
  for (const { id, pid, left } of reaped) tell(left.length === 0 ? `Removed the emulated cluster ${id} that process ${pid} had left behind.` : `Of the emulated cluster ${id} (process ${pid}) is still there: ${left.join(', ')}.`);
  return reaped.filter(({ left }) => left.length > 0).length;
}
