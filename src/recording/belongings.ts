/** What nodes have at a moment, as they told it: idle sandboxes, package sets, zygotes. Follows the inputs of the scheduler; nodes by their numbers there. */
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { InputName } from './inputs.ts';

/** Plain values, so that they can be written. */
export interface Belongings {
  /** Idle sandboxes. */
  readonly warm: readonly { readonly functionName: string; readonly node: number; readonly count: number }[];
  readonly packageSets: readonly { readonly packageSet: string; readonly node: number }[];
  readonly zygotes: readonly { readonly packageSet: string; readonly node: number }[];
}

/** Entries of each kind that are kept; what comes beyond is not known. */
const MOST = 100_000;

export class BelongingsOfNodes {
  readonly #warm = new Map<string, Belongings['warm'][number]>();
  readonly #packageSets = new Map<string, Belongings['packageSets'][number]>();
  readonly #zygotes = new Map<string, Belongings['zygotes'][number]>();

  constructor(before?: Belongings) {
    for (const one of before?.warm ?? []) this.#warm.set(`${one.node} ${one.functionName}`, one);
    for (const one of before?.packageSets ?? []) this.#packageSets.set(`${one.node} ${one.packageSet}`, one);
    for (const one of before?.zygotes ?? []) this.#zygotes.set(`${one.node} ${one.packageSet}`, one);
  }

  /** An input of the scheduler, as keptArguments has it; most tell nothing here. */
  noted(name: InputName, args: readonly unknown[]): void {
    switch (name) {
      case 'setWarm': {
        const [functionName, , node, count] = args as Parameters<Scheduler['setWarm']>;
        return put(this.#warm, `${node} ${functionName}`, count > 0 ? { functionName, node, count } : undefined);
      }
      case 'setPackages': {
        const [packageSet, node, isHere] = args as Parameters<Scheduler['setPackages']>;
        return put(this.#packageSets, `${node} ${packageSet}`, isHere ? { packageSet, node } : undefined);
      }
      case 'setZygote': {
        const [node, { packageSet, function: only, idle }] = args as Parameters<Scheduler['setZygote']>;
        if (packageSet === '' || only !== '') return; // bare runtimes, and those of one function: no package set is nearer by them
        return put(this.#zygotes, `${node} ${packageSet}`, idle > 0 ? { packageSet, node } : undefined);
      }
      case 'forgetLocality':
      case 'nodeGone':
        return this.#forget(args[0] as number);
      default:
    }
  }

  #forget(gone: number): void {
    for (const all of [this.#warm, this.#packageSets, this.#zygotes]) for (const [key, { node }] of all) if (node === gone) all.delete(key);
  }

  get now(): Belongings {
    return { warm: [...this.#warm.values()], packageSets: [...this.#packageSets.values()], zygotes: [...this.#zygotes.values()] };
  }
}

function put<T>(all: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) all.delete(key);
  else if (all.has(key) || all.size < MOST) all.set(key, value);
}
