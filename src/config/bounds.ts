/** Bounds of functions and workflows, as in proto/metronome/v1/function.proto and workflow.proto. Manifests and gRPC requests are checked against the same numbers. */

/** Names of functions, workflows, steps, nodes and policies. */
export const NAME_PATTERN = /^(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
/** The same in words. */
export const NAME_FORM = 'lower-case letters, digits and inner hyphens, at most 63 characters';

/** Runtimes that agents offer. */
/** How far a sandbox can be kept from the rest of its node. */
export const ISOLATIONS = ['process', 'bubblewrap'] as const;

export const RUNTIMES = ['node', 'python3'] as const;

/** A runtime that agents offer. */
export type Runtime = (typeof RUNTIMES)[number];

/** What a step may fan out over. */
export const FOR_EACH = ['objects', 'payload'] as const;

/** Least and greatest allowed values, units in the names. */
export const BOUNDS = {
  memoryMb: { min: 16, max: 65_536 },
  cpu: { min: 0.1, max: 64 },
  timeoutMs: { min: 1, max: 86_400_000 },
  slaMs: { min: 1, max: 86_400_000 },
  keepAliveMs: { min: 0, max: 86_400_000 },
  concurrency: { min: 0, max: 1_000_000 },
  retries: { min: 0, max: 10 },
  steps: { min: 1, max: 64 },
} as const;

/** Most packages. */
export const MAX_PACKAGES = 256;
/** Most environment variables. */
export const MAX_ENV = 256;
/** Most labels. */
export const MAX_LABELS = 64;
/** Longest locality key, characters. */
export const MAX_LOCALITY_KEY = 255;

const MODULE = { node: /^[A-Za-z0-9._/-]+\.(mjs|js|cjs)(#[A-Za-z_$][\w$]*)?$/, python3: /^[A-Za-z0-9._/-]+\.py(#[A-Za-z_]\w*)?$/ } as const;

/** What is wrong with a handler for a runtime, or undefined. */
export function handlerProblem(handler: string, runtime: Runtime): string | undefined {
  const example = runtime === 'node' ? '"handler.mjs" or "handler.mjs#run"' : '"handler.py" or "handler.py#run"';
  if (handler.length > 255 || !MODULE[runtime].test(handler)) return `must be a module for ${runtime} such as ${example}, not ${JSON.stringify(handler.slice(0, 80))}`;
  if (handler.startsWith('/') || handlerFile(handler).split('/').some((part) => part === '..' || part === '')) return `must stay inside the code folder, not ${JSON.stringify(handler)}`;
  return undefined;
}

/** The file part of a handler: "src/handler.mjs#run" → "src/handler.mjs". */
export function handlerFile(handler: string): string {
  return handler.split('#', 1)[0] ?? handler;
}

/** What is wrong with the name of an environment variable, or undefined. */
export function envNameProblem(name: string): string | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(name)) return `"${name}" is not a name of an environment variable`;
  return name.startsWith('METRONOME_') ? `"${name}" is reserved: names with METRONOME_ belong to the platform` : undefined;
}

/** What is wrong with the value of an environment variable, or undefined. */
export function envValueProblem(value: string): string | undefined {
  if (value.includes('\0')) return 'must not contain a zero byte';
  return value.length > 32_768 ? `must be at most 32768 characters, not ${value.length}` : undefined;
}

/** What is wrong with a package name, or undefined. */
export function packageNameProblem(name: string): string | undefined {
  return /^(@[A-Za-z0-9._~-]+\/)?[A-Za-z0-9_][A-Za-z0-9._~-]*$/.test(name) && name.length <= 214 ? undefined : `"${name.slice(0, 80)}" is not the name of a package`;
}

/** What is wrong with a version range, or undefined. Paths, addresses and aliases are refused: packages come from the registry. */
export function packageVersionProblem(version: string): string | undefined {
  return /^[\w.*^~<>=|,!+ -]{1,128}$/.test(version) ? undefined : `must be a version or range such as "^3.2.0", not ${JSON.stringify(version.slice(0, 80))}`;
}

/** What is wrong with a label name, or undefined. */
export function labelNameProblem(name: string): string | undefined {
  return /^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/.test(name) ? undefined : `"${name.slice(0, 80)}" is not a label name (letters, digits, inner . _ / -, at most 63)`;
}

/** What is wrong with a label value, or undefined. */
export function labelValueProblem(value: string): string | undefined {
  return value.length > 255 ? `must be at most 255 characters, not ${value.length}` : undefined;
}
