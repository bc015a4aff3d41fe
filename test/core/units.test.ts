import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatMs, parseBytes, parseDurationMs } from '../../src/core/units.ts';

describe('parseDurationMs', () => {
  it.each([
    ['250ms', 250], ['30s', 30_000], ['5m', 300_000], ['1h30m', 5_400_000], ['1.5s', 1_500], ['1d', 86_400_000], ['250', 250], [' 2s ', 2_000], [42, 42], [0, 0], ['0', 0],
  ])('reads %j as %d ms', (given, expected) => expect(parseDurationMs(given)).toBe(expected));

  it.each(['', 'abc', '5 minutes', '-1s', '1s2', '.5s', '1 s', 'ms', -1, NaN, Infinity])('refuses %j', (given) => expect(parseDurationMs(given)).toBeUndefined());

  it('tells minutes from milliseconds', () => {
    expect(parseDurationMs('5m5ms')).toBe(300_005);
  });
});

describe('parseBytes', () => {
  it.each([
    ['256MiB', 256 * 1024 ** 2], ['1GiB', 1024 ** 3], ['20MB', 20e6], ['1.5KiB', 1_536], ['512', 512], ['512b', 512], ['4 k', 4_096], ['1Gi', 1024 ** 3], [7, 7],
  ])('reads %j as %d bytes', (given, expected) => expect(parseBytes(given)).toBe(expected));

  it.each(['', 'MiB', '1TiBB', '-1', '1 2', '1e3', -5, NaN])('refuses %j', (given) => expect(parseBytes(given)).toBeUndefined());
});

describe('formatMs', () => {
  it.each([
    [0.421, '0.42 ms'], [12.34, '12.3 ms'], [250.4, '250 ms'], [1_520, '1.52 s'], [125_000, '2m 5s'], [119_999, '2m 0s'], [60_000, '1m 0s'],
  ])('writes %d ms as %s', (given, expected) => expect(formatMs(given)).toBe(expected));

  it('never writes sixty seconds beside minutes', () => {
    fc.assert(fc.property(fc.double({ min: 60_000, max: 1e8, noNaN: true }), (ms) => {
      expect(formatMs(ms)).not.toMatch(/ 60s$/);
    }));
  });
});

describe('formatBytes', () => {
  it.each([
    [0, '0 B'], [512, '512 B'], [1_024, '1.0 KiB'], [20 * 1024 ** 2, '20.0 MiB'], [3 * 1024 ** 4, '3.0 TiB'], [5_000 * 1024 ** 4, '5000.0 TiB'],
  ])('writes %d as %s', (given, expected) => expect(formatBytes(given)).toBe(expected));
});
