/** Payload bytes on their way through lines and wires, and the check of what claims to be JSON. */
import { isUtf8 } from 'node:buffer';
import { MetronomeError } from '../core/errors.ts';
import { findJsonError } from './json-place.ts';

/** No bytes. Shared: empty payloads need no memory of their own. */
export const NO_BYTES: Uint8Array = new Uint8Array(0);

/**
 * The same bytes in a buffer of exactly their size. A small Buffer is a window on a shared pool, and a structured clone
 * would copy the whole pool with it.
 */
export function exactBytes(view: Uint8Array): Uint8Array {
  if (view.byteLength === 0) return NO_BYTES;
  if (view.byteLength === view.buffer.byteLength) return view;
  return new Uint8Array(view);
}

/** The same bytes as a Buffer, without copying; after a clone they may be a plain Uint8Array. */
export function asBuffer(view: Uint8Array): Buffer {
  return Buffer.isBuffer(view) ? view : Buffer.from(view.buffer, view.byteOffset, view.byteLength);
}

/** True for application/json with or without parameters. */
export function isJson(contentType: string): boolean {
  return contentType === 'application/json' || /^application\/json\s*(;|$)/i.test(contentType);
}

/** Throws PAYLOAD_INVALID, with the place, when bytes are not JSON in UTF-8. Empty is allowed. */
export function assertJson(payload: Uint8Array): void {
  if (payload.byteLength === 0) return;
  const problem = jsonProblem(payload);
  if (problem !== undefined) {
    throw new MetronomeError('PAYLOAD_INVALID', `The payload is not valid JSON: ${problem}. Send valid JSON, or name its media type in content_type.`, { component: 'gateway' });
  }
}

/** What is wrong with bytes that should be JSON, with the place; undefined: nothing. */
export function jsonProblem(payload: Uint8Array): string | undefined {
  if (!isUtf8(payload)) return 'it is not UTF-8';
  const text = asBuffer(payload).toString('utf8');
  try {
    JSON.parse(text);
    return undefined;
  } catch {
    const position = findJsonError(text);
    return position >= text.length ? `it ends at position ${text.length} where more is needed` : `unexpected ${JSON.stringify(text[position] ?? '')} at position ${position}`;
  }
}
