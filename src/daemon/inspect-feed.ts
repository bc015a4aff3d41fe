/** What the inspector's readers get four times a second: one tick and the sampled transitions, made once for all of them, and only while somebody reads. */
import type { LoopMessage } from '../gateway/protocol.ts';
import type { Inspector } from '../inspect/inspector.ts';
import { toTransitionRow } from '../inspect/invocation-rows.ts';
import type { NodeCells } from '../inspect/node-cells.ts';
import type { Hello, Tick } from '../inspect/page-api.ts';
import type { MachineFlow } from '../../machines/flow.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

export interface InspectFeedOptions {
  readonly scheduler: Scheduler;
  readonly inspector: Inspector;
  readonly cells: NodeCells;
  /** Of machines that are not the scheduler's own; undefined: there are none. */
  readonly workflow: MachineFlow;
  readonly model: MachineFlow | undefined;
  readonly nowMs: () => number;
  readonly version: string;
  readonly startedAtMs: number;
  /** Counters beside the scheduler's. */
  readonly counters: () => Readonly<Record<string, number>>;
  readonly post: (message: LoopMessage) => void;
}

const TICK_MS = 250;
/** Transitions and nodes in one tick. */
const MAX_TRANSITIONS = 500;
const MAX_NODES = 256;

export class InspectFeed {
  readonly #o: InspectFeedOptions;
  #timer: NodeJS.Timeout | undefined;
  #next = 0;

  constructor(options: InspectFeedOptions) {
    this.#o = options;
  }

  /** Begins; the first tick comes at once. Harmless when it runs. */
  open(): void {
    if (this.#timer !== undefined) return;
    const { inspector } = this.#o;
    this.#next = inspector.transitions.next;
    inspector.traffic.take(); // what ended while nobody looked belongs to no tick
    this.#o.scheduler.shadow?.take();
    this.#timer = setInterval(() => this.push(), TICK_MS);
    this.push();
  }

  /** Nobody reads any more. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  hello(): Hello {
    const { scheduler, version, startedAtMs } = this.#o;
    return { version, startedAtMs, policy: scheduler.policyName, shadowPolicy: scheduler.shadow?.policy ?? '', simulated: false };
  }

  /** Tells the present moment, and what happened since the last one. */
  push(): void {
    const { inspector, scheduler, post } = this.#o;
    const { records, next, missed } = inspector.transitions.sample(this.#next, MAX_TRANSITIONS);
    this.#next = next;
    const nameOf = (node: number): string => scheduler.cluster.name(node);
    post({ kind: 'inspected', hello: this.hello(), tick: this.#tick(), transitions: { next, missed, records: records.map((record) => toTransitionRow(record, nameOf)) } });
  }

  #tick(): Tick {
    const { scheduler, inspector, cells, workflow, model } = this.#o;
    const { invocation, node } = scheduler.flows;
    const shadow = scheduler.shadow?.take();
    return {
      atMs: this.#o.nowMs(),
      machines: { invocation: numbers(invocation), node: numbers(node), sandbox: this.#sandboxes(), workflow: numbers(workflow), ...(model === undefined ? {} : { model: numbers(model) }) },
      live: scheduler.live.size,
      delayingForLocality: scheduler.lines.locality,
      delayingForCapacity: scheduler.lines.capacity,
      counters: { ...scheduler.counters, ...this.#o.counters() },
      ended: inspector.traffic.take(),
      nodes: cells.all(MAX_NODES),
      ...(shadow === undefined ? {} : { shadow }),
    };
  }

  /** Sandboxes live in the agents: what these report is who is idle and who is busy, in the order of the machine's states. */
  #sandboxes(): { counts: number[]; flow: number[] } {
    const { cluster, functions } = this.#o.scheduler;
    let idle = 0, busy = 0;
    for (let node = 0; node < cluster.count; node++) idle += cluster.metric(node, 'idleSandboxes');
    for (const entry of functions.entries) if (!entry.deleted) busy += entry.running;
    return { counts: [0, idle, busy, 0, 0], flow: [] };
  }
}

function numbers({ counts, taken }: MachineFlow): { counts: number[]; flow: number[] } {
  return { counts: Array.from(counts), flow: Array.from(taken) };
}
