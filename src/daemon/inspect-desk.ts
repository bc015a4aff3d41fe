/** What the page asks for beside the stream: lists and details, answered from the loop's own state. */
import { MetronomeError } from '../core/errors.ts';
import { Heap } from '../core/heap.ts';
import { INVOCATION_STATES, type Invocation } from '../core/invocation.ts';
import type { InspectInvocationsRequest } from '../gateway/protocol.ts';
import { toInvocationRow } from '../inspect/invocation-rows.ts';
import type { NodeCells } from '../inspect/node-cells.ts';
import type { InvocationList, InvocationRow, NodeDetail, NodeList } from '../inspect/page-api.ts';
import { METRIC_NAMES } from '../scheduler/cluster-view.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { Work } from './work.ts';

export interface InspectDeskOptions {
  readonly scheduler: Scheduler;
  readonly work: Pick<Work, 'remembered'>;
  readonly cells: Pick<NodeCells, 'all' | 'one'>;
  readonly nowMs: () => number;
}

/** The desk, in the loop. */
export interface InspectDesk {
  invocations(request: InspectInvocationsRequest): InvocationList;
  nodes(limit: number): NodeList;
  /** Throws NODE_NOT_FOUND. */
  node(name: string): NodeDetail;
}

/** Entries of a list in one node's detail. */
const MAX_LISTED = 200;
const MAX_ROWS = 500;

export function createInspectDesk({ scheduler, work, cells, nowMs }: InspectDeskOptions): InspectDesk {
  const { cluster, functions, lines } = scheduler;
  const nameOf = (node: number): string => cluster.name(node);
  return {
    invocations({ state, function: functionName, node, limit, beforeMs, beforeSeq }) {
      const wantedState = state === '' ? 0 : INVOCATION_STATES.findIndex((name) => name === state);
      if (wantedState < 0) throw new MetronomeError('INVALID_REQUEST', `There is no state "${state}". States: ${INVOCATION_STATES.slice(1).join(', ')}.`, { component: 'scheduler', violations: [{ field: 'state', description: 'is no state' }] });
      const wantedNode = node === '' ? -1 : cluster.indexOf(node);
      if (node !== '' && wantedNode < 0) throw new MetronomeError('NODE_NOT_FOUND', `There is no node "${node}".`, { component: 'scheduler' });
      const most = Math.min(MAX_ROWS, limit);
      const fits = (invocation: Invocation): boolean =>
        (wantedState === 0 || invocation.state === wantedState) && (functionName === '' || invocation.functionName === functionName) && (wantedNode < 0 || invocation.node === wantedNode || (invocation.node < 0 && invocation.target === wantedNode)) && (beforeMs === 0 || invocation.arrivedAtMs < beforeMs || (invocation.arrivedAtMs === beforeMs && invocation.seq < beforeSeq));
      // What is remembered stands in the order of ends, so all are looked at; the newest of them are kept, the oldest on top.
      const newest = new Heap<Invocation>();
      let count = 0;
      for (const list of [scheduler.live.values(), work.remembered.values()]) {
        for (const item of list) {
          if (!('host' in item) || !fits(item)) continue;
          count++;
          newest.push(item.arrivedAtMs, item.seq, item);
          if (newest.size > most) newest.pop();
        }
      }
      const found: Invocation[] = [];
      for (let next = newest.pop(); next !== undefined; next = newest.pop()) found.push(next);
      found.reverse();
      const now = nowMs();
      return { invocations: found.map((invocation) => toInvocationRow(invocation, nameOf, now)), more: count > most };
    },
    nodes: (limit) => ({ nodes: cells.all(limit), leftOut: Math.max(0, cluster.count - limit) }),
    node(name) {
      const index = cluster.indexOf(name);
      if (index < 0) throw new MetronomeError('NODE_NOT_FOUND', `There is no node "${name}". Known nodes: ${cluster.info.slice(0, 20).map((info) => info.name).join(', ') || 'none'}.`, { component: 'scheduler' });
      const now = nowMs();
      const line: InvocationRow[] = [];
      lines.forNode(index, (waiter) => line.length < MAX_LISTED && line.push(toInvocationRow(waiter, nameOf, now)));
      const warmByFunction: Record<string, { idle: number; busy: number }> = {};
      let listed = 0;
      for (const entry of functions.onNode(index)) {
        const idle = entry.idle(index), busy = entry.busy(index);
        if (entry.deleted || idle + busy === 0 || listed++ >= MAX_LISTED) continue;
        warmByFunction[entry.settings.name] = { idle, busy };
      }
      return {
        ...cells.one(index),
        running: (cluster.running[index] ?? []).slice(0, MAX_LISTED).map((invocation) => toInvocationRow(invocation, nameOf, now)),
        line,
        warmByFunction,
        zygoteSets: scheduler.zygotes.kindsOf(index).slice(0, MAX_LISTED).map(({ runtime, packageSet, function: only, idle, packages }) => `${idle} × ${runtime}${only === '' ? '' : ` of ${only}`}: ${packageSet === '' ? 'no packages' : `${packages.length} ${packages.length === 1 ? 'package' : 'packages'}`}`),
        packageSets: scheduler.packages.setsOf(index),
        objects: cluster.objectCount[index] ?? 0,
        metrics: Object.fromEntries(METRIC_NAMES.map((metric) => [metric, cluster.metric(index, metric)])),
      };
    },
  };
}
