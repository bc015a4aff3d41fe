/** Entry point of the watcher, once the owner of an emulated cluster is gone: takes the cluster away. `node reap-main.ts <id>`. */
import { isAlive, readClaim } from './claims.ts';
import { isId } from './names.ts';
import { reapIfAbandoned } from './reaper.ts';

/** Its pipe closes a moment before the process is gone. */
const WAIT_MS = 10_000;
const LOOK_EVERY_MS = 20;

const [id = ''] = process.argv.slice(2);
if (!isId(id)) process.exit(2);
const untilMs = performance.now() + WAIT_MS;
for (let claim = readClaim(id); claim !== undefined && isAlive(claim.owner) && performance.now() < untilMs; claim = readClaim(id)) await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
const reaped = reapIfAbandoned(id);
process.exit(reaped === undefined || reaped.left.length === 0 ? 0 : 1);
