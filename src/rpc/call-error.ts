/** What a call to the scheduler threw, as one error; with a hint when nobody listens there. */
import { MetronomeError } from '../core/errors.ts';
import { fromStatus } from './status.ts';

const CANNOT_CONNECT = /No connection established|ECONNREFUSED|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|Name resolution failed|Failed to connect/;

/** The error of a grpc-js call to `address`. */
export function callError(address: string, thrown: unknown): MetronomeError {
  const error = fromStatus(thrown);
  // Without a component it was not the scheduler that said so but the transport.
  if (error.code === 'UNAVAILABLE' && error.extras.component === undefined && CANNOT_CONNECT.test(error.message)) return unreachable(address, thrown);
  return error;
}

/** UNAVAILABLE with what to do about it. */
export function unreachable(address: string, cause: unknown): MetronomeError {
  return new MetronomeError('UNAVAILABLE', `cannot reach the scheduler at ${address}; is \`metronome up\` running?`, { cause });
}
