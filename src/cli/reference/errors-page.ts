/** docs/reference/errors.md: the error table. */
import { ERRORS } from '../../core/errors.ts';
import { GENERATED, code, markdownTable } from './markdown.ts';

/** Names of gRPC statuses by number. */
const GRPC_NAMES: Readonly<Record<number, string>> = {
  0: 'OK', 1: 'CANCELLED', 2: 'UNKNOWN', 3: 'INVALID_ARGUMENT', 4: 'DEADLINE_EXCEEDED', 5: 'NOT_FOUND', 6: 'ALREADY_EXISTS', 7: 'PERMISSION_DENIED', 8: 'RESOURCE_EXHAUSTED',
  9: 'FAILED_PRECONDITION', 10: 'ABORTED', 11: 'OUT_OF_RANGE', 12: 'UNIMPLEMENTED', 13: 'INTERNAL', 14: 'UNAVAILABLE', 15: 'DATA_LOSS', 16: 'UNAUTHENTICATED',
};

export function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(([name, row]) => [code(name), GRPC_NAMES[row.grpc] ?? String(row.grpc), String(row.http), String(row.exit), row.fault, row.retryable ? 'yes' : 'no', row.meaning]);
  return `# Errors

${GENERATED}

Every error that Metronome reports has one of these codes. Over gRPC it stands in \`ErrorDetail.code\` of the status details, over HTTP in
\`error.code\` of the body, in the command line in front of the message. Codes are stable; messages are for people.

${markdownTable(['code', 'gRPC status', 'HTTP', 'exit code', 'fault', 'retryable', 'meaning'], rows)}

Further exit codes of the command line: 0 success, 1 failure, 2 a mistake in the command line, 130 ended by Ctrl-C, 143 ended by SIGTERM.
Retryable: the same request may succeed later. Fault: who has to change something, the caller, the function or the platform.
`;
}
