/** Configuration keys as options of a command: names, bounds and help come from the one schema. */
import { Option, type Command } from 'commander';
import { configFields, type SectionName } from '../config/schema.ts';

/** Flags of a command: dotted key → the option's attribute. */
export type FlagMap = ReadonlyMap<string, string>;

/** Which keys become options. */
export interface FlagChoice {
  readonly sections: readonly SectionName[];
  /** Dotted keys that are left out. */
  readonly except?: readonly string[];
  /** Only these dotted keys. */
  readonly only?: readonly string[];
}

/** Adds an option for every key chosen. */
export function addConfigFlags(command: Command, choice: FlagChoice): FlagMap {
  const map = new Map<string, string>();
  for (const { section, name, key, info } of configFields) {
    if (!choice.sections.includes(section) || choice.except?.includes(key) === true || (choice.only !== undefined && !choice.only.includes(key))) continue;
    const flag = name.replaceAll(/([a-z0-9])([A-Z])/g, '$1-$2').toLowerCase();
    const value = info.kind === 'boolean' ? '[yes|no]' : `<${info.kind === 'integer' || info.kind === 'number' ? 'n' : info.kind}>`;
    const hint = info.defaultText === undefined || info.defaultText === '' ? '' : ` (default: ${info.defaultText})`;
    const option = new Option(`--${flag} ${value}`, `${lowerFirst(info.description).replace(/\.$/, '')}${hint}`);
    command.addOption(option);
    map.set(key, option.attributeName());
  }
  return map;
}

/** recording.dir by the name that says what it is for. */
export const RECORD_FLAG: readonly [key: string, attribute: string] = ['recording.dir', 'record'];

/** Adds the option for it. */
export function addRecordFlag(command: Command): Command {
  return command.option('--record <dir>', 'record what the scheduler sees and decides in a new folder under this one, for replay and what-if (section recording)');
}

/** What was given, for loadConfig. Bounds and forms are checked there, with the same words as for a file. */
export function configFlags(command: Command, map: FlagMap): { flags: Record<string, unknown>; flagNames: Record<string, string> } {
  const values: Readonly<Record<string, unknown>> = command.opts();
  const flags: Record<string, unknown> = {};
  const flagNames: Record<string, string> = {};
  for (const [key, attribute] of map) {
    flags[key] = values[attribute];
    flagNames[key] = command.options.find((option) => option.attributeName() === attribute)?.long ?? `--${attribute}`;
  }
  return { flags, flagNames };
}

function lowerFirst(text: string): string {
  // "SLA …" keeps its capitals.
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}
