/** Which boot of the machine this is: what was written before another one may have lost pages in a power cut, whatever its size and time say. */
import { readFileSync } from 'node:fs';

/** The boot of this machine; '' where it has no id. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}
