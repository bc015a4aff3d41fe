/**
 * Which registry npm would use for this user, through which proxy, with which tokens. `npm config` is asked for all but the tokens,
 * which it does not tell; those are read from the same npmrc files. They go nowhere but into requests, never into a log.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Options in the form that npm's own libraries take: registry, "@scope:registry", "//host/:_authToken", proxy, … */
export type NpmSettings = Readonly<Record<string, string | boolean | readonly string[]>>;

const DEFAULT_REGISTRY = 'https://registry.npmjs.org/';
const TIMEOUT_MS = 20_000;
const MAX_OUTPUT_BYTES = 1024 ** 2;
const MAX_NPMRC_BYTES = 1024 ** 2;

/** Keys of `npm config`, and what the libraries call them. */
const TAKEN: Readonly<Record<string, string>> = { registry: 'registry', proxy: 'proxy', 'https-proxy': 'httpsProxy', noproxy: 'noProxy', 'strict-ssl': 'strictSSL', ca: 'ca', cert: 'cert', key: 'key', 'local-address': 'localAddress' };
const SECRET = /^\/\/[^=]+:(?:_authToken|_auth|username|_password|certfile|keyfile)$/;

/** Where to ask and whom. */
export interface NpmSettingsOptions {
  /** Registry that goes before npm's own (agent.npmRegistry); '': none. */
  readonly registry: string;
  /** A folder that is no project, so that no project's settings count. */
  readonly cwd: string;
  /** @default process.env */
  readonly env?: NodeJS.ProcessEnv;
  /** @default 'npm' */
  readonly npm?: string;
}

/** Reads the settings. Without npm on the PATH, the user's npmrc and the environment alone count. */
export async function readNpmSettings(options: NpmSettingsOptions): Promise<NpmSettings> {
  const env = options.env ?? process.env;
  const told = await askNpm(options.npm ?? 'npm', options.cwd, env);
  const settings: Record<string, string | boolean | readonly string[]> = { registry: DEFAULT_REGISTRY };
  const take = (key: string, value: unknown): void => {
    const name = TAKEN[key] ?? (key.startsWith('@') && key.endsWith(':registry') ? key : undefined);
    if (name === undefined || value === null || value === undefined || value === '') return;
    if (typeof value === 'string' || typeof value === 'boolean') settings[name] = value;
    else if (Array.isArray(value) && value.every((item) => typeof item === 'string')) settings[name] = value;
  };
  const userconfig = stringOf(told?.['userconfig']) ?? env['npm_config_userconfig'] ?? env['NPM_CONFIG_USERCONFIG'] ?? join(homedir(), '.npmrc');
  const globalconfig = stringOf(told?.['globalconfig']);
  for (const file of [globalconfig, userconfig]) {
    if (file === undefined) continue;
    for (const [key, value] of await npmrc(file, env)) {
      if (SECRET.test(key)) settings[key] = value;
      else if (told === undefined) take(key, value);
    }
  }
  if (told === undefined) take('registry', env['npm_config_registry'] ?? env['NPM_CONFIG_REGISTRY']);
  else for (const [key, value] of Object.entries(told)) take(key, value);
  for (const [name, value] of Object.entries(env)) {
    const key = /^npm_config_(\/\/.*)$/i.exec(name)?.[1];
    if (key !== undefined && SECRET.test(key) && value !== undefined) settings[key] = value;
  }
  const cafile = stringOf(told?.['cafile']);
  if (cafile !== undefined && settings['ca'] === undefined) {
    const text = await readFile(cafile, 'utf8').catch(() => ''); // npm does the same: a file that is gone counts for nothing
    const certificates = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g);
    if (certificates !== null) settings['ca'] = certificates;
  }
  if (options.registry !== '') settings['registry'] = options.registry;
  return settings;
}

/** The registry for a package, without a slash at its end. */
export function registryOf(settings: NpmSettings, name: string): string {
  const scoped = name.startsWith('@') ? settings[`${name.slice(0, name.indexOf('/'))}:registry`] : undefined;
  const registry = stringOf(scoped) ?? stringOf(settings['registry']) ?? DEFAULT_REGISTRY;
  return registry.replace(/\/+$/, '');
}

function askNpm(npm: string, cwd: string, env: NodeJS.ProcessEnv): Promise<Readonly<Record<string, unknown>> | undefined> {
  return new Promise((resolve) => {
    // What npm sets for the scripts that it runs is not the user's.
    const clean = Object.fromEntries(Object.entries(env).filter(([name]) => !/^npm_(package|lifecycle|config_local_prefix|command)/.test(name)));
    execFile(npm, ['config', 'list', '--json'], { cwd, env: clean, timeout: TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES }, (error, stdout) => {
      resolve(error === null ? recordOf(stdout) : undefined);
    });
  });
}

function recordOf(json: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined; // its values are checked where they are taken
  } catch {
    return undefined;
  }
}

/** The lines of an npmrc file, with ${VARIABLES} filled in. */
async function npmrc(file: string, env: NodeJS.ProcessEnv): Promise<[key: string, value: string][]> {
  const text = await readFile(file, 'utf8').catch(() => ''); // there need not be one
  if (text.length > MAX_NPMRC_BYTES) return [];
  const entries: [string, string][] = [];
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*([^;#=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line);
    if (match === null) continue;
    const [, key = '', raw = ''] = match;
    const value = /^(["']).*\1$/.test(raw) ? raw.slice(1, -1) : raw;
    const fill = (word: string): string => word.replaceAll(/\$\{([^}?]+)(\?)?\}/g, (whole, name: string, orEmpty?: string) => env[name] ?? (orEmpty === undefined ? whole : ''));
    entries.push([fill(key), fill(value)]);
  }
  return entries;
}

function stringOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
