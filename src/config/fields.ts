/**
 * The building blocks of everything that people configure: zod fields that know their kind, default, unit and bounds,
 * say what is wrong in one sentence with the offending value, and turn "150ms", "1GiB" and "250mbit" into numbers.
 * schema.ts (configuration) and manifest.ts (metronome.yaml) are built from them.
 */
import { z } from 'zod';
import { parseBitsPerS, parseBytes, parseDurationMs } from '../core/units.ts';

/** What a field holds; decides how text from the environment is read and how the resolved name ends. */
export type FieldKind = 'duration' | 'size' | 'rate' | 'integer' | 'number' | 'boolean' | 'text' | 'choice' | 'textMap';

/** What is known about a field beside its value. */
export interface FieldInfo<K extends FieldKind = FieldKind> {
  readonly kind: K;
  /** One sentence for the reference page and `--help`. */
  readonly description: string;
  /** 'ms', 'bytes' or another unit; empty if it has none. */
  readonly unit: string;
  /** The default as people write it; undefined if the field must be given. */
  readonly defaultText: string | undefined;
  /** The allowed values in words; empty if there is no bound. */
  readonly bounds: string;
  /** Secrets are never shown. */
  readonly secret: boolean;
}

/** A zod schema with what is known about it. */
export type Field<T = unknown, K extends FieldKind = FieldKind> = z.ZodType<T> & { readonly info: FieldInfo<K> };

interface Common<D> {
  readonly doc: string;
  /** Value in the form that people write; omitted: the field is required. */
  readonly default?: D | (() => D);
  /** How a computed default reads, for example "number of CPUs". */
  readonly defaultText?: string;
  readonly secret?: boolean;
}

interface Range {
  readonly min: number;
  readonly max: number;
}

/** A time: "150ms", "30s", "1h30m" or a number of milliseconds. Comes out as milliseconds. */
export function duration(options: Common<string | number> & Range): Field<number, 'duration'> {
  const schema = scalarUnion('a duration such as "150ms" or "30s"').transform((value, ctx) => {
    const ms = parseDurationMs(value);
    if (ms === undefined) return refuse(ctx, value, 'must be a duration such as "150ms" or "30s"');
    if (ms < options.min || ms > options.max) return refuse(ctx, value, `must be ${rangeText(options, durationText)}`);
    return ms;
  });
  return finish(schema, options, { kind: 'duration', unit: 'ms', bounds: rangeText(options, durationText) });
}

/** A size: "256MiB", "1GiB" or a number of bytes. Comes out as bytes. */
export function size(options: Common<string | number> & Range): Field<number, 'size'> {
  const schema = scalarUnion('a size such as "256MiB" or "1GiB"').transform((value, ctx) => {
    const bytes = parseBytes(value);
    if (bytes === undefined) return refuse(ctx, value, 'must be a size such as "256MiB" or "1GiB"');
    if (bytes < options.min || bytes > options.max) {
      const hint = isUnitless(value) && bytes < options.min ? ` (a number without a unit is bytes; did you mean "${value}MiB"?)` : '';
      return refuse(ctx, value, `must be ${rangeText(options, sizeText)}`, hint);
    }
    return bytes;
  });
  return finish(schema, options, { kind: 'size', unit: 'bytes', bounds: rangeText(options, sizeText) });
}

/** A rate: "250mbit", "1gbit" or a number of bits per second. Comes out as bits per second. */
export function rate(options: Common<string | number> & Range): Field<number, 'rate'> {
  const schema = scalarUnion('a rate such as "250mbit" or "1gbit"').transform((value, ctx) => {
    const bits = parseBitsPerS(value);
    // tc reads "mbps" as megabytes per second, most people as megabits.
    if (bits === undefined) return refuse(ctx, value, 'must be a rate such as "250mbit" or "1gbit"', /bps$/i.test(String(value).trim()) ? ' (write it in bits: kbit, mbit or gbit)' : '');
    // 0 means that there is none; between it and the least one nothing works.
    if (bits !== 0 && (bits < options.min || bits > options.max)) {
      const hint = isUnitless(value) && bits < options.min ? ` (a number without a unit is bits per second; did you mean "${value}mbit"?)` : '';
      return refuse(ctx, value, `must be 0 or ${rangeText(options, rateText)}`, hint);
    }
    return bits;
  });
  return finish(schema, options, { kind: 'rate', unit: 'bits/s', bounds: `0 or ${rangeText(options, rateText)}` });
}

/** A whole number. */
export function integer(options: Common<number> & Range & { readonly unit?: string }): Field<number, 'integer'> {
  const bounds = rangeText(options, String);
  const schema = z.int({ error: says(`must be a whole number ${bounds}`) }).min(options.min, { error: says(`must be ${bounds}`) }).max(options.max, { error: says(`must be ${bounds}`) });
  return finish(schema, options, { kind: 'integer', unit: options.unit ?? '', bounds });
}

/** A number; `exclusive` keeps the bounds themselves out (`'min'`, `'max'`, `'both'`). */
export function number(options: Common<number> & Range & { readonly unit?: string; readonly exclusive?: 'min' | 'max' | 'both' }): Field<number, 'number'> {
  const openMin = options.exclusive === 'min' || options.exclusive === 'both';
  const openMax = options.exclusive === 'max' || options.exclusive === 'both';
  const bounds = openMin || openMax ? `${openMin ? 'above' : 'at least'} ${options.min} and ${openMax ? 'below' : 'at most'} ${options.max}` : rangeText(options, String);
  const base = z.number({ error: says(`must be a number ${bounds}`) });
  const low = openMin ? base.gt(options.min, { error: says(`must be ${bounds}`) }) : base.min(options.min, { error: says(`must be ${bounds}`) });
  const schema = openMax ? low.lt(options.max, { error: says(`must be ${bounds}`) }) : low.max(options.max, { error: says(`must be ${bounds}`) });
  return finish(schema, options, { kind: 'number', unit: options.unit ?? '', bounds });
}

/** true or false. */
export function boolean(options: Common<boolean>): Field<boolean, 'boolean'> {
  return finish(z.boolean({ error: says('must be true or false') }), options, { kind: 'boolean', unit: '', bounds: '' });
}

/** Text; `pattern` with `form`, which says in words what is allowed. */
export function text(options: Common<string> & { readonly pattern?: RegExp; readonly form?: string; readonly maxLength?: number }): Field<string, 'text'> {
  const maxLength = options.maxLength ?? 1_024;
  const base = z
    .string({ error: (issue) => (isUnquoted(issue.input) ? `must be text, not ${show(issue.input)}; write it in quotes: "${String(issue.input)}"` : says('must be text')(issue)) })
    .max(maxLength, { error: (issue) => `must be at most ${maxLength} characters, not ${String(issue.input).length}` });
  const schema = options.pattern === undefined ? base : base.regex(options.pattern, { error: says(`must be ${options.form ?? 'of another form'}`) });
  return finish(schema, options, { kind: 'text', unit: '', bounds: options.form ?? '' });
}

/** One of a list of words. */
export function choice<const W extends string>(words: readonly [W, ...W[]], options: Common<NoInfer<W>>): Field<W, 'choice'> {
  const bounds = words.join(', ');
  const schema = z.enum(words, { error: says(`must be one of ${bounds}`) });
  return finish(schema, options, { kind: 'choice', unit: '', bounds });
}

/** A map from text to text; `key` and `value` check one entry each and return what is wrong with it. */
export function textMap(options: Common<Record<string, string>> & {
  readonly maxEntries: number;
  readonly key?: (key: string) => string | undefined;
  readonly value?: (value: string, key: string) => string | undefined;
}): Field<Record<string, string>, 'textMap'> {
  const schema = z.record(z.string(), z.unknown(), { error: says('must be a map of names to text') }).transform((map, ctx) => {
    const result: Record<string, string> = {};
    const entries = Object.entries(map);
    if (entries.length > options.maxEntries) return refuse(ctx, `${entries.length} entries`, `must have at most ${options.maxEntries} entries`);
    for (const [key, value] of entries) {
      const wrong = options.key?.(key) ?? (typeof value === 'string' ? options.value?.(value, key) : textWanted(value));
      if (wrong !== undefined) ctx.addIssue({ code: 'custom', path: [key], message: wrong, input: value });
      else if (typeof value === 'string') Object.defineProperty(result, key, { value, enumerable: true, writable: true, configurable: true });
    }
    return result;
  });
  return finish(schema, options, { kind: 'textMap', unit: '', bounds: `at most ${options.maxEntries} entries` });
}

/** Text from a flag or the environment as the value that a field of this kind expects; what does not fit is left as it is. */
export function readText(kind: FieldKind, given: string): unknown {
  const trimmed = given.trim();
  switch (kind) {
    case 'integer':
    case 'number':
      return /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(trimmed) ? Number(trimmed) : given;
    case 'boolean':
      if (/^(true|yes|on|1)$/i.test(trimmed)) return true;
      return /^(false|no|off|0)$/i.test(trimmed) ? false : given;
    case 'duration':
    case 'size':
    case 'rate':
    case 'choice':
      return trimmed;
    case 'text':
    case 'textMap':
      return given;
  }
}

/** A value as it appears in messages: JSON, cut at 60 characters. */
export function show(value: unknown): string {
  const json = typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? String(value));
  return json.length <= 60 ? json : `${json.slice(0, 57)}…`;
}

/** Milliseconds as people write them: 150ms, 30s, 5m, 2h. Exact. */
export function durationText(ms: number): string {
  for (const [unit, factor] of [['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1_000]] as const) {
    if (ms >= factor && ms % factor === 0) return `${ms / factor}${unit}`;
  }
  return `${ms}ms`;
}

/** Bytes as people write them: 256MiB, 1GiB, 1500B. Exact. */
export function sizeText(bytes: number): string {
  for (const [unit, factor] of [['TiB', 1024 ** 4], ['GiB', 1024 ** 3], ['MiB', 1024 ** 2], ['KiB', 1024]] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}

/** Bits per second as people write them: 250mbit, 1gbit. Exact. */
export function rateText(bitsPerS: number): string {
  for (const [unit, factor] of [['tbit', 1e12], ['gbit', 1e9], ['mbit', 1e6], ['kbit', 1e3]] as const) {
    if (bitsPerS >= factor && bitsPerS % factor === 0) return `${bitsPerS / factor}${unit}`;
  }
  return `${bitsPerS}bit`;
}

function finish<T, D, K extends FieldKind>(schema: z.ZodType<T>, options: Common<D>, part: { kind: K; unit: string; bounds: string }): Field<T, K> {
  const given = options.default;
  const value = typeof given === 'function' ? (given as () => D)() : given; // D is never a function
  const defaultText = options.defaultText ?? (value === undefined ? undefined : typeof value === 'string' ? value : JSON.stringify(value));
  const info: FieldInfo<K> = { ...part, description: options.doc, defaultText, secret: options.secret ?? false };
  const withDefault = value === undefined ? schema : schema.prefault(value);
  const described = withDefault.meta({
    description: options.doc,
    ...(part.unit === '' ? {} : { unit: part.unit }),
    ...(part.bounds === '' ? {} : { bounds: part.bounds }),
    ...(options.defaultText === undefined ? {} : { defaultText: options.defaultText }),
  });
  return Object.assign(described, { info });
}

function scalarUnion(what: string) {
  return z.union([z.number(), z.string()], { error: says(`must be ${what}`) });
}

/** A zod error function: the sentence and the offending value. */
function says(sentence: string): (issue: { readonly input?: unknown }) => string {
  return (issue) => (issue.input === undefined ? `is missing; it ${sentence}` : `${sentence}, not ${show(issue.input)}`);
}

function refuse(ctx: z.core.$RefinementCtx, value: unknown, sentence: string, hint = ''): never {
  ctx.addIssue({ code: 'custom', message: `${sentence}, not ${show(value)}${hint}`, input: value });
  return z.NEVER;
}

function rangeText(range: Range, format: (value: number) => string): string {
  return Number.isFinite(range.max) ? `from ${format(range.min)} to ${format(range.max)}` : `at least ${format(range.min)}`;
}

function textWanted(value: unknown): string {
  return isUnquoted(value) ? `must be text, not ${show(value)}; write it in quotes: "${String(value)}"` : `must be text, not ${show(value)}`;
}

const isUnquoted = (value: unknown): boolean => typeof value === 'number' || typeof value === 'boolean';
const isUnitless = (value: string | number): boolean => typeof value === 'number' || /^\d+(\.\d+)?$/.test(value.trim());
