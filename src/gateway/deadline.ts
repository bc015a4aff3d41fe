/** The life of a gRPC deadline at the door: from the call's wall clock to the loop's, and how its end is told from a cancellation. */
import { callDeadlineAtMs } from '../rpc/handlers.ts';

/** gRPC statuses of calls that their caller ended. */
export const CANCELLED = 1, DEADLINE_EXCEEDED = 4;

/** A client's own timer ends the call a little before ours would: by the time that the request travelled. */
const TOLERANCE_MS = 50;

/** The deadline of a call on the loop's clock, ms since 1970; 0: none. grpc-js counts on the wall clock, which may jump. */
export function loopDeadlineAtMs(deadline: Date | number, nowMs: number): number {
  const atMs = callDeadlineAtMs(deadline);
  return atMs === 0 ? 0 : nowMs + (atMs - Date.now());
}

/** True when a call that just ended did so because its time was up. The loop ends its invocation by itself then. */
export function isDue(deadlineAtMs: number, nowMs: number): boolean {
  return deadlineAtMs !== 0 && nowMs >= deadlineAtMs - TOLERANCE_MS;
}
