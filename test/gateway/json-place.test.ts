import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findJsonError } from '../../src/gateway/json-place.ts';

describe('findJsonError', () => {
  it.each([
    ['{"a":}', 5], ['{"a"', 4], ['', 0], ['[1,]', 3], ['{,}', 1], ['[1 2]', 3], ['01', 1], ['"a\nb"', 2], ['"\\x"', 2], ['{"a":1}}', 7], ['nul', 0], ['"abc', 4], ['[1', 2], ['{"a" 1}', 5], ['"\\u12g4"', 2],
  ])('finds the place in %j', (text, place) => expect(findJsonError(text)).toBe(place));

  it('agrees with JSON.parse on what is JSON, for valid and for damaged texts', () => {
    fc.assert(fc.property(fc.json(), fc.nat(), fc.constantFrom('', '"', '{', ']', ',', '1', ' ', '\\', '\n'), (text, at, insert) => {
      const position = at % (text.length + 1);
      const damaged = text.slice(0, position) + insert + text.slice(position + (insert === '' ? 1 : 0));
      let valid = true;
      try {
        JSON.parse(damaged);
      } catch {
        valid = false;
      }
      expect(findJsonError(damaged) === -1).toBe(valid);
    }), { numRuns: 3_000 });
  });

  it('is linear on deep nesting and long strings', () => {
    expect(findJsonError('['.repeat(500_000))).toBe(500_000);
    expect(findJsonError(`"${'x'.repeat(1_000_000)}"`)).toBe(-1);
  });
});
