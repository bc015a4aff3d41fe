import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { BARE_DISTANCE, NO_ZYGOTE, importNeedOf, zygoteDistance } from '../../src/core/zygote-distance.ts';
import { FunctionTable, type FunctionEntry, type FunctionSettings } from '../../src/scheduler/function-table.ts';
import { ZygoteIndex, type ZygoteFacts } from '../../src/scheduler/zygote-index.ts';

const NODES = 4;

const settings = (name: string, packages: readonly string[], more: { readonly runtime?: string; readonly isolation?: string; readonly network?: boolean; readonly packageSet?: string } = {}): FunctionSettings => ({
  name, version: '1', packageSet: more.packageSet ?? `set-${name}`, slaMs: 1, timeoutMs: 1, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 64, critical: false,
  zygote: { runtime: more.runtime ?? 'node', isolation: more.isolation ?? '', network: more.network ?? true, imports: importNeedOf(packages.map((id) => ({ name: id.split('@')[0]!, version: id.split('@')[1]!, direct: true }))) },
});

const zygote = (packageSet: string, packages: readonly string[], more: Partial<ZygoteFacts> = {}): ZygoteFacts => ({
  packageSet, packages, importMs: packages.map(() => 100), runtime: 'node', isolation: 'process', defaultIsolation: true, network: true, sameSet: false, function: '', idle: 1, ...more,
});

const onNodes = (entry: FunctionEntry): number[] => Array.from({ length: NODES }, (_, node) => entry.zygoteDistance(node));

function scene() {
  const functions = new FunctionTable(NODES);
  const index = new ZygoteIndex(functions, NODES);
  const changes: string[] = [];
  return {
    index, changes,
    deploy(...of: Parameters<typeof settings>): FunctionEntry {
      const entry = functions.put(settings(...of));
      index.functionPut(entry);
      return entry;
    },
    set: (node: number, facts: ZygoteFacts) => index.set(node, facts, (entry, before, after) => changes.push(`${entry.settings.name} ${before > after ? 'nearer' : 'farther'}`)),
    delete: (entry: FunctionEntry) => {
      functions.delete(entry.settings.name);
      index.functionDeleted(entry);
    },
  };
}

describe('zygotes as the scheduler sees them', () => {
  it('are measured against the functions that share a package with them, and only on their node', () => {
    const { deploy, set, changes } = scene();
    const both = deploy('both', ['a@1', 'b@1']);
    const other = deploy('other', ['c@1']);
    set(1, zygote('s', ['a@1']));
    expect(onNodes(both).map((distance) => Number(distance.toFixed(3)))).toEqual([1, 0.475, 1, 1]);
    expect(onNodes(other)).toEqual([1, 1, 1, 1]);
    expect(changes).toEqual(['both nearer']);
  });

  it('change nothing while only their number changes', () => {
    const { deploy, set, changes } = scene();
    deploy('f', ['a@1']);
    set(0, zygote('s', ['a@1'], { idle: 1 }));
    set(0, zygote('s', ['a@1'], { idle: 3 }));
    expect(changes).toEqual(['f nearer']);
  });

  it('leave the next nearest behind when they go', () => {
    const { deploy, set, changes } = scene();
    const f = deploy('f', ['a@1', 'b@1']);
    set(0, zygote('whole', ['a@1', 'b@1']));
    set(0, zygote('part', ['b@1']));
    expect(f.zygoteDistance(0)).toBe(0);
    set(0, zygote('whole', [], { idle: 0 }));
    expect(f.zygoteDistance(0)).toBeCloseTo(0.475);
    set(0, zygote('part', [], { idle: 0 }));
    expect(f.zygoteDistance(0)).toBe(NO_ZYGOTE);
    expect(changes).toEqual(['f nearer', 'f farther', 'f farther']);
  });

  it('serve only their runtime and isolation, and, if they say so, only their set or their function', () => {
    const { deploy, set } = scene();
    const node = deploy('node', ['a@1']);
    const python = deploy('python', ['a@1'], { runtime: 'python3' });
    const jailed = deploy('jailed', ['a@1'], { isolation: 'bubblewrap' });
    const seen = () => [node, python, jailed].map((entry) => onNodes(entry).map((distance) => (distance === 0 ? 'yes' : 'no')).join(' '));
    set(0, zygote('s', ['a@1']));
    set(1, zygote('s', ['a@1'], { isolation: 'bubblewrap', defaultIsolation: false }));
    set(2, zygote('set-node', ['a@1'], { sameSet: true }));
    set(3, zygote('set-x', ['a@1'], { sameSet: true }));
    expect(seen()).toEqual(['yes no yes no', 'no no no no', 'no yes no no']);
    set(3, zygote('set-x', ['a@1'], { function: 'node' }));
    expect(seen()[0]).toBe('yes no yes yes');
  });

  it('serve functions with or without the network, where that is enforced', () => {
    const { deploy, set } = scene();
    const [online, offline] = [true, false].map((network) => deploy(network ? 'online' : 'offline', [], { isolation: 'bubblewrap', network }));
    const open = deploy('open', [], { network: false });
    const jail = { isolation: 'bubblewrap', defaultIsolation: false };
    set(0, zygote('', [], { ...jail, network: true }));
    set(1, zygote('', [], { ...jail, network: false }));
    set(2, zygote('', []));
    expect([online, offline, open].map((entry) => [...entry!.bare].join(''))).toEqual(['1000', '0100', '0010']);
    set(0, zygote('', [], { ...jail, network: false }));
    set(0, zygote('', [], { ...jail, network: true, idle: 0 }));
    expect([online, offline].map((entry) => entry!.bare[0])).toEqual([0, 1]);
  });

  it('are near at once to a function that is deployed later, and its next version is measured anew', () => {
    const { deploy, set } = scene();
    set(2, zygote('s', ['a@1']));
    set(3, zygote('', []));
    const f = deploy('f', ['a@1']);
    expect(f.zygoteDistance(2)).toBe(0);
    expect([f.bare[2], f.bare[3], f.bareDistance]).toEqual([0, 1, BARE_DISTANCE]);
    deploy('f', ['a@2']);
    expect(f.zygoteDistance(2)).toBe(NO_ZYGOTE);
  });

  it('count as bare runtimes for all functions of their runtime at once, and wholly for those without packages', () => {
    const { deploy, set, changes } = scene();
    const none = deploy('none', []), some = deploy('some', ['a@1']), python = deploy('python', [], { runtime: 'python3' });
    set(1, zygote('', []));
    expect([none.bare[1], some.bare[1], python.bare[1]]).toEqual([1, 1, 0]);
    expect([none.bareDistance, some.bareDistance]).toEqual([0, BARE_DISTANCE]);
    set(1, zygote('', [], { idle: 0 }));
    expect([none.bare[1], some.bare[1]]).toEqual([0, 0]);
    expect(changes).toEqual([]);
  });

  it('are forgotten with their node and leave no trace of a deleted function', () => {
    const { deploy, set, index, changes, delete: remove } = scene();
    const f = deploy('f', ['a@1']);
    set(0, zygote('s', ['a@1']));
    set(0, zygote('', []));
    index.forgetNode(0);
    expect([f.zygoteDistance(0), f.bare[0]]).toEqual([NO_ZYGOTE, 0]);
    remove(f);
    set(1, zygote('s', ['a@1']));
    expect(changes).toEqual(['f nearer']);
  });

  it('stand as near as a full comparison says, after any changes', () => {
    const ids = ['a@1', 'a@2', 'b@1', 'c@1', 'd@1'];
    const some = fc.uniqueArray(fc.constantFrom(...ids), { maxLength: 3, selector: (id) => id[0] });
    fc.assert(fc.property(
      fc.array(some, { minLength: 1, maxLength: 5 }),
      fc.array(fc.record({ node: fc.nat(NODES - 1), set: fc.nat(3), packages: some, idle: fc.nat(2) }), { maxLength: 40 }),
      (needs, steps) => {
        const { deploy, set } = scene();
        const functions = needs.map((packages, i) => deploy(`f${i}`, packages));
        const truth = new Map<string, { node: number; packages: readonly string[] }>();
        for (const { node, set: s, packages, idle } of steps) {
          // Equal weights, so that the order of reports does not matter.
          set(node, zygote(`s${s}`, packages, { idle, importMs: packages.map(() => 5) }));
          if (idle === 0) truth.delete(`${node}/${s}`);
          else truth.set(`${node}/${s}`, { node, packages });
        }
        functions.forEach((entry, i) => {
          const { imports } = settings(`f${i}`, needs[i]!).zygote!;
          for (let node = 0; node < NODES; node++) {
            const all = [...truth.values()].filter((kept) => kept.node === node).filter(({ packages }) => packages.length > 0).map(({ packages }) => zygoteDistance(imports, new Set(packages), () => 5));
            expect(entry.zygoteDistance(node)).toBeCloseTo(Math.min(NO_ZYGOTE, ...all));
          }
        });
      },
    ));
  });
});
