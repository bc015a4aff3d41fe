/**
 * The indexes under which the model knows functions and nodes. They are the model's own and belong to names, so that what was learned stays with
 * its function and its node over restarts, whatever places these take in the scheduler's tables then.
 */

/** Names by key; '' at a key that is free. */
export interface KeyNames {
  readonly functions: readonly string[];
  readonly nodes: readonly string[];
}

/** From places in the scheduler's tables to keys. */
export interface Keys {
  functionKey(index: number): number;
  nodeKey(index: number): number;
}

/** Places are keys: for a model that lives no longer than its scheduler. */
export const OWN_PLACES: Keys = { functionKey: (index) => index, nodeKey: (index) => index };

/** Keys of nodes; further nodes share the last one. */
const MAX_NODES = 16_384;
const MAX_FUNCTIONS = 100_000;

/** One namespace: a key per name. */
class NameTable {
  names: string[] = [];
  readonly #byName = new Map<string, number>();
  readonly #free: number[] = [];
  readonly #most: number;
  /** Keys by place, and the names that were there when they were looked up. */
  #keys = new Int32Array(64).fill(-1);
  #seen: (string | undefined)[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  keyOf(name: string): number {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const key = this.#free.pop() ?? (this.names.length < this.#most ? this.names.length : this.#most - 1);
    this.names[key] = name;
    this.#byName.set(name, key);
    return key;
  }

  /** The key of whoever has this place now. A string is compared, mostly by identity. */
  at(place: number, name: string): number {
    if (this.#seen[place] === name) return this.#keys[place] as number;
    if (place >= this.#keys.length) {
      const grown = new Int32Array(Math.max(place + 1, this.#keys.length * 2)).fill(-1);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    this.#seen[place] = name;
    return (this.#keys[place] = this.keyOf(name));
  }

  free(name: string): number | undefined {
    const key = this.#byName.get(name);
    if (key === undefined) return undefined;
    this.#byName.delete(name);
    this.names[key] = '';
    this.#free.push(key);
    this.#seen = [];
    return key;
  }

  load(names: readonly string[]): void {
    this.names = [...names];
    this.#byName.clear();
    this.#free.length = 0;
    this.#seen = [];
    this.names.forEach((name, key) => (name === '' ? this.#free.push(key) : this.#byName.set(name, key)));
  }
}

export class ModelKeys implements Keys {
  readonly #functions = new NameTable(MAX_FUNCTIONS);
  readonly #nodes = new NameTable(MAX_NODES);
  readonly #functionName: (index: number) => string;
  readonly #nodeName: (index: number) => string;

  /** The callbacks say who has a place now. */
  constructor(functionName: (index: number) => string, nodeName: (index: number) => string) {
    this.#functionName = functionName;
    this.#nodeName = nodeName;
  }

  functionKey(index: number): number {
    return this.#functions.at(index, this.#functionName(index));
  }

  nodeKey(index: number): number {
    return this.#nodes.at(index, this.#nodeName(index));
  }

  functionKeyOf(name: string): number {
    return this.#functions.keyOf(name);
  }

  nodeKeyOf(name: string): number {
    return this.#nodes.keyOf(name);
  }

  nodeNameOf(key: number): string {
    return this.#nodes.names[key] ?? '';
  }

  /** The function is no more; its key may come again. Returns it. */
  freeFunction(name: string): number | undefined {
    return this.#functions.free(name);
  }

  get names(): KeyNames {
    return { functions: this.#functions.names, nodes: this.#nodes.names };
  }

  /** Another model has its own keys. */
  load({ functions, nodes }: KeyNames): void {
    this.#functions.load(functions);
    this.#nodes.load(nodes);
  }
}

/** Whether a model with the keys `of` may be used with `keys`: no key stands for two names. */
export function fitsKeys(of: KeyNames, keys: KeyNames): boolean {
  const fits = (own: readonly string[], others: readonly string[]): boolean => own.every((name, key) => name === '' || others[key] === undefined || others[key] === name);
  return fits(of.functions, keys.functions) && fits(of.nodes, keys.nodes);
}
