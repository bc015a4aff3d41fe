/** Nodes as the page shows them, read from the scheduler's own view. */
import type { NodeCell } from './page-api.ts';
import { DRAINING, LOST, NODE_STATES } from '../scheduler/cluster-view.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

/** Steps of counting warm sandboxes (functions × nodes) that one look may take; beyond it the last count is shown until it is old. */
const STEPS_PER_LOOK = 100_000;
/** So old it may be then, ms. */
const OLD_MS = 2_000;

/** node-2 before node-10. */
const BY_NAME = new Intl.Collator('en', { numeric: true });

/** Makes cells; keeps the counts of warm sandboxes for a while on clusters where counting is long. */
export class NodeCells {
  readonly #scheduler: Scheduler;
  #warm = new Int32Array();
  #countedAtMs = -Infinity;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** The busiest nodes, at most `limit`, by use, then by name; nodes that are lost come last. */
  all(limit: number): NodeCell[] {
    const { cluster } = this.#scheduler;
    this.#countWarm();
    const nodes = Array.from({ length: cluster.count }, (_, node) => node);
    if (nodes.length > limit) {
      const rank = (node: number): number => (cluster.status[node] === LOST ? -1 : (cluster.used[node] as number) / Math.max(1, cluster.slots[node] as number) + this.#scheduler.lines.waitingFor(node));
      nodes.sort((a, b) => rank(b) - rank(a));
      nodes.length = limit;
    }
    return nodes.map((node) => this.#cell(node)).sort((a, b) => BY_NAME.compare(a.name, b.name));
  }

  /** One node. */
  one(node: number): NodeCell {
    this.#countWarm();
    return this.#cell(node);
  }

  #cell(node: number): NodeCell {
    const { cluster, lines } = this.#scheduler;
    const status = cluster.status[node] as number;
    return {
      name: cluster.name(node),
      state: cluster.draining[node] === 1 && status !== LOST ? (NODE_STATES[DRAINING] as string) : (NODE_STATES[status] ?? 'unspecified'),
      slots: cluster.slots[node] as number,
      used: cluster.used[node] as number,
      waiting: lines.waitingFor(node),
      warm: this.#warm[node] ?? 0,
      zygotes: cluster.metric(node, 'zygotes'),
      cpu: cluster.metric(node, 'cpuUtilisation'),
      memoryUsed: cluster.metric(node, 'memoryUtilisation'),
      objectBytes: cluster.metric(node, 'objectBytes'),
      fetchBytesPerS: cluster.metric(node, 'fetchBytesPerS'),
    };
  }

  /** Sandboxes of all functions on each node, busy ones included. */
  #countWarm(): void {
    const { cluster, functions, nowMs } = this.#scheduler;
    const steps = functions.entries.length * cluster.count;
    if (steps > STEPS_PER_LOOK && nowMs - this.#countedAtMs < OLD_MS && this.#warm.length >= cluster.count) return;
    this.#countedAtMs = nowMs;
    const warm = new Int32Array(cluster.count);
    for (const entry of functions.entries) {
      if (entry.deleted) continue;
      for (const node of entry.rows.nodes()) if (node < warm.length) warm[node] = (warm[node] as number) + entry.idle(node) + entry.busy(node);
    }
    this.#warm = warm;
  }
}
