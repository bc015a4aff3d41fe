/** Which node lacks which packages of which function: the index against a plain count, under any order of events. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FunctionTable, type FunctionSettings } from '../../src/scheduler/function-table.ts';
import { PackageIndex } from '../../src/scheduler/package-index.ts';

const NODES = 4;
const UNKNOWN = 256 * 1024;
const settings = (name: string, packageSet: string, packages: readonly string[]): FunctionSettings => ({
  name, version: '1', packageSet, packages, slaMs: 1_000, timeoutMs: 1, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false,
});

/** What is said of each node. */
const onNodes = <T>(of: (node: number) => T): T[] => Array.from({ length: NODES }, (_, node) => of(node));

function scene() {
  const functions = new FunctionTable(NODES);
  const index = new PackageIndex(NODES);
  const put = (name: string, packageSet: string, packages: readonly string[]) => {
    const entry = functions.put(settings(name, packageSet, packages));
    index.functionPut(entry);
    return entry;
  };
  return { functions, index, put, setSet: (node: number, set: string, present: boolean) => index.setSet(node, set, present) };
}

describe('the package index', () => {
  it('counts what each node lacks, as packages come and go', () => {
    const { index, put } = scene();
    const f = put('f', 's', ['a@1', 'b@1', 'b@1']);
    expect(onNodes((node) => f.missingPackages(node))).toEqual([2, 2, 2, 2]);
    expect(f.packageBytes).toBe(2 * UNKNOWN);
    index.add(0, 'a@1', 1_000);
    index.add(0, 'other@1', 5);
    index.add(1, 'a@1', 1_000);
    index.add(1, 'b@1', 3_000);
    expect(onNodes((node) => f.missingPackages(node))).toEqual([1, 0, 2, 2]);
    expect(onNodes((node) => f.missingPackageBytes(node))).toEqual([3_000, 0, 4_000, 4_000]);
    expect(f.packageBytes).toBe(4_000);
    index.remove(1, 'b@1');
    index.forgetNode(0);
    expect(onNodes((node) => f.missingPackageBytes(node))).toEqual([4_000, 3_000, 4_000, 4_000]);
  });

  it('knows where the packages of a function are that is deployed later', () => {
    const { index, put, setSet } = scene();
    index.add(2, 'a@1', 700);
    setSet(2, 's', true);
    setSet(3, 's', true);
    setSet(3, 's', false);
    const f = put('f', 's', ['a@1']);
    expect(onNodes((node) => f.hasPackages(node))).toEqual([false, false, true, false]);
    expect(onNodes((node) => f.missingPackages(node))).toEqual([1, 1, 0, 1]);
    // Another version of it needs something else.
    put('f', 't', ['b@1']);
    expect(onNodes((node) => f.hasPackages(node))).toEqual([false, false, false, false]);
    expect(onNodes((node) => f.missingPackages(node))).toEqual([1, 1, 1, 1]);
  });

  it('agrees with a plain count under any mixture of events', () => {
    const id = fc.constantFrom('a', 'b', 'c', 'd');
    const node = fc.nat(NODES - 1);
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), node, id, bytes: fc.constantFrom(0, 10, 200) }),
      fc.record({ kind: fc.constant('remove' as const), node, id }),
      fc.record({ kind: fc.constant('forget' as const), node }),
      fc.record({ kind: fc.constant('put' as const), name: fc.constantFrom('f', 'g'), ids: fc.array(id, { maxLength: 5 }) }),
      fc.record({ kind: fc.constant('delete' as const), name: fc.constantFrom('f', 'g') }),
    );
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { functions, index, put } = scene();
      const has = Array.from({ length: NODES }, () => new Set<string>());
      const needs = new Map<string, Set<string>>();
      for (const one of steps) {
        if (one.kind === 'add') {
          index.add(one.node, one.id, one.bytes);
          has[one.node]?.add(one.id);
        } else if (one.kind === 'remove') {
          index.remove(one.node, one.id);
          has[one.node]?.delete(one.id);
        } else if (one.kind === 'forget') {
          index.forgetNode(one.node);
          has[one.node]?.clear();
        } else if (one.kind === 'put') {
          put(one.name, 's', one.ids);
          needs.set(one.name, new Set(one.ids));
        } else {
          const entry = functions.delete(one.name);
          if (entry !== undefined) index.functionDeleted(entry);
          needs.delete(one.name);
        }
        for (const [name, ids] of needs) {
          const entry = functions.get(name)!;
          for (let n = 0; n < NODES; n++) {
            const missing = [...ids].filter((wanted) => has[n]?.has(wanted) !== true).length;
            expect(entry.missingPackages(n)).toBe(missing);
            expect(entry.missingPackageBytes(n) === 0).toBe(missing === 0);
            expect(entry.missingPackageBytes(n)).toBeLessThanOrEqual(entry.packageBytes);
            if (missing === ids.size) expect(entry.missingPackageBytes(n)).toBe(entry.packageBytes);
          }
        }
      }
    }), { numRuns: 200 });
  });
});
