/** Brings the configuration together: flags > environment > file > defaults, and remembers where every value came from. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { MetronomeError, suggest, type Violation } from '../core/errors.ts';
import { durationText, rateText, readText, show, sizeText, type FieldInfo } from './fields.ts';
import { configFields, sections, upperSnake, type Config, type ConfigField, type SectionName } from './schema.ts';
import { at, formatPlace, parseYaml, type Place } from './yaml-source.ts';

/** The file that is read from the working directory when no other is named. */
export const DEFAULT_CONFIG_FILE = 'metronome.config.yaml';
const MAX_FILE_BYTES = 1024 * 1024;

/** Where the configuration may come from; everything is optional. */
export interface ConfigSources {
  /** Dotted key → value, as a command line gives it; undefined values are ignored. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** Dotted key → name of the flag for messages; otherwise `--` and the last part of the key in kebab-case. */
  readonly flagNames?: Readonly<Record<string, string>>;
  /** The environment, usually process.env. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** File to read (--config). Without it METRONOME_CONFIG, and without that metronome.config.yaml in `cwd` if there is one. */
  readonly filePath?: string | undefined;
  /** Folder that relative paths are relative to. @default process.cwd() */
  readonly cwd?: string;
}

/** The configuration and where each value came from. */
export interface LoadedConfig {
  readonly config: Config;
  /** Dotted key → 'default' | 'file path:line' | 'env NAME' | 'flag --x'. */
  readonly origins: Readonly<Record<string, string>>;
  /** The file that was read, or undefined. */
  readonly file: string | undefined;
}

/** A row of `metronome config show`. */
export interface ConfigRow {
  readonly key: string;
  /** As people write it; secrets as "(secret)". */
  readonly value: string;
  readonly origin: string;
}

interface Given {
  readonly value: unknown;
  readonly origin: string;
  /** Field of a violation about this value. */
  readonly field: string;
}

/** Loads the configuration. CONFIG_INVALID names every problem with its place. */
export function loadConfig(sources: ConfigSources = {}): LoadedConfig {
  const violations: Violation[] = [];
  const file = readConfigFile(sources, violations);
  const layers = [file.given, readEnvironment(sources.env ?? {}, violations), readFlags(sources, violations)];

  const config: Record<string, Record<string, unknown>> = {};
  const origins: Record<string, string> = {};
  const fieldOf = new Map<string, string>();
  for (const known of configFields) {
    let value: unknown;
    origins[known.key] = 'default';
    // Every layer is checked, also where a stronger one hides it: a broken file shall not come to light later.
    for (const layer of layers) {
      const given = layer.get(known.key);
      if (given === undefined) continue;
      const parsed = known.field.safeParse(given.value);
      if (!parsed.success) for (const issue of parsed.error.issues) violations.push({ field: given.field, description: known.info.secret ? 'is not valid (the value is secret)' : issue.message });
      value = parsed.data;
      origins[known.key] = given.origin;
      fieldOf.set(known.key, given.field);
    }
    (config[known.section] ??= {})[known.resolvedName] = origins[known.key] === 'default' ? known.field.parse(undefined) : value;
  }
  const complete = config as unknown as Config; // built from the same fields as the type
  if (violations.length === 0) checkTogether(complete, fieldOf, violations);
  if (violations.length > 0) throw invalid(violations);
  for (const section of Object.values(config)) Object.freeze(section);
  return { config: Object.freeze(complete), origins, file: file.path };
}

/** Every key with its value as people write it, for `config show [--origin]`. Secrets are not shown. */
export function configRows(loaded: LoadedConfig): readonly ConfigRow[] {
  return configFields.map((known) => ({ key: known.key, value: displayValue(known.info, valueOf(loaded.config, known)), origin: loaded.origins[known.key] ?? 'default' }));
}

/** A resolved value as people write it. Secrets come out as "(secret)". */
export function displayValue(info: FieldInfo, value: unknown): string {
  if (info.secret) return value === '' || value === undefined ? '' : '(secret)';
  if (typeof value === 'number' && info.kind === 'duration') return durationText(value);
  if (typeof value === 'number' && info.kind === 'size') return sizeText(value);
  if (typeof value === 'number' && info.kind === 'rate') return rateText(value);
  return typeof value === 'string' ? value : show(value);
}

function valueOf(config: Config, known: ConfigField): unknown {
  return (config[known.section] as Readonly<Record<string, unknown>>)[known.resolvedName];
}

function checkTogether(config: Config, fieldOf: ReadonlyMap<string, string>, violations: Violation[]): void {
  const { pushIntervalMs, staleAfterMs, lostAfterMs } = config.nodes;
  const place = (...keys: string[]): string => keys.map((key) => fieldOf.get(key)).find((field) => field !== undefined) ?? keys[0] ?? '';
  if (staleAfterMs <= pushIntervalMs) {
    violations.push({ field: place('nodes.staleAfter', 'nodes.pushInterval'), description: `nodes.staleAfter (${durationText(staleAfterMs)}) must be longer than nodes.pushInterval (${durationText(pushIntervalMs)}), or every node is stale` });
  }
  if (lostAfterMs <= staleAfterMs) {
    violations.push({ field: place('nodes.lostAfter', 'nodes.staleAfter'), description: `nodes.lostAfter (${durationText(lostAfterMs)}) must be longer than nodes.staleAfter (${durationText(staleAfterMs)})` });
  }
}

function readFlags(sources: ConfigSources, violations: Violation[]): Map<string, Given> {
  const given = new Map<string, Given>();
  for (const [key, value] of Object.entries(sources.flags ?? {})) {
    if (value === undefined) continue;
    const flag = sources.flagNames?.[key] ?? `--${upperSnake(key.split('.').at(-1) ?? key).toLowerCase().replaceAll('_', '-')}`;
    const known = configFields.find((candidate) => candidate.key === key);
    if (known === undefined) violations.push({ field: flag, description: `there is no configuration key "${key}"${didYouMean(key, configFields.map((field) => field.key))}` });
    else given.set(key, { value: typeof value === 'string' ? readText(known.info.kind, value) : value, origin: `flag ${flag}`, field: `${flag} ${key}` });
  }
  return given;
}

function readEnvironment(env: Readonly<Record<string, string | undefined>>, violations: Violation[]): Map<string, Given> {
  const given = new Map<string, Given>();
  const names = configFields.map((field) => field.env);
  const prefixes = Object.keys(sections).map((section) => `METRONOME_${upperSnake(section)}_`);
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith('METRONOME_')) continue;
    const known = configFields.find((field) => field.env === name);
    if (known !== undefined) given.set(known.key, { value: readText(known.info.kind, value), origin: `env ${name}`, field: `${name} ${known.key}` });
    // Other METRONOME_ names belong to others (METRONOME_CONFIG, a client's address); what looks like a key must be one.
    else if (name.includes('__') || prefixes.some((prefix) => name.startsWith(prefix))) violations.push({ field: name, description: `is no configuration variable${didYouMean(name, names)}` });
  }
  return given;
}

function readConfigFile(sources: ConfigSources, violations: Violation[]): { readonly path: string | undefined; readonly given: Map<string, Given> } {
  const given = new Map<string, Given>();
  const fromEnv = sources.env?.['METRONOME_CONFIG'];
  const named = sources.filePath ?? (fromEnv === undefined || fromEnv === '' ? undefined : fromEnv);
  const path = named ?? DEFAULT_CONFIG_FILE;
  let text: string;
  try {
    const bytes = readFileSync(resolve(sources.cwd ?? process.cwd(), path));
    if (bytes.length > MAX_FILE_BYTES) throw new Error(`it has ${bytes.length} bytes, more than ${MAX_FILE_BYTES}`);
    text = bytes.toString('utf8');
  } catch (error) {
    // The default file may be absent; a file that somebody named may not.
    if (named === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') return { path: undefined, given };
    const by = named === undefined ? '' : sources.filePath === undefined ? ' (named by METRONOME_CONFIG)' : ' (named by --config)';
    throw new MetronomeError('CONFIG_INVALID', `Cannot read the configuration file "${path}"${by}: ${error instanceof Error ? error.message : String(error)}`, { violations: [{ field: path, description: 'cannot be read' }], cause: error });
  }

  const source = parseYaml(text, path);
  violations.push(...source.violations);
  const [document, ...more] = source.documents.filter((candidate) => candidate.hasContent);
  if (document === undefined || !document.isWhole) return { path, given };
  for (const extra of more) violations.push({ field: formatPlace(extra.place), description: 'is a second document; a configuration file has one' });
  if (!isRecord(document.value)) {
    violations.push({ field: formatPlace(document.place), description: `must be a map of sections (${Object.keys(sections).join(', ')}), not ${show(document.value)}` });
    return { path, given };
  }
  for (const [sectionName, section] of Object.entries(document.value)) {
    const keyPlace = document.placeOf([sectionName], 'key');
    if (!Object.hasOwn(sections, sectionName)) {
      const owner = configFields.find((field) => field.name === sectionName);
      const hint = owner === undefined ? didYouMean(sectionName, Object.keys(sections)) : `; it belongs under "${owner.section}:"`;
      violations.push({ field: at(keyPlace, sectionName), description: `is no section${hint}` });
    } else if (isRecord(section)) {
      // Object.hasOwn was just asked
      readSection(sectionName as SectionName, section, (name, part) => document.placeOf([sectionName, name], part), given, violations);
    } else if (section !== null) {
      violations.push({ field: at(keyPlace, sectionName), description: `must be a map of keys, not ${show(section)}` });
    }
  }
  return { path, given };
}

function readSection(section: SectionName, values: Readonly<Record<string, unknown>>, placeOf: (name: string, part: 'key' | 'value') => Place, given: Map<string, Given>, violations: Violation[]): void {
  const names = Object.keys(sections[section]);
  for (const [name, value] of Object.entries(values)) {
    const key = `${section}.${name}`;
    if (!names.includes(name)) {
      const elsewhere = configFields.find((field) => field.name === name);
      violations.push({ field: at(placeOf(name, 'key'), key), description: `is no key of ${section}${suggest(name, names) === undefined && elsewhere !== undefined ? `; there is "${elsewhere.key}"` : didYouMean(name, names)}` });
    } else if (value === null) {
      violations.push({ field: at(placeOf(name, 'key'), key), description: 'has no value; leave the key out for its default' });
    } else {
      const place = placeOf(name, 'value');
      given.set(key, { value, origin: `file ${place.file}:${place.line}`, field: at(place, key) });
    }
  }
}

function invalid(violations: readonly Violation[]): MetronomeError {
  const lines = violations.map(({ field, description }) => `${field} ${description}`);
  const message = lines.length === 1 ? `The configuration is not valid: ${lines[0]}` : `The configuration is not valid (${lines.length} problems):\n  ${lines.join('\n  ')}`;
  return new MetronomeError('CONFIG_INVALID', message, { violations });
}

function didYouMean(given: string, known: readonly string[]): string {
  const near = suggest(given, known);
  return near === undefined ? `; known: ${known.length > 20 ? `${known.slice(0, 20).join(', ')}, …` : known.join(', ')}` : `; did you mean "${near}"?`;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
