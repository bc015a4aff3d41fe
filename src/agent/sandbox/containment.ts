/**
 * What tells the kinds of sandbox apart: how a runtime's process is started, what it can see, how all of it is ended, and what is
 * cleaned up. Everything else about a sandbox is the same for all of them (live-sandbox.ts, contained-driver.ts).
 */
import type { ChildProcess, StdioOptions } from 'node:child_process';
import type { PackageLayer } from '../program.ts';
import type { Isolation, ZygoteTraits } from './sandbox-driver.ts';

/** Where the files of a sandbox or zygote are; absolute paths, the same inside and outside unless it says otherwise. */
export interface Places {
  /** Its own directory; all that is outside of it is of no interest to others. */
  readonly dir: string;
  /** For inputs; read-only inside where that can be enforced. */
  readonly inputsDir: string;
  /** For outputs; the process may make folders in it. */
  readonly outputsDir: string;
  /** HOME and working directory, as the process sees it. */
  readonly homeDir: string;
  /** For temporary files, as the process sees it. */
  readonly tmpDir: string;
}

/** A process to start. */
export interface LaunchPlan {
  readonly places: Places;
  /** Absolute path of node or python3. */
  readonly interpreter: string;
  /** What follows the interpreter. */
  readonly args: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** What file descriptor 3 is: a socket for frames, or Node's channel for messages and handles. */
  readonly channel: 'frames' | 'handles';
  /** Packages to be seen. */
  readonly layer: PackageLayer | undefined;
  /** Memory limit, MiB, where it can be enforced. */
  readonly memoryMb: number;
  /** Cores, where that can be enforced; 0: no limit. */
  readonly cpu: number;
  readonly network: boolean;
}

/** How a process ended. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One kind of isolation. */
export interface Containment {
  readonly isolation: Isolation;
  /** False: a process is started with what runtimes read at their start only; the rest of its environment comes through the channel. */
  readonly passesEnvironment: boolean;
  /** True: the kernel gives a sandbox no more memory and CPU than its function asks for. */
  readonly isLimited: boolean;
  /** What zygotes of a runtime are like under it. */
  zygoteTraits(runtime: 'node' | 'python3'): ZygoteTraits;
  /** The places of a new sandbox or zygote; `parent`: of the fork server that it comes of. */
  places(root: string, id: string, parent: Places | undefined): Places;
  /** Makes them. `use`: for a process by itself, for a fork server, or for a child of the fork server with these places. */
  prepare(places: Places, use: 'single' | 'server' | Places): void;
  /** Starts a process that leads a session of its own. Throws, or leaves `pid` undefined, when it cannot. */
  launch(plan: LaunchPlan): ChildProcess;
  /** Brings the code to where the process can see it; returns the path there. */
  stageCode(places: Places, bundleDir: string): string | Promise<string>;
  /** Sets the limits of a process that was a zygote until now. */
  limit(places: Places, pid: number, limits: { readonly memoryMb: number; readonly cpu: number }): Promise<void> | undefined;
  /** What the end of the started process says about the end of the runtime in it. */
  endOf(end: ProcessEnd): ProcessEnd;
  /** The pid, outside, of a process that a fork server started by `launch` knows as `pid`. Undefined if there is none. */
  outerPid(serverPid: number, pid: number): number | undefined;
  /** The process whose memory, with that of its children, counts. */
  memoryPid(pid: number, places: Places): number;
  /** Ends a started process (or a child of a fork server) with everything that it started. */
  kill(pid: number, places: Places): void;
  /** After its end: ends what is left. `isThorough` also finds what has left its session. */
  killRemains(pid: number, places: Places, isThorough: boolean): void;
  /** True if the kernel ended a process of it for its memory. */
  ranOutOfMemory(places: Places): boolean;
  /** Removes its files and whatever else was made for it. */
  remove(places: Places): Promise<void>;
  /** Ends what a former agent left under it, besides processes with a record or marker. */
  sweep(): Promise<void>;
  /** Nothing runs under it any more. */
  close(): Promise<void>;
}

/** Standard streams of a process: nothing to read, two outputs, and file descriptor 3. */
export function stdioOf(channel: LaunchPlan['channel']): Extract<StdioOptions, readonly unknown[]> {
  return ['ignore', 'pipe', 'pipe', channel === 'frames' ? 'pipe' : 'ipc'];
}
