/**
 * The front doors together: gRPC and HTTP over one line to the scheduler's loop. Does not know whether it lives in a
 * thread, a process or the loop's own process.
 */
import { createSystemClock } from '../core/clock.ts';
import { MetronomeError } from '../core/errors.ts';
import { createRpcServer } from '../rpc/server.ts';
import { SILENT_LOG, type GatewayConfig, type GatewayLog } from './gateway-config.ts';
import { createGatewayMetrics } from './gateway-metrics.ts';
import { createGrpcServices } from './grpc-services.ts';
import { openHttpDoor } from './http-door.ts';
import { createInspectHub } from './inspect-hub.ts';
import { createLoopClient } from './loop-client.ts';
import type { GatewayMessage, Line, LoopMessage } from './protocol.ts';

/** What a gateway is made of. */
export interface GatewayOptions {
  /** To the loop. If it can say so (ClosableLine), its end stops the gateway at once. */
  readonly line: Line<LoopMessage, GatewayMessage> & { onClose?(listener: () => void): void };
  readonly config: GatewayConfig;
  readonly log?: GatewayLog;
}

/** A gateway that listens. */
export interface Gateway {
  readonly grpcPort: number;
  readonly httpPort: number;
  /**
   * Refuses new work (DRAINING), waits at most `graceMs` for what is in flight, closes both doors. What has not ended
   * by then is answered with INTERRUPTED. Calling it again returns the same promise.
   */
  stop(graceMs: number): Promise<void>;
  /** Resolves when it has stopped, for whatever reason. */
  readonly stopped: Promise<void>;
}

/** What is left for answers on their way out once all work has ended, ms. */
const CLOSE_GRACE_MS = 1_000;

/**
 * Opens both doors and tells the loop (`listening`). When that fails, tells the loop (`fatal`) and rejects with the same
 * error: PORT_IN_USE or CONFIG_INVALID.
 */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { line, config, log = SILENT_LOG } = options;
  const clock = createSystemClock();
  const metrics = createGatewayMetrics();
  let serving = false;
  let stopping: Promise<void> | undefined;
  let open: { setServing(serving: boolean): void; close(graceMs: number): Promise<void> } | undefined;
  let resolveStopped: () => void = () => {};
  const stopped = new Promise<void>((resolve) => (resolveStopped = resolve));

  const loop = createLoopClient(line, {
    maxInFlight: config.maxInFlight,
    maxCalls: config.maxCalls,
    retryAfterMs: config.retryAfterMs,
    onEnded: metrics.invocations.ended,
    onInspected: (message) => hub.tell(message),
    onServing(now) {
      serving = now && stopping === undefined;
      open?.setServing(serving);
    },
    onStop: (graceMs) => void stop(graceMs),
  });

  const hub = createInspectHub({ maxReaders: config.inspectClients, inspect: loop.inspect });
  loop.onEnd(hub.end);

  const stop = (graceMs: number): Promise<void> => {
    stopping ??= (async () => {
      log.info({ graceMs, inFlight: loop.inFlight }, 'gateway.draining');
      serving = false;
      open?.setServing(false);
      loop.drain();
      hub.end(); // streams have no end of their own to wait for
      await within(loop.idle(), graceMs);
      if (loop.inFlight > 0) log.warn({ inFlight: loop.inFlight }, 'gateway.interrupted');
      // Answers what is left, so that the doors have nothing to wait for but bytes on their way out.
      loop.end();
      await open?.close(CLOSE_GRACE_MS);
      metrics.stop();
      log.info({}, 'gateway.stopped');
      resolveStopped();
    })();
    return stopping;
  };

  try {
    const rpc = await createRpcServer({
      host: config.host,
      port: config.grpcPort,
      reflection: config.reflection,
      services: createGrpcServices({ loop, hub, config, nowMs: clock.nowMs, observe: metrics.grpcHandled }),
    });
    const http = await openHttpDoor({ loop, hub, config, metrics, log, nowMs: clock.nowMs, isServing: () => serving }).catch(async (error: unknown) => {
      await rpc.stop(0);
      throw error;
    });
    open = {
      setServing: rpc.setServing,
      close: async (graceMs) => void (await Promise.all([rpc.stop(graceMs), http.stop(graceMs)])),
    };
    rpc.setServing(serving);
    // A stop that came while the ports were being opened found nothing to close.
    if (stopping !== undefined) await open.close(0);
    // Without its loop a gateway is of no use to anybody: say so to the clients and end.
    line.onClose?.(() => void stop(0));
    line.post({ kind: 'listening', grpcPort: rpc.port, httpPort: http.port });
    log.info({ host: config.host, grpcPort: rpc.port, httpPort: http.port }, 'gateway.listening');
    return { grpcPort: rpc.port, httpPort: http.port, stop, stopped };
  } catch (thrown) {
    const error = MetronomeError.from(thrown);
    log.error({ code: error.code, message: error.message }, 'gateway.failed');
    line.post({ kind: 'fatal', error: error.toRecord() });
    loop.end();
    metrics.stop();
    throw error;
  }
}

/** Waits for a promise, but not longer than `ms`. */
function within(promise: Promise<void>, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    void promise.then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
