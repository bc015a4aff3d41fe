/**
 * Runs a daemon in the foreground: its log as ndjson on stderr, one JSON line on stdout when it listens, and an orderly end
 * by SIGTERM or Ctrl-C, by the end of its parent, or because it cannot go on.
 */
import { pino, type Logger } from 'pino';
import { MetronomeError } from '../core/errors.ts';
import { onParentGone } from './cluster/parent-watch.ts';
import type { CliContext } from './context.ts';
import { exitCodeOf } from './output/error-report.ts';

/** A daemon that listens. */
export interface Service {
  /** What supervisors want to know: addresses and names. */
  readonly listening: Readonly<Record<string, unknown>>;
  /** Ends it in order; `urgent`: nobody waits for what it still does. */
  stop(urgent: boolean): Promise<void>;
  /** Resolves when it cannot go on. */
  readonly failed?: Promise<MetronomeError>;
}

/** How to run it. */
export interface RunServiceOptions {
  readonly role: 'scheduler' | 'agent';
  readonly logLevel: string;
  /** Ends when the parent process is gone, also without an IPC channel. */
  readonly exitWithParent: boolean;
  readonly start: (log: Logger) => Promise<Service>;
}

/** A terminal and npm both pass a Ctrl-C on; what comes so soon after the first is the same one. */
const SAME_SIGNAL_MS = 500;
/** Without its parent nobody waits for a drain. */
const ORPHAN_GRACE_MS = 2_000;

/** Runs the service to its end and returns the exit code. */
export async function runService(context: CliContext, options: RunServiceOptions): Promise<number> {
  const log = pino({ level: options.logLevel, base: { role: options.role, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ fd: 2, sync: true }));
  const isSupervised = options.exitWithParent || process.connected;
  const say = (message: Readonly<Record<string, unknown>>): void => context.io.out(`${JSON.stringify({ ...message, role: options.role, pid: process.pid })}\n`);

  const { promise: asked, resolve: ask } = Promise.withResolvers<'signal' | 'orphan'>();
  let firstAt = 0;
  context.takeSignals((signal) => {
    if (firstAt === 0) {
      firstAt = performance.now();
      log.info({ signal }, 'process.stopping');
      ask('signal');
    } else if (performance.now() - firstAt > SAME_SIGNAL_MS) {
      log.warn({ signal }, 'process.killed');
      process.exit(130);
    }
  });
  onParentGone(options.exitWithParent, () => {
    log.warn({}, 'process.orphaned');
    setTimeout(() => process.exit(1), ORPHAN_GRACE_MS).unref();
    ask('orphan');
  });

  let service: Service;
  try {
    service = await options.start(log);
  } catch (thrown) {
    const error = MetronomeError.from(thrown);
    if (isSupervised) say({ event: 'failed', code: error.code, message: error.message });
    throw error;
  }
  say({ event: 'listening', ...service.listening });
  const ended = await Promise.race([asked, ...(service.failed === undefined ? [] : [service.failed])]);
  if (!(ended instanceof MetronomeError)) {
    await service.stop(ended === 'orphan');
    return 0;
  }
  log.fatal({ code: ended.code, message: ended.message }, 'process.failed');
  if (isSupervised) say({ event: 'failed', code: ended.code, message: ended.message });
  // It cannot go on, so its end may hang as well.
  await Promise.race([service.stop(true).catch((error: unknown) => log.error({ err: error }, 'process.stop.failed')), new Promise((resolve) => setTimeout(resolve, ORPHAN_GRACE_MS))]);
  return exitCodeOf(ended) || 1;
}
