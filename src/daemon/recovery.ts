/**
 * After a restart: what was accepted asynchronously and has not ended. What was never sent runs now; what was sent waits for
 * its agent's truth: still there → taken back; same agent process but not there → it never arrived, run it; agent gone or
 * restarted → run it again if that is harmless, otherwise report it as interrupted. Nothing runs twice that must not.
 */
import type { Store, StoredInvocation } from '../store/store.ts';
import type { Work } from './work.ts';

export class Recovery {
  readonly #work: Work;
  readonly #sent = new Map<string, StoredInvocation>();
  #timer: NodeJS.Timeout | undefined;

  constructor(work: Work) {
    this.#work = work;
  }

  /** Reads what is open. `graceMs`: how long agents have to report before what they had counts as gone. Returns how many were found. */
  async begin(store: Store, graceMs: number): Promise<number> {
    let found = 0;
    const fresh: StoredInvocation[] = [];
    for await (const row of store.listOpenInvocations()) {
      found++;
      // A workflow run is not taken back: its steps are not stored. It starts again if all its functions allow it.
      if (row.status === 'accepted') fresh.push(row);
      else if (row.kind === 'workflow') {
        if (row.idempotent) fresh.push(row);
        else this.#work.interrupt(row);
      } else {
        this.#sent.set(row.id, row);
        this.#work.recovering.add(row.id);
      }
    }
    for (const row of fresh) this.#work.resume(row);
    this.#timer = setTimeout(() => this.#giveUp(), graceMs);
    return found;
  }

  /** An agent's snapshot came: decides on all that was sent to this node. */
  nodeReported(name: string, node: number, epoch: number): void {
    for (const row of [...this.#sent.values()]) {
      if (row.node !== name) continue;
      this.#sent.delete(row.id);
      this.#work.recovering.delete(row.id);
      if (row.nodeEpoch !== epoch) this.#lost(row);
      else if (!this.#work.adopt(row, node)) this.#work.resume(row);
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #giveUp(): void {
    for (const row of this.#sent.values()) this.#lost(row);
    this.#sent.clear();
    this.#work.recovering.clear();
  }

  #lost(row: StoredInvocation): void {
    if (row.idempotent) this.#work.resume(row);
    else this.#work.interrupt(row);
  }
}
