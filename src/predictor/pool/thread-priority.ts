/** The priority of a thread that computes beside the loop. */
import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';

/** Gives the calling thread the lowest priority of Linux's time sharing. Elsewhere, or where that is not allowed, it keeps the one that it has. */
export function lowerThreadPriority(): void {
  try {
    // "<process>/task/<thread>"; priorities of Linux belong to threads.
    setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), constants.priority.PRIORITY_LOW);
  } catch {
    // It computes at the priority of the others: slower decisions, the same model.
  }
}
