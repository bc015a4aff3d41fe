/**
 * What is known when a segment begins: functions, nodes, what they have, and the policy. Followed from the blocks themselves, in the thread that writes
 * them, so that a recording can be read from any segment on when earlier ones are gone. It is no state of the scheduler: nothing can be replayed from it.
 */
import type { FunctionSettings } from '../scheduler/function-table.ts';
import type { NodeInfo } from '../scheduler/cluster-view.ts';
import { BelongingsOfNodes, type Belongings } from './belongings.ts';
import { FactCursor } from './cursor.ts';
import type { RecordingHead, StoredBlock } from './format.ts';

/** Plain values, in the head of the segment. */
export interface SegmentContext {
  readonly functions: readonly FunctionSettings[];
  /** In the order of the scheduler's numbers. */
  readonly nodes: readonly NodeInfo[];
  readonly belongings: Belongings;
  readonly policy: string;
}

export class ContextFollower {
  readonly #head: RecordingHead;
  readonly #functions = new Map<string, FunctionSettings>();
  readonly #nodes = new Map<string, NodeInfo>();
  readonly #belongings = new BelongingsOfNodes();
  #policy: string;

  constructor(head: RecordingHead) {
    this.#head = head;
    this.#policy = head.scheduler.policy;
  }

  /** Reads what a block tells. O(facts). */
  follow(block: StoredBlock): void {
    const cursor = new FactCursor(this.#head, [block]);
    /** A policy that was asked for; it counts when the call did not throw. */
    let asked: string | undefined;
    for (let fact = cursor.next(); fact !== undefined; fact = cursor.next()) {
      if (fact.kind === 'threw') asked = undefined;
      else if (fact.kind === 'gap') {
        for (const settings of fact.context.functions) this.#functions.set((settings as FunctionSettings).name, settings as FunctionSettings);
        for (const info of fact.context.nodes) this.#nodes.set((info as NodeInfo).name, info as NodeInfo);
      } else if (fact.kind === 'call') {
        if (asked !== undefined) this.#policy = asked;
        asked = undefined;
        const { name, args } = fact;
        // What the arguments are, keptArguments says.
        if (name === 'putFunction') this.#functions.set((args[0] as FunctionSettings).name, args[0] as FunctionSettings);
        else if (name === 'deleteFunction') this.#functions.delete(args[0] as string);
        else if (name === 'nodeRegistered') this.#nodes.set((args[0] as NodeInfo).name, args[0] as NodeInfo);
        else if (name === 'setPolicy') asked = args[0] as string;
        else this.#belongings.noted(name, args);
      }
    }
    if (asked !== undefined) this.#policy = asked;
  }

  get now(): SegmentContext {
    return { functions: [...this.#functions.values()], nodes: [...this.#nodes.values()], belongings: this.#belongings.now, policy: this.#policy };
  }
}
