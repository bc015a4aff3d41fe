/** Digests of packages with all that they find: equal exactly where the same code is loaded. */
import { describe, expect, it } from 'vitest';
import { subtreeDigests } from '../../src/agent/packages/package-graph.ts';
import { LockedPackage } from '../../src/rpc/gen/metronome/v1/function.ts';

const one = (path: string, dependencies: readonly string[] = [], version = '1'): LockedPackage =>
  LockedPackage.fromPartial({ name: path.slice(path.lastIndexOf('node_modules/') + 13), version, integrity: `sha512-${path.slice(path.lastIndexOf('/') + 1)}${version}`, path, dependencies: [...dependencies] });
const tree = (...packages: readonly LockedPackage[]): Readonly<Record<string, string | undefined>> => Object.fromEntries(subtreeDigests(packages));

describe('the digest of a package', () => {
  it('is the same in every tree in which it finds the same', () => {
    const small = tree(one('node_modules/a', ['b']), one('node_modules/b'));
    const large = tree(one('node_modules/x', ['a']), one('node_modules/a', ['b', 'absent']), one('node_modules/b'), one('node_modules/x/node_modules/y'));
    expect(large['node_modules/a']).toBe(small['node_modules/a']);
    expect(large['node_modules/b']).toBe(small['node_modules/b']);
    expect(new Set(Object.values(large)).size).toBe(4);
  });

  it('changes with anything below it, however deep, and with nothing beside it', () => {
    const of = (version: string) => tree(one('node_modules/a', ['b']), one('node_modules/b', ['c']), one('node_modules/c', [], version), one('node_modules/d'));
    const [before, after] = [of('1'), of('2')];
    for (const name of ['a', 'b', 'c']) expect(after[`node_modules/${name}`]).not.toBe(before[`node_modules/${name}`]);
    expect(after['node_modules/d']).toBe(before['node_modules/d']);
  });

  it('counts the package that is found: its own first, then those of the folders above', () => {
    const plain = tree(one('node_modules/a', ['b']), one('node_modules/b', [], '2'));
    const nested = tree(one('node_modules/a', ['b']), one('node_modules/a/node_modules/b', [], '1'), one('node_modules/b', [], '2'));
    const above = tree(one('node_modules/s', ['a']), one('node_modules/s/node_modules/a', ['b']), one('node_modules/b', [], '2'));
    expect(nested['node_modules/a']).not.toBe(plain['node_modules/a']);
    expect(above['node_modules/s/node_modules/a']).toBe(plain['node_modules/a']);
  });

  it('is one for packages that need each other in a circle, and differs from the same without it', () => {
    const circle = tree(one('node_modules/a', ['b']), one('node_modules/b', ['c']), one('node_modules/c', ['a', 'd']), one('node_modules/d'));
    expect(circle['node_modules/a']).toBe(circle['node_modules/b']);
    expect(circle['node_modules/b']).toBe(circle['node_modules/c']);
    expect(circle['node_modules/d']).not.toBe(circle['node_modules/c']);
    const again = tree(one('node_modules/d'), one('node_modules/c', ['d', 'a']), one('node_modules/b', ['c']), one('node_modules/a', ['b']));
    expect(again).toEqual(circle);
    expect(tree(one('node_modules/a', ['b']), one('node_modules/b', ['c']), one('node_modules/c', ['d']), one('node_modules/d'))['node_modules/a']).not.toBe(circle['node_modules/a']);
  });

  it('finds packages of Python by their names', () => {
    const flat = (version: string) => tree({ ...one('a', ['b']), path: 'a', name: 'a' }, { ...one('b', [], version), path: 'b', name: 'b' });
    expect(flat('1')['a']).not.toBe(flat('2')['a']);
  });

  it('is found for thousands of packages in a chain', () => {
    const chain = Array.from({ length: 4_096 }, (_, i) => one(`node_modules/p${i}`, [`p${i + 1}`]));
    expect(new Set(subtreeDigests(chain).values()).size).toBe(4_096);
  });
});
