/** Values of options and arguments as people type them, turned into what the contract wants. Mistakes are usage errors (exit 2). */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { MetronomeError } from '../core/errors.ts';
import { parseDurationMs } from '../core/units.ts';
import type { CliIo } from './io.ts';

/** "250ms", "2s", "1m30s" → ms. */
export function duration(text: string): number {
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new InvalidArgumentError('It must be a duration such as 250ms, 2s or 1m30s.');
  return ms;
}

/** A parser for whole numbers within bounds. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return value;
  };
}

/** Collects an option that may be given many times. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

/** Adds examples to the help of a command. */
export function withExamples(command: Command, ...lines: readonly string[]): Command {
  return command.addHelpText('after', `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}`).join('\n')}\n`);
}

/** A payload with its media type. */
export interface Payload {
  readonly payload: Uint8Array;
  readonly contentType: string;
}

/**
 * The payload of --data: JSON as it stands, "@file" or "-" for standard input. Without a content type it is JSON,
 * which is checked here so that a slip of the pen is a usage error and not a round trip.
 */
export async function readPayload(io: CliIo, data: string | undefined, contentType: string | undefined): Promise<Payload> {
  if (data === undefined) return { payload: new Uint8Array(), contentType: contentType ?? '' };
  const payload = data === '-' ? await io.readStdin() : data.startsWith('@') ? await readFileOrFail(io, data.slice(1)) : Buffer.from(data);
  if (contentType === undefined || contentType === 'application/json') {
    try {
      if (payload.byteLength > 0) JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
    } catch (cause) {
      const what = data === '-' ? 'Standard input' : data.startsWith('@') ? `The file ${data.slice(1)}` : `--data ${JSON.stringify(data.length > 60 ? `${data.slice(0, 57)}…` : data)}`;
      throw new MetronomeError('PAYLOAD_INVALID', `${what} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}. Quote it for the shell, or say what it is with --content-type.`, { cause });
    }
  }
  return { payload, contentType: contentType ?? 'application/json' };
}

/** A file's content; INVALID_REQUEST when it cannot be read. */
export async function readFileOrFail(io: CliIo, path: string): Promise<Uint8Array> {
  try {
    return await readFile(resolve(io.cwd, path));
  } catch (cause) {
    throw new MetronomeError('INVALID_REQUEST', `The file "${path}" cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
