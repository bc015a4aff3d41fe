/**
 * How long idle sandboxes are kept and which of them goes first when memory is needed: one policy per file behind this interface,
 * chosen by agent.keepAlivePolicy. What is shared stands in sandbox-pool.ts: the one that was used last serves first, and
 * nothing that works is ever ended.
 */

/** A sandbox at the moment at which it becomes idle. */
export interface IdleFacts {
  /** Now, ms. */
  readonly sinceMs: number;
  /** Its memory limit, MiB: what it takes of the node's budget. */
  readonly sizeMb: number;
  /** What it took lately on this node to make a sandbox of its function ready that was not warm, ms. */
  readonly costMs: number;
  /** Invocations of its function on this node since it has sandboxes here. */
  readonly uses: number;
  /** What its function asks for, ms; 0: nothing. */
  readonly functionKeepMs: number;
}

/** A keep-alive policy. Holds state (a clock), so one per node. */
export interface KeepAlivePolicy {
  readonly name: string;
  /** When it goes although nobody needs its memory, ms; Infinity: never. Not later than now: it is not kept at all. */
  untilMs(idle: IdleFacts): number;
  /** Its rank among all idle ones from now on: the least goes first when memory is needed, among equals the one that is idle for longest. */
  rank(idle: IdleFacts): number;
  /** One of this rank had to go because memory was needed. */
  drivenOut(rank: number): void;
}

/** When a function's own keep-alive ends; Infinity if it names none. */
export function untilItsOwn({ sinceMs, functionKeepMs }: IdleFacts): number {
  return functionKeepMs > 0 ? sinceMs + functionKeepMs : Infinity;
}
