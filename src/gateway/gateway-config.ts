/** What a gateway needs to know. Plain data: it travels to a thread as workerData or to a process as an environment variable. */

/** Configuration of the front doors. Filled from the one schema by the daemon; see DEFAULT_GATEWAY_CONFIG for the rest. */
export interface GatewayConfig {
  /** Address of both doors. */
  readonly host: string;
  /** gRPC port; 0: one that is free. */
  readonly grpcPort: number;
  /** HTTP port; 0: one that is free. */
  readonly httpPort: number;
  /** Largest payload of one request, bytes. */
  readonly maxPayloadBytes: number;
  /** Input objects of one request. */
  readonly maxInputs: number;
  /** Requests admitted and not ended, all doors together; further ones get QUEUE_FULL. */
  readonly maxInFlight: number;
  /** Of these, on one InvokeStream. */
  readonly maxStreamInFlight: number;
  /** Control calls that wait for an answer, and watchers; further ones get QUEUE_FULL. */
  readonly maxCalls: number;
  /** The hint sent with QUEUE_FULL, ms. */
  readonly retryAfterMs: number;
  /** Whether gRPC reflection is offered. */
  readonly reflection: boolean;
  /** Version of the program, for /healthz. */
  readonly version: string;
  /** Readers of the inspector's stream at once. */
  readonly inspectClients: number;
  /** Host names under which the page, and a door on loopback, may be asked for, beside addresses, localhost and `host`. */
  readonly inspectHosts: readonly string[];
  /** Origins of web pages that may use the HTTP door from a browser. */
  readonly origins: readonly string[];
  /** The recordings that the page may play: their folder (recording.dir; '': none), and the name of the one that is being written ('': none). */
  readonly recordings: { readonly dir: string; readonly running: string };
  /** Level of the gateway's own log: fatal, error, warn, info, debug, trace or silent. */
  readonly logLevel: string;
}

/** The defaults; ports 0 so that nothing collides by accident. */
export const DEFAULT_GATEWAY_CONFIG: GatewayConfig = Object.freeze({
  host: '127.0.0.1',
  grpcPort: 0,
  httpPort: 0,
  maxPayloadBytes: 1024 * 1024,
  maxInputs: 1024,
  maxInFlight: 20_000,
  maxStreamInFlight: 10_000,
  maxCalls: 4_096,
  retryAfterMs: 100,
  reflection: true,
  version: '0.0.0',
  inspectClients: 16,
  inspectHosts: [],
  origins: [],
  recordings: Object.freeze({ dir: '', running: '' }),
  logLevel: 'info',
});

/** The part of a pino logger that the gateway uses. */
export interface GatewayLog {
  debug(fields: object, event: string): void;
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
}

/** A log that keeps nothing. */
export const SILENT_LOG: GatewayLog = Object.freeze({ debug() {}, info() {}, warn() {}, error() {} });
