import { describe, expect, it } from 'vitest';
import { BARE_DISTANCE, NO_IMPORTS, NO_ZYGOTE, importNeedOf, zygoteDistance } from '../../src/core/zygote-distance.ts';

const need = importNeedOf([
  { name: 'mammoth', version: '1.9.0', direct: true }, { name: '@scope/csv', version: '2.0.0', direct: true }, { name: 'left', version: '1.0.0', direct: false },
]);
const measured: Readonly<Record<string, number>> = { 'mammoth@1.9.0': 300, '@scope/csv@2.0.0': 100 };
const distance = (loaded: readonly string[], importMs: Readonly<Record<string, number>> = measured, of = need): number => zygoteDistance(of, new Set(loaded), (id) => importMs[id]);

describe('the distance of a zygote', () => {
  it('is the share of the import time that it has not done, below that of a bare runtime', () => {
    expect(distance(['mammoth@1.9.0', '@scope/csv@2.0.0'])).toBe(0);
    expect(distance(['mammoth@1.9.0'])).toBeCloseTo(0.25 * BARE_DISTANCE);
    expect(distance(['@scope/csv@2.0.0', 'left@1.0.0'])).toBeCloseTo(0.75 * BARE_DISTANCE);
    expect(distance([])).toBe(BARE_DISTANCE);
  });

  it('counts all packages alike as long as nothing was measured, and unmeasured ones like the others on average', () => {
    expect(distance(['mammoth@1.9.0'], {})).toBeCloseTo(0.5 * BARE_DISTANCE);
    expect(distance(['mammoth@1.9.0'], { '@scope/csv@2.0.0': 0 })).toBeCloseTo(0.5 * BARE_DISTANCE);
    const three = importNeedOf([...Object.keys(measured), 'new@1.0.0'].map((id) => ({ name: id.slice(0, id.lastIndexOf('@')), version: id.slice(id.lastIndexOf('@') + 1), direct: true })));
    expect(distance(Object.keys(measured), measured, three)).toBeCloseTo((200 / 600) * BARE_DISTANCE);
  });

  it('is the greatest for one that has imported another version of a package, also of one further down', () => {
    expect(distance(['mammoth@1.9.1', '@scope/csv@2.0.0'])).toBe(NO_ZYGOTE);
    expect(distance(['mammoth@1.9.0', 'left@2.0.0'])).toBe(NO_ZYGOTE);
  });

  it('is the greatest for one that has imported something which the function has not, for that would run in it as well', () => {
    expect(distance(['mammoth@1.9.0', 'other@3.0.0'])).toBe(NO_ZYGOTE);
  });

  it('is nothing to a function without packages if it is bare, and everything if it is not', () => {
    expect(distance([], measured, NO_IMPORTS)).toBe(0);
    expect(distance(['mammoth@1.9.0'], measured, NO_IMPORTS)).toBe(NO_ZYGOTE);
    expect(importNeedOf([{ name: 'only-below', version: '1.0.0', direct: false }])).toBe(NO_IMPORTS);
  });

  it('takes no version for the wrong one where a tree has several of that package', () => {
    const twice = importNeedOf([{ name: 'a', version: '1.0.0', direct: true }, { name: 'b', version: '1.0.0', direct: false }, { name: 'b', version: '2.0.0', direct: false }]);
    expect(distance(['a@1.0.0', 'b@3.0.0'], {}, twice)).toBe(0);
  });
});
