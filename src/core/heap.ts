/**
 * Two binary heaps of the hot path: a plain one for waiting lines (lazy deletion by their owner) and an indexed one
 * for deadlines (each item knows its place, so that moving and removing cost O(log n)). Equal keys leave in order of insertion.
 */

/** A min-heap over (key, order). All operations O(log n); no allocation apart from growth of its arrays. */
export class Heap<T> {
  readonly #keys: number[] = [];
  readonly #orders: number[] = [];
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** Adds an item. `order` breaks ties, smaller first. */
  push(key: number, order: number, item: T): void {
    const keys = this.#keys, orders = this.#orders, items = this.#items;
    let at = items.length;
    keys.push(key);
    orders.push(order);
    items.push(item);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const upKey = keys[up] as number;
      if (upKey < key || (upKey === key && (orders[up] as number) <= order)) break;
      keys[at] = upKey;
      orders[at] = orders[up] as number;
      items[at] = items[up] as T;
      at = up;
    }
    keys[at] = key;
    orders[at] = order;
    items[at] = item;
  }

  /** The first item, or undefined. */
  peek(): T | undefined {
    return this.#items[0];
  }

  /** The item at a place of the heap, 0 to size − 1: the first comes first, the others in no full order. */
  at(place: number): T | undefined {
    return this.#items[place];
  }

  /** Key of the first item; Infinity when empty. */
  peekKey(): number {
    return this.#items.length === 0 ? Infinity : (this.#keys[0] as number);
  }

  /** Takes the first item, or undefined. */
  pop(): T | undefined {
    const keys = this.#keys, orders = this.#orders, items = this.#items;
    const size = items.length - 1;
    if (size < 0) return undefined;
    const first = items[0];
    const key = keys.pop() as number, order = orders.pop() as number, item = items.pop() as T;
    if (size === 0) return first;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && ((keys[child + 1] as number) < (keys[child] as number) || (keys[child + 1] === keys[child] && (orders[child + 1] as number) < (orders[child] as number)))) child++;
      const childKey = keys[child] as number;
      if (key < childKey || (key === childKey && order <= (orders[child] as number))) break;
      keys[at] = childKey;
      orders[at] = orders[child] as number;
      items[at] = items[child] as T;
      at = child;
    }
    keys[at] = key;
    orders[at] = order;
    items[at] = item;
    return first;
  }

  /** Drops what `keep` refuses, O(n). */
  retain(keep: (item: T) => boolean): void {
    const kept: [number, number, T][] = [];
    for (let i = 0; i < this.#items.length; i++) {
      const item = this.#items[i] as T;
      if (keep(item)) kept.push([this.#keys[i] as number, this.#orders[i] as number, item]);
    }
    this.#keys.length = this.#orders.length = this.#items.length = 0;
    for (const [key, order, item] of kept) this.push(key, order, item);
  }
}

/** What stands in a DeadlineHeap: it carries its own deadline and its own place. */
export interface Timed {
  /** When it is due, ms. */
  dueAtMs: number;
  /** Its place in the heap; -1 when it is in none. Only the heap writes it. */
  duePlace: number;
}

/** An indexed min-heap by dueAtMs: at most one entry per item. Keys stand beside the items, so that comparing touches no item. */
export class DeadlineHeap<T extends Timed> {
  readonly #items: T[] = [];
  readonly #keys: number[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** When the first one is due; Infinity when empty. */
  get nextMs(): number {
    return this.#items.length === 0 ? Infinity : (this.#keys[0] as number);
  }

  /** Adds the item, or moves it, to `dueAtMs`. O(log n). */
  set(item: T, dueAtMs: number): void {
    item.dueAtMs = dueAtMs;
    if (item.duePlace < 0) {
      item.duePlace = this.#items.length;
      this.#items.push(item);
      this.#keys.push(dueAtMs);
    }
    this.#settle(item, dueAtMs);
  }

  /** Takes the item out; harmless when it is not in. O(log n). */
  delete(item: T): void {
    const at = item.duePlace;
    if (at < 0) return;
    item.duePlace = -1;
    const last = this.#items.pop() as T;
    const key = this.#keys.pop() as number;
    if (last === item) return;
    last.duePlace = at;
    this.#settle(last, key);
  }

  /** Takes the first item if it is due by `nowMs`. */
  popDue(nowMs: number): T | undefined {
    if (this.nextMs > nowMs) return undefined;
    const first = this.#items[0];
    if (first !== undefined) this.delete(first);
    return first;
  }

  /** Puts `item` with `key` where it belongs, beginning at its place. */
  #settle(item: T, key: number): void {
    const items = this.#items, keys = this.#keys;
    let at = item.duePlace;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const upKey = keys[up] as number;
      if (upKey <= key) break;
      const parent = items[up] as T;
      items[at] = parent;
      keys[at] = upKey;
      parent.duePlace = at;
      at = up;
    }
    const size = items.length;
    for (let child = 2 * at + 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && (keys[child + 1] as number) < (keys[child] as number)) child++;
      const childKey = keys[child] as number;
      if (key <= childKey) break;
      const down = items[child] as T;
      items[at] = down;
      keys[at] = childKey;
      down.duePlace = at;
      at = child;
    }
    items[at] = item;
    keys[at] = key;
    item.duePlace = at;
  }
}
