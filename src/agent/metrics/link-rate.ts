/** How much the links of this node carry, by what the kernel says of its network interfaces. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isNetworkInterface } from './host-source.ts';

/** Bytes per second in 1 Mbit/s. */
const MBIT = 125_000;

/** Bytes per second in each direction of all interfaces together whose traffic counts; 0 when one of them does not know (many virtual ones do not). Tests give another folder. */
export function readLinkRate(folder = '/sys/class/net'): number {
  try {
    let mbits = 0;
    for (const name of readdirSync(folder)) {
      if (!isNetworkInterface(name)) continue;
      const own = Number(readFileSync(join(folder, name, 'speed'), 'utf8'));
      if (!(own > 0)) return 0; // -1: not known
      mbits += own;
    }
    return mbits * MBIT;
  } catch {
    return 0; // no such folder, or an interface that is down
  }
}
