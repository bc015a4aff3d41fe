/**
 * The one mapping between MetronomeError and gRPC statuses. A status carries, in `grpc-status-details-bin`
 * (google.rpc.Status), our ErrorDetail and the standard RetryInfo and BadRequest, so that any client can read them.
 */
import { Metadata, type ServiceError, type StatusObject } from '@grpc/grpc-js';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { ERRORS, MetronomeError, isErrorCode, type ErrorCode, type ErrorRecord } from '../core/errors.ts';
import { ErrorDetail } from './gen/metronome/v1/common.ts';

const DETAILS_KEY = 'grpc-status-details-bin';
const ERROR_DETAIL_URL = 'type.googleapis.com/metronome.v1.ErrorDetail';
const RETRY_INFO_URL = 'type.googleapis.com/google.rpc.RetryInfo';
const BAD_REQUEST_URL = 'type.googleapis.com/google.rpc.BadRequest';
/**
 * Peers commonly refuse more than 8 KiB of headers, and the details travel as base64 beside the percent-encoded
 * message: so texts are cut, in bytes of UTF-8, to what leaves room for the rest. Streams and HTTP carry all.
 */
const MAX_MESSAGE_BYTES = 1_000;
const MAX_FUNCTION_MESSAGE_BYTES = 1_000;
const MAX_STACK_BYTES = 1_200;
const MAX_LOG_BYTES = 500;
const MAX_VIOLATION_BYTES = 800;

/** An error as the message that travels in results and statuses. */
export function toErrorDetail(error: ErrorRecord): ErrorDetail {
  return ErrorDetail.fromPartial({
    code: error.code,
    message: error.message,
    component: error.component ?? '',
    invocationId: error.invocationId ?? '',
    retryable: ERRORS[error.code].retryable,
    retryAfterMs: error.retryAfterMs ?? 0,
    ...(error.functionError === undefined ? {} : { functionError: { ...error.functionError } }),
    ...(error.logs === undefined ? {} : { logs: { ...error.logs } }),
    violations: (error.violations ?? []).map((violation) => ({ ...violation })),
  });
}

/** The message as an error. An unknown code (a newer peer) becomes INTERNAL. */
export function fromErrorDetail(detail: ErrorDetail): ErrorRecord {
  const code: ErrorCode = isErrorCode(detail.code) ? detail.code : 'INTERNAL';
  return {
    code,
    message: detail.message,
    ...(detail.component === '' ? {} : { component: detail.component }),
    ...(detail.invocationId === '' ? {} : { invocationId: detail.invocationId }),
    ...(detail.retryAfterMs === 0 ? {} : { retryAfterMs: detail.retryAfterMs }),
    ...(detail.functionError === undefined ? {} : { functionError: detail.functionError }),
    ...(detail.logs === undefined ? {} : { logs: detail.logs }),
    ...(detail.violations.length === 0 ? {} : { violations: detail.violations }),
  };
}

/** Any thrown value as the status object that grpc-js sends. */
export function toStatus(thrown: unknown): Partial<StatusObject> & { code: number; details: string; metadata: Metadata } {
  const error = MetronomeError.from(thrown).toRecord();
  const metadata = new Metadata();
  const detail = toErrorDetail(error);
  const message = cutText(error.message, MAX_MESSAGE_BYTES);
  detail.message = message;
  if (detail.functionError) {
    detail.functionError.message = cutText(detail.functionError.message, MAX_FUNCTION_MESSAGE_BYTES);
    detail.functionError.stack = cutText(detail.functionError.stack, MAX_STACK_BYTES);
  }
  if (detail.logs) {
    detail.logs.stdout = cutText(detail.logs.stdout, MAX_LOG_BYTES, true);
    detail.logs.stderr = cutText(detail.logs.stderr, MAX_LOG_BYTES, true);
  }
  let bytes = 0;
  detail.violations = detail.violations.filter((violation) => (bytes += Buffer.byteLength(violation.field) + Buffer.byteLength(violation.description)) <= MAX_VIOLATION_BYTES);
  metadata.set(DETAILS_KEY, Buffer.from(encodeStatus(ERRORS[error.code].grpc, message, detail)));
  return { code: ERRORS[error.code].grpc, details: message, metadata };
}

/**
 * The first (or last) bytes of a text without breaking a character. Lone surrogates are replaced: grpc-js encodes
 * details with encodeURI, which throws on them, outside of any handler's reach.
 */
function cutText(text: string, maxBytes: number, keepEnd = false): string {
  if (text.length * 3 <= maxBytes) return text.toWellFormed();
  const bytes = Buffer.from(text);
  if (bytes.length <= maxBytes) return text.toWellFormed();
  let start = keepEnd ? bytes.length - maxBytes : 0;
  let end = keepEnd ? bytes.length : maxBytes;
  // 10xxxxxx continues a character: neither begin nor end inside one.
  while (start > 0 && start < bytes.length && ((bytes[start] ?? 0) & 0xc0) === 0x80) start++;
  while (end < bytes.length && end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', start, end);
}

/** What a grpc-js client call threw, as a MetronomeError. */
export function fromStatus(thrown: unknown): MetronomeError {
  if (thrown instanceof MetronomeError) return thrown;
  const status = thrown as Partial<ServiceError>;
  if (typeof status?.code !== 'number') return MetronomeError.from(thrown);
  const raw = status.metadata?.get(DETAILS_KEY)[0];
  const detail = raw instanceof Uint8Array ? findErrorDetail(raw) : undefined;
  if (detail !== undefined) return MetronomeError.fromRecord(fromErrorDetail(detail));
  return new MetronomeError(codeOfStatus(status.code, status.details ?? ''), status.details ?? status.message ?? `gRPC status ${status.code}`, { cause: thrown });
}

function codeOfStatus(status: number, details: string): ErrorCode {
  switch (status) {
    case 1: return 'CANCELLED';
    case 3: return 'INVALID_REQUEST';
    case 4: return 'DEADLINE_EXCEEDED';
    case 7: case 16: return 'PERMISSION_DENIED';
    // grpc-js's own refusal of a message over the size limit; retrying it would never help.
    case 8: return details.includes('larger than') ? 'PAYLOAD_TOO_LARGE' : 'QUEUE_FULL';
    case 12: return 'UNIMPLEMENTED';
    case 14: return 'UNAVAILABLE';
    default: return 'INTERNAL';
  }
}

function encodeStatus(code: number, message: string, detail: ErrorDetail): Uint8Array {
  const writer = new BinaryWriter().uint32(8).int32(code).uint32(18).string(message);
  const any = (url: string, value: Uint8Array): void => void writer.uint32(26).fork().uint32(10).string(url).uint32(18).bytes(value).join();
  any(ERROR_DETAIL_URL, ErrorDetail.encode(detail).finish());
  if (detail.retryAfterMs > 0) {
    const seconds = Math.floor(detail.retryAfterMs / 1_000);
    const nanos = Math.round((detail.retryAfterMs - seconds * 1_000) * 1e6);
    any(RETRY_INFO_URL, new BinaryWriter().uint32(10).fork().uint32(8).int64(seconds).uint32(16).int32(nanos).join().finish());
  }
  if (detail.violations.length > 0) {
    const request = new BinaryWriter();
    for (const violation of detail.violations) request.uint32(10).fork().uint32(10).string(violation.field).uint32(18).string(violation.description).join();
    any(BAD_REQUEST_URL, request.finish());
  }
  return writer.finish();
}

function findErrorDetail(bytes: Uint8Array): ErrorDetail | undefined {
  try {
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag !== 26) {
        reader.skip(tag & 7);
        continue;
      }
      const any = new BinaryReader(reader.bytes());
      let url = '';
      let value: Uint8Array = new Uint8Array();
      while (any.pos < any.len) {
        const field = any.uint32();
        if (field === 10) url = any.string();
        else if (field === 18) value = any.bytes();
        else any.skip(field & 7);
      }
      if (url === ERROR_DETAIL_URL) return ErrorDetail.decode(value);
    }
  } catch {
    // A peer that sends broken details still sent a valid status; the caller falls back to it.
  }
  return undefined;
}
