/**
 * The indexes under which the model knows functions and nodes. They are the model's own and belong to names, so that what was learned stays with
 * its function and its node over restarts, whatever places these take in the scheduler's tables then.
 */

/** Characters of a name; a snapshot with a longer one is refused. */
export const MOST_NAME = 1_024;

/** Names by key; '' at a key that is free. */
export interface KeyNames {
  readonly functions: readonly string[];
  readonly nodes: readonly string[];
}

/** Who has no name, or came when all keys were taken: the model knows nothing of it, and answers with what it knows of all. */
export const NO_KEY = -1;

/** From places in the scheduler's tables to keys, or NO_KEY. */
export interface Keys {
  functionKey(index: number): number;
  nodeKey(index: number): number;
}

/** Places are keys: for a model that lives no longer than its scheduler. */
export const OWN_PLACES: Keys = { functionKey: (index) => index, nodeKey: (index) => index };

/** Keys; whoever comes when they are taken has none. */
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

  /** The key of a name that has one. */
  find(name: string): number {
    return this.#byName.get(name) ?? NO_KEY;
  }

  /** The key of a name; a new name gets one, if there is one left. */
  keyOf(name: string): number {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    if (name === '') return NO_KEY;
    const key = this.#free.pop() ?? (this.names.length < this.#most ? this.names.length : NO_KEY);
    if (key === NO_KEY) return NO_KEY;
    this.names[key] = name;
    this.#byName.set(name, key);
    return key;
  }

  /** The key of whoever has this place now. A string is compared, mostly by identity. */
  at(place: number, name: string): number {
    if (place < 0) return NO_KEY;
    if (this.#seen[place] === name) return this.#keys[place] as number;
    if (place >= this.#keys.length) {
      const grown = new Int32Array(Math.max(place + 1, this.#keys.length * 2)).fill(-1);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    this.#seen[place] = name;
    return (this.#keys[place] = this.keyOf(name));
  }

  /** Takes the key from a name. It comes again only when it was freed. */
  retire(name: string): number | undefined {
    const key = this.#byName.get(name);
    if (key === undefined) return undefined;
    this.#byName.delete(name);
    this.names[key] = '';
    this.#seen = [];
    return key;
  }

  free(key: number): void {
    this.#free.push(key);
    this.#seen = []; // who had none may have one now
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
  readonly #functions: NameTable;
  readonly #nodes: NameTable;
  readonly #functionName: (index: number) => string;
  readonly #nodeName: (index: number) => string;

  /** The callbacks say who has a place now. */
  constructor(functionName: (index: number) => string, nodeName: (index: number) => string, most = { functions: MAX_FUNCTIONS, nodes: MAX_NODES }) {
    this.#functions = new NameTable(most.functions);
    this.#nodes = new NameTable(most.nodes);
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

  /** The same for names that may be unknown: nobody gets a key by being asked about. */
  findFunction(name: string): number {
    return this.#functions.find(name);
  }

  findNode(name: string): number {
    return this.#nodes.find(name);
  }

  nodeNameOf(key: number): string {
    return this.#nodes.names[key] ?? '';
  }

  /** The function is no more. Returns its key, which comes again when freeFunction says that the model has forgotten it. */
  retireFunction(name: string): number | undefined {
    return this.#functions.retire(name);
  }

  freeFunction(key: number): void {
    this.#functions.free(key);
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

/**
 * Whether a model with the keys `of` may be used with `keys`: no node's key stands for two names. Functions come and go: those whose keys have other
 * names now (staleFunctions) must be forgotten.
 */
export function fitsKeys(of: KeyNames, keys: KeyNames): boolean {
  return of.nodes.every((name, key) => isFree(name) || isFree(keys.nodes[key]) || keys.nodes[key] === name);
}

/** Keys of functions that a model with the keys `of` knows under names that are not theirs in `keys`. */
export function staleFunctions(of: KeyNames, keys: KeyNames): number[] {
  return of.functions.flatMap((name, key) => (isFree(name) || keys.functions[key] === name ? [] : [key]));
}

function isFree(name: string | undefined): boolean {
  return name === undefined || name === '';
}
