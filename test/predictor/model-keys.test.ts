import { describe, expect, it } from 'vitest';
import { ModelKeys, NO_KEY, fitsKeys, staleFunctions } from '../../src/predictor/model-keys.ts';

const places = ['a', 'b', '', 'c', 'd'];
const make = (most?: { functions: number; nodes: number }): ModelKeys => new ModelKeys((index) => places[index] ?? '', (node) => `node-${node}`, most);

describe('keys of the model', () => {
  it('belong to names: no name and no place have none, and being asked about gives none', () => {
    const keys = make();
    expect([keys.functionKey(2), keys.functionKey(-1), keys.functionKey(-1), keys.functionKeyOf(''), keys.nodeKeyOf('')]).toEqual([NO_KEY, NO_KEY, NO_KEY, NO_KEY, NO_KEY]);
    for (let i = 0; i < 10; i++) expect([keys.findFunction(`f${i}`), keys.findNode(`n${i}`)]).toEqual([NO_KEY, NO_KEY]);
    expect(keys.names).toEqual({ functions: [], nodes: [] });
    expect([keys.functionKey(1), keys.functionKey(0), keys.findFunction('b'), keys.nodeKey(7)]).toEqual([0, 1, 0, 0]);
  });

  it('are bounded: whoever comes when they are taken has none, and takes none from others', () => {
    const keys = make({ functions: 2, nodes: 1 });
    expect([0, 1, 3, 4].map((index) => keys.functionKey(index))).toEqual([0, 1, NO_KEY, NO_KEY]);
    expect([keys.nodeKeyOf('x'), keys.nodeKeyOf('y'), keys.nodeKeyOf('x')]).toEqual([0, NO_KEY, 0]);
    expect(keys.names).toEqual({ functions: ['a', 'b'], nodes: ['x'] });
    expect(keys.retireFunction('a')).toBe(0);
    keys.freeFunction(0);
    expect([keys.functionKey(3), keys.functionKey(4)]).toEqual([0, NO_KEY]);
  });

  it('come again only when the model has forgotten who had them', () => {
    const keys = make();
    keys.functionKey(0);
    expect(keys.retireFunction('a')).toBe(0);
    expect(keys.retireFunction('a')).toBeUndefined();
    expect([keys.functionKey(1), keys.functionKeyOf('a')]).toEqual([1, 2]);
    keys.freeFunction(0);
    expect(keys.functionKey(3)).toBe(0);
  });

  it('fit a model whose functions came and went, and say which it must forget; not one with other nodes', () => {
    const of = { functions: ['a', 'b', 'c', ''], nodes: ['n', ''] };
    const now = { functions: ['a', '', 'other', 'd'], nodes: ['n', 'm', 'o'] };
    expect(fitsKeys(of, now)).toBe(true);
    expect(staleFunctions(of, now)).toEqual([1, 2]);
    expect(fitsKeys({ functions: [], nodes: ['n', 'x'] }, now)).toBe(false);
  });
});
