/**
 * One way to serve gRPC for all who do (gateway, agents): bound to one address, with health, reflection, sane limits
 * and an end that lets calls finish. Says NOT_SERVING until told otherwise and from the beginning of a drain.
 */
import { Server, ServerCredentials, logVerbosity, setLogVerbosity, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { MetronomeError } from '../core/errors.ts';
import { MAX_MESSAGE_BYTES } from './limits.ts';

/** A service with its implementation; made by {@link rpcService}. */
export interface RpcService {
  /** Full name, for example "metronome.v1.InvokeService". */
  readonly name: string;
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

/** What a server needs. */
export interface RpcServerOptions {
  /** Address to listen on, for example "127.0.0.1". */
  readonly host: string;
  /** Port; 0: one that is free. */
  readonly port: number;
  readonly services: readonly RpcService[];
  /** Whether clients may ask for the descriptors. @default true */
  readonly reflection?: boolean;
  /** Largest message in either direction. @default MAX_MESSAGE_BYTES */
  readonly maxMessageBytes?: number;
  /** Streams that one connection may have open. @default 4096 */
  readonly maxStreamsPerConnection?: number;
}

/** A server that listens. */
export interface RpcServer {
  readonly host: string;
  /** The port it really listens on. */
  readonly port: number;
  /** Health of '' and of every service. False at first. */
  setServing(serving: boolean): void;
  /**
   * Takes no new calls, lets running ones end for at most `graceMs`, then breaks them. Resolves when all is closed;
   * calling it again returns the same promise. Health turns to NOT_SERVING first.
   */
  stop(graceMs: number): Promise<void>;
}

/** Pairs a generated service definition with its implementation (typed by the generated `…Server` interface). */
export function rpcService(definition: ServiceDefinition, implementation: UntypedServiceImplementation): RpcService {
  const method = Object.values(definition)[0];
  if (method === undefined) throw new MetronomeError('INTERNAL', 'A service without methods cannot be served.');
  return { name: method.path.slice(1, method.path.lastIndexOf('/')), definition, implementation };
}

/**
 * Starts a server. Fails with PORT_IN_USE when another program listens on host:port, with CONFIG_INVALID when the
 * address cannot be listened on at all.
 */
export async function createRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  const maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
  // What goes wrong is returned or sent as a status; grpc-js would print it as well. GRPC_VERBOSITY brings that back.
  if (process.env['GRPC_VERBOSITY'] === undefined) setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.max_concurrent_streams': options.maxStreamsPerConnection ?? 4096,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    // channelz stays on: without it grpc-js 1.14 does not record its sessions, and forceShutdown breaks nothing.
  });
  const names = options.services.map((service) => service.name);
  for (const service of options.services) server.addService(service.definition, service.implementation);
  // Loaded on demand, like reflection: each brings a protobuf library of its own, and commands import this file for its helpers.
  const { HealthImplementation } = await import('grpc-health-check');
  const health = new HealthImplementation(Object.fromEntries(['', ...names].map((name) => [name, 'NOT_SERVING' as const])));
  health.addToServer(server);
  if (options.reflection ?? true) await addReflection(server, names);

  const port = await bind(server, options.host, options.port);
  let stopping: Promise<void> | undefined;
  const setServing = (serving: boolean): void => {
    for (const name of ['', ...names]) health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING');
  };
  return {
    host: options.host,
    port,
    setServing(serving) {
      if (stopping === undefined) setServing(serving);
    },
    stop(graceMs) {
      setServing(false);
      stopping ??= shutDown(server, graceMs);
      return stopping;
    },
  };
}

/** host:port with brackets round IPv6 addresses. */
export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** What listening on host:port failed with, as an error of the table; also used for HTTP. */
export function listenError(host: string, port: number, cause: unknown): MetronomeError {
  const text = cause instanceof Error ? cause.message : String(cause);
  const address = formatAddress(host, port);
  if (text.includes('EADDRINUSE')) {
    return new MetronomeError('PORT_IN_USE', `Cannot listen on ${address}: another program does. Choose another port or stop that program.`, { cause });
  }
  return new MetronomeError('CONFIG_INVALID', `Cannot listen on ${address}: ${text}`, { cause });
}

async function addReflection(server: Server, services: readonly string[]): Promise<void> {
  const [{ ReflectionService }, { FILE_DESCRIPTORS }] = await Promise.all([import('@grpc/reflection'), import('./gen/descriptors.ts')]);
  const files = FILE_DESCRIPTORS.map((file) => Buffer.from(file, 'base64'));
  // The service reads nothing but fileDescriptorProtos; of the three kinds of entry this one needs no codec.
  const entry = { format: 'Protocol Buffer 3 EnumDescriptorProto', type: {}, fileDescriptorProtos: files } as const;
  new ReflectionService({ metronome: entry }, { services: [...services] }).addToServer(server);
}

function bind(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(formatAddress(host, port), ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(listenError(host, port, error));
      else resolve(bound);
    });
  });
}

function shutDown(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.forceShutdown(), Math.max(0, graceMs));
    // tryShutdown also calls back when forceShutdown has broken the remaining sessions.
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
