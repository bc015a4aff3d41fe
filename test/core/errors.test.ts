import { describe, expect, it } from 'vitest';
import { ERRORS, MetronomeError, isErrorCode, suggest } from '../../src/core/errors.ts';

describe('error table', () => {
  it('gives every code a gRPC status, an HTTP error status, an exit code and one sentence', () => {
    for (const [code, row] of Object.entries(ERRORS)) {
      expect(code).toMatch(/^[A-Z]+(_[A-Z]+)*$/);
      expect(row.grpc, code).toBeGreaterThanOrEqual(1);
      expect(row.grpc, code).toBeLessThanOrEqual(16);
      expect(row.http, code).toBeGreaterThanOrEqual(400);
      expect(row.http, code).toBeLessThan(600);
      expect(row.exit, code).toBeGreaterThanOrEqual(1);
      expect(row.meaning, code).toMatch(/^[A-Z].*\.$/);
    }
  });

  it('calls nothing retryable that is the fault of the function', () => {
    for (const [code, row] of Object.entries(ERRORS)) if (row.fault === 'function') expect(row.retryable, code).toBe(false);
  });

  it('knows its own codes and no others', () => {
    expect(isErrorCode('NODE_LOST')).toBe(true);
    expect(isErrorCode('toString')).toBe(false);
    expect(isErrorCode('')).toBe(false);
  });
});

describe('MetronomeError', () => {
  it('survives the way to plain data and back, without its cause', () => {
    const error = new MetronomeError('QUEUE_FULL', 'Full.', { retryAfterMs: 50, component: 'scheduler', cause: new Error('inner') });
    const record = error.toRecord();
    expect(record).toEqual({ code: 'QUEUE_FULL', message: 'Full.', retryAfterMs: 50, component: 'scheduler' });
    expect(structuredClone(record)).toEqual(record);
    expect(MetronomeError.fromRecord(record).toRecord()).toEqual(record);
    expect(error.cause).toBeInstanceOf(Error);
  });

  it('keeps a MetronomeError as it is, and makes INTERNAL of anything else', () => {
    const error = new MetronomeError('NO_NODES', 'None.');
    expect(MetronomeError.from(error)).toBe(error);
    expect(MetronomeError.from(new TypeError('odd')).code).toBe('INTERNAL');
    expect(MetronomeError.from(new TypeError('odd')).message).toContain('odd');
    expect(MetronomeError.from('text')).toMatchObject({ code: 'INTERNAL', message: 'text' });
  });
});

describe('suggest', () => {
  const known = ['metronome', 'lookahead', 'round-robin', 'naive-locality'];

  it.each([
    ['metronom', 'metronome'], ['Round-Robin', 'round-robin'], ['round_robin', 'round-robin'], ['lookahaed', 'lookahead'], ['metronome', 'metronome'],
  ])('suggests for %j the name %j', (given, expected) => expect(suggest(given, known)).toBe(expected));

  it.each(['', 'x', 'fifo', 'random-choice'])('suggests nothing for %j, which is like none of them', (given) => expect(suggest(given, known)).toBeUndefined());

  it('allows one slip even in the shortest name', () => {
    expect(suggest('af', ['a', 'abc'])).toBe('a');
    expect(suggest('a', ['ab'])).toBe('ab');
    expect(suggest('a', ['xyz'])).toBeUndefined();
  });
});
