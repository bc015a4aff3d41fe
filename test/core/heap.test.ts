import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeadlineHeap, Heap, type Timed } from '../../src/core/heap.ts';

describe('Heap', () => {
  it('is empty at first', () => {
    const heap = new Heap<string>();
    expect(heap.size).toBe(0);
    expect(heap.peek()).toBeUndefined();
    expect(heap.peekKey()).toBe(Infinity);
    expect(heap.pop()).toBeUndefined();
  });

  it('gives items back in order of key, then of insertion, like a stable sort', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 200 }), (keys) => {
      const heap = new Heap<number>();
      keys.forEach((key, order) => heap.push(key, order, order));
      const expected = keys.map((key, order) => ({ key, order })).sort((a, b) => a.key - b.key || a.order - b.order).map(({ order }) => order);
      const got: number[] = [];
      for (let item = heap.pop(); item !== undefined; item = heap.pop()) got.push(item);
      expect(got).toEqual(expected);
    }));
  });

  it('agrees with a sorted array under any mixture of push, pop and retain', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('push' as const), key: fc.integer({ min: -5, max: 5 }) }),
      fc.record({ kind: fc.constant('pop' as const) }),
      fc.record({ kind: fc.constant('retain' as const), modulus: fc.integer({ min: 2, max: 4 }) }),
    );
    fc.assert(fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const heap = new Heap<number>();
      let model: { key: number; order: number }[] = [];
      steps.forEach((action, order) => {
        if (action.kind === 'push') {
          heap.push(action.key, order, order);
          model.push({ key: action.key, order });
          model.sort((a, b) => a.key - b.key || a.order - b.order);
        } else if (action.kind === 'pop') expect(heap.pop()).toBe(model.shift()?.order);
        else {
          heap.retain((item) => item % action.modulus !== 0);
          model = model.filter((entry) => entry.order % action.modulus !== 0);
        }
        expect(heap.size).toBe(model.length);
        expect(heap.peek()).toBe(model[0]?.order);
        expect(heap.peekKey()).toBe(model[0]?.key ?? Infinity);
      });
    }));
  });

  it('orders infinite keys behind all others, among themselves by insertion', () => {
    const heap = new Heap<string>();
    heap.push(Infinity, 1, 'never, first');
    heap.push(5, 2, 'at five');
    heap.push(Infinity, 0, 'never, earlier');
    expect([heap.pop(), heap.pop(), heap.pop()]).toEqual(['at five', 'never, earlier', 'never, first']);
  });
});

class Item implements Timed {
  dueAtMs = Infinity;
  duePlace = -1;
  readonly name: number;

  constructor(name: number) {
    this.name = name;
  }
}

describe('DeadlineHeap', () => {
  it('agrees with a sorted array under any mixture of set, move, delete and popDue', () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('set' as const), item: fc.nat(19), at: fc.integer({ min: 0, max: 50 }) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), item: fc.nat(19) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('popDue' as const), now: fc.integer({ min: 0, max: 50 }) }) },
    );
    fc.assert(fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const items = Array.from({ length: 20 }, (_, name) => new Item(name));
      const heap = new DeadlineHeap<Item>();
      const model = new Map<Item, number>();
      for (const action of steps) {
        if (action.kind === 'set') {
          heap.set(items[action.item]!, action.at);
          model.set(items[action.item]!, action.at);
        } else if (action.kind === 'delete') {
          heap.delete(items[action.item]!);
          model.delete(items[action.item]!);
        } else {
          const least = Math.min(Infinity, ...model.values());
          const popped = heap.popDue(action.now);
          if (least > action.now) expect(popped).toBeUndefined();
          else {
            expect(popped).toBeDefined();
            expect(model.get(popped!)).toBe(least);
            model.delete(popped!);
          }
        }
        expect(heap.size).toBe(model.size);
        expect(heap.nextMs).toBe(Math.min(Infinity, ...model.values()));
        for (const item of items) expect(item.duePlace >= 0).toBe(model.has(item));
      }
    }));
  });

  it('ignores the deletion of what is not in it', () => {
    const heap = new DeadlineHeap<Item>();
    const item = new Item(0);
    heap.delete(item);
    heap.set(item, 3);
    heap.delete(item);
    heap.delete(item);
    expect(heap.size).toBe(0);
    expect(heap.popDue(Infinity)).toBeUndefined();
  });

  it('has nothing due before its time', () => {
    const heap = new DeadlineHeap<Item>();
    const item = new Item(0);
    heap.set(item, 10);
    expect(heap.popDue(9.999)).toBeUndefined();
    expect(heap.popDue(10)).toBe(item);
  });
});
