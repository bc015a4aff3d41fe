/** What an agent is told at its start, and the log that it writes to. Defaults and bounds are the configuration schema's (section "agent"). */

import type { IsolationChoice, LimitsChoice } from './sandbox/open-isolation.ts';
import type { KeepAliveName } from './sandbox/keep-alive/registry.ts';
import type { MetricsSource } from './metrics/node-metrics.ts';

/** The part of a pino logger that the agent uses: fields first, then the event as `noun.verb`. */
export interface AgentLog {
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
}

/** Options of {@link import('./agent.ts').startAgent}. */
export interface AgentOptions {
  /** Name of the node, unique in the cluster. */
  readonly name: string;
  /** Address to listen on and to be reached at, for example "127.0.0.1". */
  readonly host: string;
  /** Port of the AgentService; 0: a free one. */
  readonly grpcPort: number;
  /** Port of the object store; 0: a free one. */
  readonly dataPort: number;
  /** host:port of the scheduler; undefined: the agent registers nowhere (tests, embedding). */
  readonly schedulerAddress: string | undefined;
  /** Invocations that run at the same time, 1 to 4096. */
  readonly slots: number;
  /** Memory that the limits of all sandboxes together may reach, MiB. */
  readonly memoryMb: number;
  /** Folder of bundles, sandboxes and objects; made if it is not there. One agent per folder (STATE_LOCKED). */
  readonly dataDir: string;
  /** How long an idle sandbox is kept when its function does not say, ms. Usually 60 000. */
  readonly keepAliveMs: number;
  /** How long idle sandboxes are kept, and which of them goes first when memory is needed. @default 'ttl' */
  readonly keepAlivePolicy?: KeepAliveName;
  /** Whether zygotes are kept. @default true */
  readonly zygotes?: boolean;
  /** Share of memoryMb that they may take, 0 to 1. @default 0.25 */
  readonly zygoteMemory?: number;
  /** How many of one package set are kept ready where each serves once, 1 to 64. @default 1 */
  readonly zygoteStock?: number;
  /** How often state is pushed to a reader that names no interval, ms. Usually 50. */
  readonly pushIntervalMs: number;
  /** Disk space for objects, bytes; the least recently used are dropped first. */
  readonly objectQuotaBytes: number;
  /** An object that was not used for so long goes, ms. @default 0: it stays until the quota needs its room */
  readonly objectTtlMs?: number;
  /** The data plane imitates a link of so many bytes per second in each direction. @default 0: it does not */
  readonly linkBytesPerS?: number;
  /** The data plane adds so much to every exchange with another node, ms. @default 0 */
  readonly linkLatencyMs?: number;
  /** Disk space for packages and layers, bytes; the least recently used are dropped first. @default 8 GiB */
  readonly packageQuotaBytes?: number;
  /** Registry of npm packages. Default: the one that npm is configured for. */
  readonly npmRegistry?: string;
  /** Largest result of a function, bytes. */
  readonly maxResultBytes: number;
  /** What is kept of stdout and of stderr of one run, bytes, at most 64 KiB; the middle is cut out. */
  readonly logBytes: number;
  /** Which sandboxes functions get that ask for none, and which they may ask for. @default 'process' */
  readonly isolation?: IsolationChoice;
  /** Whose memory and CPU the kernel limits. @default 'isolated' */
  readonly limits?: LimitsChoice;
  /** Python interpreter. Default: what `python3` on the PATH says it is. */
  readonly pythonPath?: string;
  /** What people should know about this node, shown with it. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Where node metrics come from. Default: "auto", the control group if it has a CPU quota. */
  readonly metricsSource?: MetricsSource;
  /** Rate of the node's link in each direction, bytes per second. @default 0: what its interfaces say */
  readonly linkRateBytesPerS?: number;
  readonly log: AgentLog;
  /** Brings the bundle of a digest. Default: FunctionService.GetBundle of the scheduler. */
  readonly fetchBundle?: (digest: string) => Promise<Uint8Array>;
}
