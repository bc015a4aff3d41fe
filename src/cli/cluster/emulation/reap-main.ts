/** Entry point of the watcher, once the owner of an emulated cluster is gone: takes away what was left behind. `node reap-main.ts <pid of the owner>`. */
import { allClaims, isAlive } from './claims.ts';
import { reapAbandoned } from './reaper.ts';

/** Its pipe closes a moment before the process is gone. */
const WAIT_MS = 10_000;
const LOOK_EVERY_MS = 20;

const pid = Number(process.argv[2]);
const untilMs = performance.now() + WAIT_MS;
while (allClaims().some(({ owner }) => owner.pid === pid && isAlive(owner)) && performance.now() < untilMs) await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
process.exit(reapAbandoned().every(({ left }) => left.length === 0) ? 0 : 1);
