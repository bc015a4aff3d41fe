import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ERRORS, MetronomeError, type ErrorCode } from '../../src/core/errors.ts';
import { fromErrorDetail, fromStatus, toErrorDetail, toStatus } from '../../src/rpc/status.ts';

const roundTrip = (error: MetronomeError): MetronomeError => fromStatus(toStatus(error));

describe('statuses', () => {
  it.each(Object.keys(ERRORS) as ErrorCode[])('carry %s there and back', (code) => {
    const status = toStatus(new MetronomeError(code, 'what happened'));
    expect(status.code).toBe(ERRORS[code].grpc);
    expect(roundTrip(new MetronomeError(code, 'what happened'))).toMatchObject({ code, message: 'what happened' });
  });

  it('carry all extras', () => {
    const extras = {
      component: 'agent', invocationId: 'i1', retryAfterMs: 1_250.5,
      functionError: { type: 'TypeError', message: 'm', stack: 's' }, logs: { stdout: 'o', stderr: 'e', truncatedBytes: 3 }, violations: [{ field: 'f', description: 'd' }],
    };
    expect(roundTrip(new MetronomeError('QUEUE_FULL', 'full', extras)).extras).toMatchObject(extras);
  });

  it('stay below 8 KiB of headers and are well-formed, whatever the texts', () => {
    const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 6_000 }), fc.constantFrom('😀'.repeat(4_000), '€'.repeat(9_000), 'x'.repeat(50_000), '\ud83d'.repeat(3_000)));
    fc.assert(fc.property(text, text, text, text, fc.array(fc.record({ field: text, description: text }), { maxLength: 20 }), (message, functionMessage, stack, log, violations) => {
      const status = toStatus(new MetronomeError('FUNCTION_FAILED', message, { functionError: { type: 'E', message: functionMessage, stack }, logs: { stdout: log, stderr: log, truncatedBytes: 0 }, violations }));
      // grpc-js does this outside of any handler's reach; it throws on lone surrogates.
      expect(encodeURI(status.details).length).toBeLessThanOrEqual(3_000);
      const details = status.metadata.get('grpc-status-details-bin')[0];
      expect((details as Buffer).toString('base64').length).toBeLessThan(8 * 1024);
      expect(fromStatus(status).code).toBe('FUNCTION_FAILED');
    }), { numRuns: 200 });
  });

  it('keep the end of logs and the beginning of messages, without breaking characters', () => {
    const error = roundTrip(new MetronomeError('FUNCTION_FAILED', `a${'😀'.repeat(2_000)}`, { logs: { stdout: `${'😀'.repeat(2_000)}z`, stderr: '', truncatedBytes: 0 } }));
    expect(error.message).toMatch(/^a(😀)+$/u);
    expect(error.extras.logs?.stdout).toMatch(/^(😀)+z$/u);
  });

  it('of other servers become the nearest code', () => {
    const from = (code: number, details = 'd'): string => fromStatus(Object.assign(new Error('x'), { code, details })).code;
    expect([from(1), from(3), from(4), from(7), from(8), from(8, 'Received message larger than max (9 vs 4)'), from(12), from(14), from(13), from(2)]).toEqual([
      'CANCELLED', 'INVALID_REQUEST', 'DEADLINE_EXCEEDED', 'PERMISSION_DENIED', 'QUEUE_FULL', 'PAYLOAD_TOO_LARGE', 'UNIMPLEMENTED', 'UNAVAILABLE', 'INTERNAL', 'INTERNAL',
    ]);
    expect(fromStatus(new Error('no status')).code).toBe('INTERNAL');
  });

  it('turn the code of a newer peer into INTERNAL', () => {
    expect(fromErrorDetail({ ...toErrorDetail({ code: 'INTERNAL', message: 'm' }), code: 'FROM_THE_FUTURE' })).toMatchObject({ code: 'INTERNAL', message: 'm' });
  });
});
