/**
 * What the agent knows of a sandbox, however it is made: a process that has loaded one version of one function and runs
 * one invocation at a time. Kinds: process-containment.ts and others beside it; what is the same for all stands in live-sandbox.ts.
 */
import { MetronomeError, type FunctionFailure } from '../../core/errors.ts';
import type { PackageLayer } from '../program.ts';

/** How far a sandbox is kept from the rest of its node. */
export type Isolation = 'process' | 'bubblewrap';

/** The isolation of this name, '' for the node's default. Throws SANDBOX_FAILED for one that this agent does not know. */
export function isolationNamed(name: string): Isolation | '' {
  if (name === '' || name === 'process' || name === 'bubblewrap') return name;
  throw new MetronomeError('SANDBOX_FAILED', `This agent knows no isolation "${name}", only process and bubblewrap.`, { component: 'agent' });
}

/** What a sandbox is made from. */
export interface SandboxSpec {
  readonly functionName: string;
  readonly runtime: 'node' | 'python3';
  /** Empty: the node's default. */
  readonly isolation: Isolation | '';
  /** Folder with the unpacked bundle; shared, never written to by the agent. */
  readonly bundleDir: string;
  /** Module and export, "handler.mjs#run"; the export is "handler" by default. */
  readonly handler: string;
  /** Packages of the function; undefined: it has none. */
  readonly layer: PackageLayer | undefined;
  /** Memory limit, MiB. */
  readonly memoryMb: number;
  /** CPU share in cores; enforced where the driver says so (`limited`). */
  readonly cpu: number;
  /** Whether it may use the network; enforced only by drivers that can. */
  readonly network: boolean;
  /** Environment of the function. */
  readonly env: Readonly<Record<string, string>>;
  /** Largest returned payload, bytes. */
  readonly maxResultBytes: number;
  /** Kept of each output stream, bytes. */
  readonly logBytes: number;
}

/** An input as the function sees it: a read-only local file. */
export interface SandboxInput {
  readonly id: string;
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
}

/** One run. */
export interface SandboxRun {
  readonly invocationId: string;
  readonly attempt: number;
  /** When the run is given up, ms since 1970-01-01 UTC. */
  readonly deadlineUnixMs: number;
  readonly traceparent: string;
  readonly payload: Uint8Array;
  readonly contentType: string;
  readonly inputs: readonly SandboxInput[];
  /** Absolute path of a directory that does not exist yet; the sandbox makes it when the function asks for an output. */
  readonly outputDir: string;
}

/** How the handler ended. After either kind the sandbox can run again. */
export type SandboxOutcome =
  | {
      readonly kind: 'returned';
      readonly payload: Buffer;
      readonly contentType: string;
      /** Whether `outputDir` was made. */
      readonly hasOutputs: boolean;
      /** Inside the handler, ms. */
      readonly ranMs: number;
    }
  | { readonly kind: 'threw'; readonly error: FunctionFailure; readonly ranMs: number };

/** What a run wrote, bounded. */
export interface SandboxLogs {
  readonly stdout: string;
  readonly stderr: string;
  readonly truncatedBytes: number;
}

/** A sandbox. It begins to start when it is created. */
export interface Sandbox {
  readonly id: string;
  /** Its own folder, which the function has no part in where that can be enforced. */
  readonly dir: string;
  /** Folder for its inputs, on the file system of the object store; may not be there yet. Inside it has the same path. */
  readonly inputsDir: string;
  /** Folder for the directories of its outputs, likewise; where the function has another user, it is there and writable for that user. */
  readonly outputsDir: string;
  /** Resolves when the handler is loaded; rejects with FUNCTION_LOAD_FAILED, MEMORY_EXCEEDED, SANDBOX_FAILED or the reason of `kill`. */
  readonly ready: Promise<void>;
  /** Resolves when nothing of it runs any more. Never rejects. */
  readonly gone: Promise<void>;
  /** False from the moment at which it is killed or found dead. */
  readonly isAlive: boolean;
  /** From `create` or `specialise` until the runtime took up the function, ms; 0 before `ready`. */
  readonly startMs: number;
  /** How long the import of the handler took, ms; 0 before `ready`. */
  readonly loadMs: number;
  /**
   * Runs the handler once; only when ready, one at a time. Rejects with FUNCTION_CRASHED, RESULT_TOO_LARGE, MEMORY_EXCEEDED,
   * SANDBOX_FAILED or the reason of `kill`; the sandbox is dead then, except after RESULT_TOO_LARGE.
   */
  run(run: SandboxRun): Promise<SandboxOutcome>;
  /** What was written since the last call; undefined if nothing was. */
  takeLogs(): SandboxLogs | undefined;
  /** Ends it with all its children at once; what is pending rejects with `reason`. Resolves like `gone`. */
  kill(reason: MetronomeError): Promise<void>;
  /** Resident memory at the last look, bytes. */
  readonly rssBytes: number;
}

/** What a zygote is made from: a runtime that has loaded the direct packages of a layer, and no function yet. */
export interface ZygoteSpec {
  readonly runtime: 'node' | 'python3';
  /** Empty: the node's default. */
  readonly isolation: Isolation | '';
  /**
   * Undefined: the bare runtime, the root of all zygotes. The layer stays in its place until the zygote and all sandboxes that came
   * of it are gone: they go on reading from it.
   */
  readonly layer: PackageLayer | undefined;
  /** The largest memory limit of a function that may come of it, MiB. (The heap limit of a Node process is fixed at its start.) */
  readonly memoryMb: number;
  /** Only for functions that may, or may not, use the network; where that is enforced. */
  readonly network: boolean;
  /** Only sandboxes of this function may come from it; needed where `ZygoteTraits.isPerFunction`. */
  readonly functionName: string | undefined;
}

/** What zygotes of one runtime are like, before one is made. */
export interface ZygoteTraits {
  /** True when specialising uses it up (a Node process becomes the sandbox); false when it forks. */
  readonly isConsumed: boolean;
  /** Its sandboxes share its view of the file system: each serves one function only. */
  readonly isPerFunction: boolean;
  /** It serves functions with exactly its layer; otherwise also those that share some packages with it. */
  readonly needsSameLayer: boolean;
}

/**
 * A process that is ready to become, or to fork, sandboxes of any function whose packages it covers (in whole or in part; what is
 * missing is imported when the function is loaded).
 */
export interface Zygote {
  readonly id: string;
  readonly spec: ZygoteSpec;
  readonly traits: ZygoteTraits;
  /** Resolves when all imports are done; rejects like Sandbox.ready. */
  readonly ready: Promise<void>;
  readonly gone: Promise<void>;
  /** False from the moment at which it is killed, found dead, or consumed. */
  readonly isAlive: boolean;
  /** Resident memory at the last look, bytes; after it was consumed 0. */
  readonly rssBytes: number;
  /** How long each direct package took to import, ms, by package id; empty before `ready`. A package that could not be imported is not in it. */
  readonly importMs: ReadonlyMap<string, number>;
  /**
   * Whether `specialise` may be called with this: false for another runtime, isolation, or a layer that it cannot serve, for more
   * memory than its spec names, and for an environment that a runtime reads only when it starts (NODE_OPTIONS, LD_PRELOAD, …).
   */
  canServe(spec: SandboxSpec): boolean;
  /** Makes a sandbox of it; only when ready, when it `canServe`, and once if it is consumed. Failures come through the sandbox's `ready`. */
  specialise(spec: SandboxSpec): Sandbox;
  /**
   * Ends it, not the sandboxes that came of it. Resolves like `gone`; one that forks stays, and does nothing more, until the last of its
   * children has ended.
   */
  kill(reason: MetronomeError): Promise<void>;
}

/** Makes sandboxes. */
export interface SandboxDriver {
  /** Kinds of isolation that it gives, its default first. */
  readonly isolations: readonly Isolation[];
  /** Those of them under which the kernel gives a sandbox no more memory and CPU than its function asks for. */
  readonly limited: readonly Isolation[];
  /** Makes a sandbox; failures come through `ready`. */
  create(spec: SandboxSpec): Sandbox;
  /** What its zygotes for a runtime are like; undefined when it has none. */
  zygoteTraits(runtime: 'node' | 'python3', isolation: Isolation | ''): ZygoteTraits | undefined;
  /** Makes a zygote; undefined when it has none for that runtime. */
  createZygote(spec: ZygoteSpec): Zygote | undefined;
  /** Ends what a former agent with the same directory left running and removes its files. Called once, before any `create`. */
  sweep(): Promise<void>;
  /** Kills all sandboxes and zygotes and waits for their end. */
  close(): Promise<void>;
}
