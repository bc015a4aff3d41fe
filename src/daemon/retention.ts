/**
 * Keeps the objects of living workflow runs on their holders: the run's inputs, and what its steps made, until no later step reads them.
 * Agents hold leases that end on their own when nobody renews them, so a scheduler that dies leaves nothing behind; one that lives renews them, and
 * tells an agent that was restarted all over again. The lease of a step's own inputs and outputs begins with its Execute, without a gap.
 */
import type { InputObject } from '../core/invocation.ts';
import type { LinkCommand } from './links-protocol.ts';

/** What the retention works with. */
export interface RetentionOptions {
  readonly command: (command: LinkCommand) => void;
  /** Calls `each` with every node that holds the object. */
  readonly forHolders: (object: InputObject, each: (node: number) => void) => void;
  readonly nowMs: () => number;
  readonly log: { warn(fields: object, event: string): void };
}

interface Kept {
  readonly objects: Map<string, InputObject>;
  /** Nodes that have a lease of the run. */
  readonly nodes: Set<number>;
  renewAtMs: number;
}

/** How long a lease lasts without renewal, ms: longer than a restart of the scheduler takes. */
export const LEASE_MS = 60_000;
const RENEW_MS = 20_000;
const TICK_MS = 500;
/** Objects of all runs together; beyond it they are left to the quota, like those of single invocations. */
const MAX_OBJECTS = 200_000;
/** Objects that are renewed in one tick at most; the other runs have their turn in the next. */
const OBJECTS_PER_TICK = 10_000;
/** Ids in one command. */
const IDS_PER_COMMAND = 1_000;

export class Retention {
  readonly #o: RetentionOptions;
  /** In the order in which they are renewed. */
  readonly #runs = new Map<string, Kept>();
  readonly #epochs = new Map<number, number>();
  readonly #timer: NodeJS.Timeout;
  #objects = 0;

  constructor(options: RetentionOptions) {
    this.#o = options;
    this.#timer = setInterval(() => this.#renewDue(), TICK_MS).unref();
  }

  /** A run begins: its inputs are kept wherever they lie. */
  begin(run: string, inputs: readonly InputObject[]): void {
    const kept: Kept = { objects: new Map(), nodes: new Set(), renewAtMs: this.#o.nowMs() + RENEW_MS };
    this.#runs.set(run, kept);
    this.#add(run, kept, inputs);
    this.#tell(run, kept);
  }

  /** A step of the run was sent to a node, which leases its inputs and outputs to the run by itself. */
  dispatched(run: string, node: number): void {
    this.#runs.get(run)?.nodes.add(node);
  }

  /** A step made these; the node that it ran on has leased them already. */
  produced(run: string, outputs: readonly InputObject[]): void {
    const kept = this.#runs.get(run);
    if (kept !== undefined) this.#add(run, kept, outputs);
  }

  /** No later step reads these. */
  unneeded(run: string, objects: readonly InputObject[]): void {
    const kept = this.#runs.get(run);
    if (kept === undefined) return;
    const ids: string[] = [];
    for (const { id } of objects) if (kept.objects.delete(id)) ids.push(id);
    this.#objects -= ids.length;
    for (let at = 0; at < ids.length; at += IDS_PER_COMMAND) for (const node of kept.nodes) this.#o.command({ kind: 'release', node, owner: run, objectIds: ids.slice(at, at + IDS_PER_COMMAND) });
  }

  /** The run ended. */
  end(run: string): void {
    const kept = this.#runs.get(run);
    if (kept === undefined) return;
    this.#runs.delete(run);
    this.#objects -= kept.objects.size;
    for (const node of kept.nodes) this.#o.command({ kind: 'release', node, owner: run, objectIds: [] });
  }

  /** A node told what it has. A process that is new there knows of no lease. */
  nodeReported(node: number, epoch: number): void {
    if (this.#epochs.get(node) === epoch) return;
    this.#epochs.set(node, epoch);
    for (const [run, kept] of this.#runs) this.#tell(run, kept, node);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #add(run: string, kept: Kept, objects: readonly InputObject[]): void {
    for (const object of objects) {
      if (kept.objects.has(object.id)) continue;
      if (this.#objects >= MAX_OBJECTS) {
        this.#o.log.warn({ run, objects: objects.length, kept: this.#objects }, 'objects.notKept');
        return;
      }
      kept.objects.set(object.id, object);
      this.#objects++;
    }
  }

  #renewDue(): void {
    const now = this.#o.nowMs();
    let budget = OBJECTS_PER_TICK;
    for (const [run, kept] of this.#runs) {
      if (kept.renewAtMs > now || budget <= 0) return;
      budget -= kept.objects.size + 1;
      kept.renewAtMs = now + RENEW_MS;
      this.#runs.delete(run);
      this.#runs.set(run, kept);
      this.#tell(run, kept);
    }
  }

  /** Tells every holder (or only `wanted`) what it has to keep for the run. */
  #tell(run: string, kept: Kept, wanted = -1): void {
    const idsOf = new Map<number, string[]>();
    for (const object of kept.objects.values()) {
      this.#o.forHolders(object, (node) => {
        if (wanted >= 0 && node !== wanted) return;
        const ids = idsOf.get(node);
        if (ids === undefined) idsOf.set(node, [object.id]);
        else ids.push(object.id);
      });
    }
    for (const [node, ids] of idsOf) {
      kept.nodes.add(node);
      for (let at = 0; at < ids.length; at += IDS_PER_COMMAND) this.#o.command({ kind: 'retain', node, owner: run, objectIds: ids.slice(at, at + IDS_PER_COMMAND), ttlMs: LEASE_MS });
    }
  }
}
