/**
 * Reads metronome.yaml: several YAML documents, each a Function or a Workflow, into the specs of the contract.
 * All problems of all documents are collected, each with file:line:column and the path of its field.
 */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { MetronomeError, suggest, type Violation } from '../core/errors.ts';
import { FunctionSpec } from '../rpc/gen/metronome/v1/function.ts';
import { WorkflowSpec } from '../rpc/gen/metronome/v1/workflow.ts';
import {
  BOUNDS, FOR_EACH, ISOLATIONS, MAX_ENV, MAX_LABELS, MAX_LOCALITY_KEY, MAX_PACKAGES, NAME_FORM, NAME_PATTERN, RUNTIMES,
  envNameProblem, envValueProblem, handlerFile, handlerProblem, labelNameProblem, labelValueProblem, packageNameProblem, packageVersionProblem,
} from './bounds.ts';
import { boolean, choice, duration, integer, number, show, size, text, textMap } from './fields.ts';
import { countPackages, readLockfile } from './lockfile.ts';
import { jsonSchemaOf } from './schema.ts';
import { RETRIES_NEED_IDEMPOTENT, stepProblems } from './spec.ts';
import { at, formatPlace, parseYaml, pathText, type Place, type YamlDocument } from './yaml-source.ts';

/** Name of the manifest in a folder. */
export const MANIFEST_FILE = 'metronome.yaml';
const API_VERSION = 'metronome/v1';
const KINDS = ['Function', 'Workflow'] as const;
const MAX_FILE_BYTES = 1024 * 1024;
const MIB = 1024 ** 2;

/** A function of a manifest. */
export interface ManifestFunction {
  readonly spec: FunctionSpec;
  /** Folder of its code, absolute. */
  readonly codeDir: string;
  /** Where its document begins. */
  readonly place: Place;
}

/** A workflow of a manifest. */
export interface ManifestWorkflow {
  readonly spec: WorkflowSpec;
  readonly place: Place;
}

/** A manifest that is valid. */
export interface Manifest {
  /** The file as messages name it. */
  readonly file: string;
  readonly functions: readonly ManifestFunction[];
  readonly workflows: readonly ManifestWorkflow[];
}

/** How to read a manifest. */
export interface LoadManifestOptions {
  /** The text, when `path` is "-". */
  readonly text?: string;
  /** Folder that relative paths are relative to. @default process.cwd() */
  readonly cwd?: string;
}

const name = (doc: string) => text({ doc, pattern: NAME_PATTERN, form: NAME_FORM, maxLength: 63 });

const functionFields = {
  runtime: choice(RUNTIMES, { doc: 'What runs the handler.' }),
  handler: text({ doc: 'Module and export inside the code folder, for example "handler.mjs" or "handler.mjs#run"; the export is "handler" by default.', maxLength: 255 }),
  code: text({ doc: 'Folder of the code, relative to the manifest.', default: '.', maxLength: 1_024, pattern: /^[^/\\][^\\\0]*$/, form: 'a path relative to the manifest' }),
  memory: size({ doc: 'Memory limit of one sandbox.', default: '256MiB', min: BOUNDS.memoryMb.min * MIB, max: BOUNDS.memoryMb.max * MIB }),
  cpu: number({ doc: 'CPU share of one sandbox.', unit: 'cores', default: 1, ...BOUNDS.cpu }),
  timeout: duration({ doc: 'Limit of one run of the handler.', default: '60s', ...BOUNDS.timeoutMs }),
  sla: duration({ doc: 'Latency target from arrival to result.', default: '10s', ...BOUNDS.slaMs }),
  concurrency: integer({ doc: 'Invocations that may run at once in the whole cluster; 0: no limit.', default: 0, ...BOUNDS.concurrency }),
  env: textMap({ doc: 'Environment of the function.', default: {}, maxEntries: MAX_ENV, key: envNameProblem, value: envValueProblem }),
  retries: integer({ doc: 'Further attempts after a failure that is not the function\'s fault; needs idempotent: true.', default: 0, ...BOUNDS.retries }),
  idempotent: boolean({ doc: 'True when running it twice is harmless.', default: false }),
  critical: boolean({ doc: 'True when it is user-facing.', default: false }),
  localityKey: text({ doc: 'Default locality key.', default: '', maxLength: MAX_LOCALITY_KEY }),
  keepAlive: duration({ doc: 'How long an idle sandbox is kept; 0: the agent\'s default.', default: 0, ...BOUNDS.keepAliveMs }),
  policy: text({ doc: 'Scheduling policy; empty: the scheduler\'s.', default: '', maxLength: 63, pattern: /^$|^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, form: 'the name of a policy' }),
  reuse: boolean({ doc: 'Whether a sandbox may serve more than one invocation.', default: true }),
  isolation: choice(['', ...ISOLATIONS], { doc: 'How far its sandboxes are kept from the rest of a node; empty: the node\'s default. It runs only where that can be had.', default: '' }),
  network: boolean({ doc: 'Whether it may use the network. Enforced by the isolation bubblewrap.', default: false }),
} as const;

const packagesField = z
  .union([z.record(z.string(), z.unknown()), z.array(z.unknown())], { error: (issue) => `must be a map of package names to versions or a list, not ${show(issue.input)}` })
  .prefault({})
  .meta({ description: `Packages with versions: a map of names to ranges, or a list such as ["d3-array@^3.2.0"]; at most ${MAX_PACKAGES}.` });

const afterField = z
  .union([z.string(), z.array(z.string())], { error: (issue) => `must be the name of a step or a list of names, not ${show(issue.input)}` })
  .prefault([])
  .meta({ description: 'Steps that must have ended before; none: the step gets the input of the run.' });

const stepSchema = z.strictObject(
  {
    name: name('Name within the workflow.'),
    function: name('Function to call.'),
    after: afterField,
    forEach: z.enum(FOR_EACH, { error: (issue) => `must be one of ${FOR_EACH.join(', ')}, not ${show(issue.input)}` }).optional().meta({ description: 'Fan-out: one call for each input object, or for each element of the payload.' }),
    critical: boolean({ doc: 'True when this step is user-facing.', default: false }),
  },
  { error: (issue) => `must be a step with name and function, not ${show(issue.input)}` },
);

const metadataSchema = z.strictObject(
  {
    name: name('Name; functions and workflows share one namespace.'),
    labels: textMap({ doc: 'Free labels.', default: {}, maxEntries: MAX_LABELS, key: labelNameProblem, value: labelValueProblem }),
  },
  { error: (issue) => (issue.input === undefined ? 'is missing; it must be a map with a name' : `must be a map with a name, not ${show(issue.input)}`) },
);

const mapWanted = { error: (issue: { readonly input?: unknown }) => (issue.input === undefined ? 'is missing; it must be a map' : `must be a map, not ${show(issue.input)}`) };

/** A document of kind Function, as people write it. */
export const functionDocumentSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Function'),
  metadata: metadataSchema,
  spec: z.strictObject({ ...functionFields, packages: packagesField }, mapWanted),
});

/** A document of kind Workflow, as people write it. */
export const workflowDocumentSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Workflow'),
  metadata: metadataSchema,
  spec: z.strictObject(
    {
      sla: duration({ doc: 'Latency target of the whole run.', default: '30s', ...BOUNDS.slaMs }),
      timeout: duration({ doc: 'Hard limit of the whole run.', default: '10m', ...BOUNDS.timeoutMs }),
      steps: z
        .array(stepSchema, { error: (issue) => (issue.input === undefined ? 'is missing; it must be a list of steps' : `must be a list of steps, not ${show(issue.input)}`) })
        .min(BOUNDS.steps.min, { error: `must have at least ${BOUNDS.steps.min} step` })
        .max(BOUNDS.steps.max, { error: (issue) => `must have at most ${BOUNDS.steps.max} steps, not ${Array.isArray(issue.input) ? issue.input.length : 'so many'}` })
        .meta({ description: 'The steps, without cycles.' }),
    },
    mapWanted,
  ),
});

/** The JSON Schema of one document of metronome.yaml, for editors. */
export function manifestJsonSchema(): Record<string, unknown> {
  return jsonSchemaOf(z.union([functionDocumentSchema, workflowDocumentSchema]), 'Metronome manifest');
}

/**
 * Reads a manifest: a file, a folder with metronome.yaml, or "-" with the text given. Also checks that code folders and handlers exist
 * and counts dependencies from package-lock.json. MANIFEST_INVALID carries all violations.
 */
export async function loadManifest(path: string, options: LoadManifestOptions = {}): Promise<Manifest> {
  const cwd = options.cwd ?? process.cwd();
  const { content, file, folder } = await readSource(path, options.text, cwd);
  const parsed = parseManifest(content, file);
  const violations = [...parsed.violations];
  const functions = await Promise.all(
    parsed.functions.map(async ({ spec, code, place, placeOf }): Promise<ManifestFunction> => {
      const codeDir = resolve(folder, code);
      if (!(await isFolder(codeDir))) {
        violations.push({ field: at(placeOf(['spec', 'code']), 'spec.code'), description: `there is no folder "${code}" (looked for ${codeDir})` });
      } else if (!(await isFile(join(codeDir, handlerFile(spec.handler))))) {
        violations.push({ field: at(placeOf(['spec', 'handler']), 'spec.handler'), description: `there is no file "${handlerFile(spec.handler)}" in ${code === '.' ? 'the folder of the manifest' : `"${code}"`}` });
      }
      const lock = spec.runtime === 'node' ? await readLockfile(codeDir).catch((error: unknown) => {
        const { message, extras } = MetronomeError.from(error);
        for (const { field, description } of extras.violations ?? [{ field: codeDir, description: message }]) violations.push({ field: at(place, 'spec.code'), description: `${field} ${description}` });
        return undefined;
      }) : undefined;
      // Without a lockfile only what is named is known; what that needs shows when it is resolved.
      return { spec: { ...spec, dependencyCount: lock === undefined ? Object.keys(spec.packages).length : countPackages(lock) }, codeDir, place };
    }),
  );
  if (violations.length > 0) throw manifestError(file, violations);
  return { file, functions, workflows: parsed.workflows };
}

/** What a text holds, before anything is looked up on disk. Never throws: the problems are in `violations`. */
export interface ParsedManifest {
  readonly functions: readonly { readonly spec: FunctionSpec; readonly code: string; readonly place: Place; readonly placeOf: YamlDocument['placeOf'] }[];
  readonly workflows: readonly ManifestWorkflow[];
  readonly violations: readonly Violation[];
}

/** Parses the text of a manifest; `file` is the name in messages. */
export function parseManifest(content: string, file: string): ParsedManifest {
  const source = parseYaml(content, file);
  const violations: Violation[] = [...source.violations];
  const functions: ParsedManifest['functions'][number][] = [];
  const workflows: ManifestWorkflow[] = [];
  const firstPlace = new Map<string, Place>();
  const documents = source.documents.filter((document) => document.hasContent);
  if (documents.length === 0 && violations.length === 0) violations.push({ field: file, description: 'has no document; expected a Function or a Workflow' });

  for (const document of documents) {
    // After a syntax error every further complaint would be noise.
    if (!document.isWhole) continue;
    const report = (path: readonly PropertyKey[], description: string, part: 'key' | 'value' = 'value'): void => void violations.push({ field: at(document.placeOf(path, part), pathText(path)), description });
    const value = document.value;
    if (!isRecord(value)) {
      report([], `must be a map with apiVersion, kind, metadata and spec, not ${show(value)}`);
      continue;
    }
    const metadata = value['metadata'];
    const documentName = isRecord(metadata) ? metadata['name'] : undefined;
    if (typeof documentName === 'string') {
      const first = firstPlace.get(documentName);
      if (first === undefined) firstPlace.set(documentName, document.placeOf(['metadata', 'name']));
      else report(['metadata', 'name'], `"${documentName}" is already the name of another document (${formatPlace(first)})`);
    }
    const kind = readKind(value, report);
    if (kind === 'Function') {
      const spec = readFunction(value, document, violations, report);
      if (spec !== undefined) functions.push({ ...spec, place: document.place, placeOf: document.placeOf });
    } else if (kind === 'Workflow') {
      const spec = readWorkflow(value, document, violations, report);
      if (spec !== undefined) workflows.push({ spec, place: document.place });
    }
  }
  return { functions, workflows, violations };
}

type Report = (path: readonly PropertyKey[], description: string, part?: 'key' | 'value') => void;

/** The kind, or undefined when the document cannot be understood. */
function readKind(value: Readonly<Record<string, unknown>>, report: Report): (typeof KINDS)[number] | undefined {
  const { apiVersion, kind } = value;
  if (apiVersion === undefined) report(['apiVersion'], `is missing; it must be ${API_VERSION}`);
  else if (apiVersion !== API_VERSION) report(['apiVersion'], `must be ${API_VERSION}, not ${show(apiVersion)}`);
  const known = KINDS.find((candidate) => candidate === kind);
  if (known !== undefined) return known;
  const near = typeof kind === 'string' ? suggest(kind, KINDS) : undefined;
  report(['kind'], kind === undefined ? `is missing; it must be one of ${KINDS.join(', ')}` : `must be one of ${KINDS.join(', ')}, not ${show(kind)}${near === undefined ? '' : `; did you mean "${near}"?`}`);
  return undefined;
}

function readFunction(value: Readonly<Record<string, unknown>>, document: YamlDocument, violations: Violation[], report: Report): { readonly spec: FunctionSpec; readonly code: string } | undefined {
  const before = violations.length;
  const raw = isRecord(value['spec']) ? value['spec'] : {};
  const result = functionDocumentSchema.safeParse({ ...value, apiVersion: API_VERSION });
  if (!result.success) reportIssues(result.error.issues, report, functionDocumentSchema.shape.spec.shape);
  const runtime = RUNTIMES.find((candidate) => candidate === raw['runtime']);
  if (runtime !== undefined && typeof raw['handler'] === 'string') {
    const problem = handlerProblem(raw['handler'], runtime);
    if (problem !== undefined) report(['spec', 'handler'], problem);
  }
  if (typeof raw['retries'] === 'number' && raw['retries'] > 0 && raw['idempotent'] !== true) report(['spec', 'retries'], RETRIES_NEED_IDEMPOTENT);
  const packages = readPackages(raw['packages'], runtime === 'python3', report);
  if (!result.success || violations.length > before) return undefined;
  const { metadata, spec } = result.data;
  return {
    code: spec.code,
    spec: FunctionSpec.fromPartial({
      name: metadata.name,
      labels: metadata.labels,
      runtime: spec.runtime,
      handler: spec.handler,
      memoryMb: Math.ceil(spec.memory / MIB),
      cpu: spec.cpu,
      timeoutMs: spec.timeout,
      slaMs: spec.sla,
      concurrency: spec.concurrency,
      packages,
      env: spec.env,
      retries: spec.retries,
      idempotent: spec.idempotent,
      critical: spec.critical,
      localityKey: spec.localityKey,
      keepAliveMs: spec.keepAlive,
      policy: spec.policy,
      reuse: spec.reuse,
      isolation: spec.isolation,
      network: spec.network,
    }),
  };
}

function readWorkflow(value: Readonly<Record<string, unknown>>, document: YamlDocument, violations: Violation[], report: Report): WorkflowSpec | undefined {
  const before = violations.length;
  const result = workflowDocumentSchema.safeParse({ ...value, apiVersion: API_VERSION });
  if (!result.success) reportIssues(result.error.issues, report, workflowDocumentSchema.shape.spec.shape);
  const raw = isRecord(value['spec']) && Array.isArray(value['spec']['steps']) ? (value['spec']['steps'] as unknown[]) : []; // elements are checked below
  if (raw.length <= BOUNDS.steps.max) {
    const steps = raw.map((step) => ({ name: isRecord(step) && typeof step['name'] === 'string' ? step['name'] : '', after: isRecord(step) ? namesOf(step['after']) : [] }));
    for (const { index, afterIndex, path, description } of stepProblems(steps)) {
      const given = raw[index];
      const isList = isRecord(given) && Array.isArray(given['after']);
      if (path.endsWith('.name')) report(['spec', 'steps', index, 'name'], description);
      else report(['spec', 'steps', index, 'after', ...(isList && afterIndex >= 0 ? [afterIndex] : [])], description);
    }
  }
  if (!result.success || violations.length > before) return undefined;
  const { metadata, spec } = result.data;
  return WorkflowSpec.fromPartial({
    name: metadata.name,
    labels: metadata.labels,
    slaMs: spec.sla,
    timeoutMs: spec.timeout,
    steps: spec.steps.map((step) => ({ name: step.name, function: step.function, after: namesOf(step.after), forEach: step.forEach ?? '', critical: step.critical })),
  });
}

function reportIssues(issues: readonly z.core.$ZodIssue[], report: Report, specShape: Readonly<Record<string, unknown>>): void {
  for (const issue of issues) {
    if (issue.code !== 'unrecognized_keys') {
      report(issue.path, issue.message);
      continue;
    }
    const [first, second] = issue.path;
    const known = first === undefined ? ['apiVersion', 'kind', 'metadata', 'spec'] : first === 'metadata' ? Object.keys(metadataSchema.shape) : second === 'steps' ? Object.keys(stepSchema.shape) : Object.keys(specShape);
    for (const key of issue.keys) {
      // What Kubernetes users and others write out of habit, and keys at the wrong level.
      const near = suggest(key, known);
      const hint = near !== undefined ? `; did you mean "${near}"?` : first === undefined && Object.hasOwn(specShape, key) ? '; it belongs under "spec:"' : `; known: ${known.join(', ')}`;
      report([...issue.path, key], `is no key here${hint}`, 'key');
    }
  }
}

function readPackages(value: unknown, isPython: boolean, report: Report): Record<string, string> {
  const packages: Record<string, string> = {};
  const path = ['spec', 'packages'];
  const entries: { readonly path: readonly PropertyKey[]; readonly name: string; readonly version: unknown }[] = [];
  if (Array.isArray(value)) {
    for (const [i, item] of (value as unknown[]).entries()) {
      if (typeof item === 'string') entries.push({ path: [...path, i], ...splitPackage(item, isPython) });
      else report([...path, i], `must be a package such as "d3-array@^3.2.0", not ${show(item)}`);
    }
  } else if (isRecord(value)) {
    for (const [packageName, version] of Object.entries(value)) entries.push({ path: [...path, packageName], name: packageName, version });
  }
  if (entries.length > MAX_PACKAGES) report(path, `must have at most ${MAX_PACKAGES} entries, not ${entries.length}`);
  for (const entry of entries.slice(0, MAX_PACKAGES)) {
    const wrong =
      packageNameProblem(entry.name) ??
      (typeof entry.version === 'string' ? packageVersionProblem(entry.version) : `must be a version in quotes, such as "${typeof entry.version === 'number' ? entry.version : '^1.2.0'}", not ${show(entry.version)}`) ??
      (Object.hasOwn(packages, entry.name) ? `names "${entry.name}" twice` : undefined);
    if (wrong !== undefined) report(entry.path, wrong);
    else if (typeof entry.version === 'string') packages[entry.name] = entry.version;
  }
  return packages;
}

/** "d3-array@^3.2.0" or "requests>=2,<3" → name and version; no version: "*". */
function splitPackage(item: string, isPython: boolean): { readonly name: string; readonly version: string } {
  const cut = isPython ? item.search(/[=<>~!]/) : item.lastIndexOf('@');
  if (cut <= 0) return { name: item.trim(), version: '*' };
  return { name: item.slice(0, cut).trim(), version: item.slice(isPython ? cut : cut + 1).trim() };
}

function namesOf(after: unknown): string[] {
  if (typeof after === 'string') return [after];
  return Array.isArray(after) ? (after as unknown[]).filter((item) => typeof item === 'string') : [];
}

async function readSource(path: string, given: string | undefined, cwd: string): Promise<{ readonly content: string; readonly file: string; readonly folder: string }> {
  if (path === '-') {
    if (given === undefined) throw new MetronomeError('MANIFEST_INVALID', 'The manifest "-" needs its text.', { violations: [{ field: '-', description: 'no text was given' }] });
    return { content: given, file: '<stdin>', folder: cwd };
  }
  let file = path;
  try {
    if ((await stat(resolve(cwd, file))).isDirectory()) file = join(path, MANIFEST_FILE);
    const full = resolve(cwd, file);
    const { size: bytes } = await stat(full);
    if (bytes > MAX_FILE_BYTES) throw new Error(`it has ${bytes} bytes, more than ${MAX_FILE_BYTES}`);
    return { content: await readFile(full, 'utf8'), file, folder: dirname(full) };
  } catch (error) {
    throw new MetronomeError('MANIFEST_INVALID', `Cannot read the manifest "${file}": ${error instanceof Error ? error.message : String(error)}`, { violations: [{ field: file, description: 'cannot be read' }], cause: error });
  }
}

function manifestError(file: string, violations: readonly Violation[]): MetronomeError {
  const lines = violations.map(({ field, description }) => `${field} ${description}`);
  const message = lines.length === 1 ? `The manifest is not valid: ${lines[0]}` : `The manifest ${file} is not valid (${lines.length} problems):\n  ${lines.join('\n  ')}`;
  return new MetronomeError('MANIFEST_INVALID', message, { violations });
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then((found) => found.isDirectory(), () => false);
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then((found) => found.isFile(), () => false);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
