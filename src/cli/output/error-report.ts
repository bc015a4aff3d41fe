/** Shows an error to a person (or as JSON), and says which exit code it means. */
import { ERRORS, type MetronomeError } from '../../core/errors.ts';
import { formatMs } from '../../core/units.ts';
import { ErrorDetail } from '../../rpc/gen/metronome/v1/common.ts';
import { toErrorDetail } from '../../rpc/status.ts';
import { paint, type CliIo } from '../io.ts';
import type { OutputFormat } from './printer.ts';
import { harmless, oneLine } from './table.ts';

const STDERR_TAIL_LINES = 10;
const MAX_STACK_LINES = 20;

/** The exit code of an error: the one of the table. */
export function exitCodeOf(error: MetronomeError): number {
  return ERRORS[error.code].exit;
}

/** Shows an error on standard error; as {"error": …} when the output is json. */
export function reportError(io: CliIo, error: MetronomeError, format: OutputFormat = 'table'): void {
  if (format === 'json') io.err(`${JSON.stringify({ error: ErrorDetail.toJSON(toErrorDetail(error.toRecord())) }, null, 2)}\n`);
  else io.err(errorText(error, io.errColor));
}

/** The error in words: code and message, then the function's own error and the end of what it wrote. */
export function errorText(error: MetronomeError, colour: boolean): string {
  const { functionError, logs, invocationId, retryAfterMs, violations = [] } = error.extras;
  const lines = [`${paint(colour, 'red', 'error')} ${paint(colour, 'bold', error.code)}: ${harmless(error.message)}`];
  for (const { field, description } of violations) {
    if (!error.message.includes(description)) lines.push(`  ${oneLine(field)} ${oneLine(description)}`);
  }
  if (functionError !== undefined) {
    lines.push(`  ${paint(colour, 'bold', oneLine(functionError.type))}: ${indent(functionError.message, '  ').trimStart()}`);
    // A stack mostly begins with type and message, which stand above already.
    const frames = harmless(functionError.stack).split('\n').filter((line) => line.trim() !== '' && !line.startsWith(functionError.type) && !functionError.message.includes(line.trim()));
    lines.push(...frames.slice(0, MAX_STACK_LINES).map((line) => paint(colour, 'dim', `    ${line.trim()}`)));
  }
  if (logs !== undefined && logs.stderr.trim() !== '') {
    const written = harmless(logs.stderr).trimEnd().split('\n');
    lines.push(`  stderr${written.length > STDERR_TAIL_LINES ? ` (last ${STDERR_TAIL_LINES} lines)` : ''}:`);
    lines.push(...written.slice(-STDERR_TAIL_LINES).map((line) => `    ${line}`));
  }
  if (retryAfterMs !== undefined && retryAfterMs > 0) lines.push(`  try again in ${formatMs(retryAfterMs)}`);
  if (invocationId !== undefined && invocationId !== '') lines.push(paint(colour, 'dim', `  invocation ${oneLine(invocationId)}`));
  return `${lines.join('\n')}\n`;
}

function indent(text: string, by: string): string {
  return harmless(text).split('\n').map((line) => `${by}${line}`).join('\n');
}
