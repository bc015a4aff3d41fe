/**
 * The four applications of the paper as work for benches and tests: where their manifests are, how inputs of a size are made, what a run is
 * called with, and whether what came out is right. Makers and checks belong to the applications (apps/<name>/make-input.mjs and
 * check-output.mjs, plain JavaScript); they are loaded when they are needed, so that the product depends on none of them.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MetronomeError, suggest } from '../core/errors.ts';

/** Names of the applications, which are also their folders. */
export const APPLICATIONS = ['video', 'log', 'document', 'inference'] as const;

/** The name of an application. */
export type ApplicationName = (typeof APPLICATIONS)[number];

/** An object that a run left, as a local file. */
export interface OutputFile {
  readonly name: string;
  readonly path: string;
}

/** What a run of the workflow gave. */
export interface RunOutcome {
  /** The parsed result. */
  readonly result: unknown;
  readonly outputs: readonly OutputFile[];
}

/** An input, and what must come out for it. */
export interface ApplicationInput {
  readonly path: string;
  readonly sizeBytes: number;
  /** Payload of the run; JSON. */
  readonly payload: unknown;
  /** What differs from what the maker knows about its input, one line each; nothing if the run was right. */
  verify(outcome: RunOutcome): Promise<readonly string[]>;
}

/** Which input to make. */
export interface InputOptions {
  /** The same seed and size give the same bytes. */
  readonly seed: number;
  /** Wanted size; the file has about as many bytes. */
  readonly sizeBytes: number;
  /** Folder for the file. */
  readonly dir: string;
  /** Further options of the maker (apps/<name>/make-input.mjs), such as bitsPerPoint of videos. */
  readonly maker?: Readonly<Record<string, number | string>>;
}

/** An application. */
export interface Application {
  readonly name: ApplicationName;
  /** Folder of its manifest. */
  readonly folder: string;
  /** Name of its workflow. */
  readonly workflow: string;
  /** Names of its functions in the order of the steps. */
  readonly functions: readonly string[];
  makeInput(options: InputOptions): Promise<ApplicationInput>;
}

interface Shape {
  readonly workflow: string;
  readonly functions: readonly string[];
  /** Name of the file; its ending may depend on the seed. */
  fileName(seed: number): string;
}

const DOCUMENT_KINDS = ['docx', 'xlsx', 'pptx', 'pdf', 'html', 'csv'] as const;

const SHAPES: Readonly<Record<ApplicationName, Shape>> = {
  video: { workflow: 'video-transcoding', functions: ['video-split', 'video-transcode', 'video-merge'], fileName: (seed) => `video-${seed}.mp4` },
  log: { workflow: 'log-analysis', functions: ['log-split', 'log-analyze', 'log-merge'], fileName: (seed) => `access-${seed}.log` },
  document: { workflow: 'any2md', functions: ['any2md-validate', 'any2md-process'], fileName: (seed) => `document-${seed}.${DOCUMENT_KINDS[Math.abs(seed) % DOCUMENT_KINDS.length]}` },
  inference: { workflow: 'ml-inference', functions: ['ml-normalize', 'ml-process'], fileName: (seed) => `irises-${seed}.csv` },
};

interface MakerModule {
  makeInput(options: Readonly<Record<string, unknown>> & { readonly path: string; readonly bytes: number; readonly seed: number }): Promise<{ readonly bytes: number; readonly payload: unknown }>;
}
interface CheckModule {
  readonly checkOutput: CheckOutput;
}

/** What differs between the outcome of a run and what the maker knows about its input, one line each; nothing if the run was right. */
export type CheckOutput = (run: RunOutcome & { readonly truth: unknown }) => Promise<readonly string[]>;

/** An application of the folder `appsDir`. INVALID_REQUEST if there is none of that name. */
export async function loadApplication(name: string, appsDir: string): Promise<Application> {
  const known = APPLICATIONS.find((each) => each === name);
  const near = suggest(name, APPLICATIONS);
  if (known === undefined) throw new MetronomeError('INVALID_REQUEST', `Unknown application "${name}".${near === undefined ? '' : ` Did you mean "${near}"?`} Known applications: ${APPLICATIONS.join(', ')}.`);
  const { workflow, functions, fileName } = SHAPES[known];
  const folder = join(appsDir, known);
  const { makeInput } = (await import(pathToFileURL(join(folder, 'make-input.mjs')).href)) as MakerModule; // plain JavaScript; the tests of each application hold the contract
  const checkOutput = await loadCheck(known, appsDir);
  return {
    name: known, folder, workflow, functions,
    async makeInput({ seed, sizeBytes, dir, maker }) {
      const path = join(dir, fileName(seed));
      const truth = await makeInput({ ...maker, path, bytes: sizeBytes, seed });
      return { path, sizeBytes: truth.bytes, payload: truth.payload, verify: (outcome) => checkOutput({ ...outcome, truth }) };
    },
  };
}

/** The check of an application of the folder `appsDir`. */
export async function loadCheck(name: ApplicationName, appsDir: string): Promise<CheckOutput> {
  const { checkOutput } = (await import(pathToFileURL(join(appsDir, name, 'check-output.mjs')).href)) as CheckModule; // plain JavaScript, as above
  return checkOutput;
}
