/**
 * One process of the embedded cluster: started, watched, started again with a growing pause when it dies, and ended in order.
 * It runs in a process group of its own, so that a Ctrl-C in the terminal reaches only its supervisor, which then decides on the order.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { MetronomeError, isErrorCode } from '../../core/errors.ts';
import { MAIN_FILE } from '../project.ts';
import { logTail } from './log-file.ts';

/** What a process said when it listened. */
export type Listening = Readonly<Record<string, unknown>>;

/** What happens to a process; for people. */
export type ProcessEvent =
  | { readonly kind: 'died'; readonly name: string; readonly how: string; readonly restartInMs: number }
  | { readonly kind: 'restarted'; readonly name: string; readonly afterMs: number };

/** What to run. */
export interface SupervisedOptions {
  readonly name: string;
  /** Arguments of the command line; `before` is what it said when it last listened. */
  readonly args: (before: Listening | undefined) => readonly string[];
  /** Command that the process's own follows, for example to enter a namespace; it must become the process (exec). @default none */
  readonly launcher?: readonly string[];
  /** File that its log is appended to. */
  readonly logFile: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onEvent: (event: ProcessEvent) => void;
  /** Told after every start, when it listens. */
  readonly onListening?: (listening: Listening) => void;
}

/** A process under supervision. */
export interface SupervisedProcess {
  readonly name: string;
  /** Process id; undefined while there is none. */
  readonly pid: number | undefined;
  /** Starts it; rejects with its own error if it ends before it listens. Later ends are answered with restarts. */
  start(): Promise<Listening>;
  /** SIGTERM, and after `graceMs` SIGKILL. Resolves when it is gone. */
  stop(graceMs: number): Promise<void>;
  /** SIGKILL to it and its group, now. */
  kill(): void;
  /** Resolves when it died so often, so quickly, that it is given up. */
  readonly failed: Promise<MetronomeError>;
}

/** Who dies sooner than this after it listened died quickly. */
export const QUICK_DEATH_MS = 10_000;
/** So many quick deaths in a row and it is given up. */
export const MAX_QUICK_DEATHS = 5;
const FIRST_PAUSE_MS = 200;
const MAX_PAUSE_MS = 5_000;
const START_TIMEOUT_MS = 60_000;
const TAIL_LINES = 15;

/** Prepares a process; {@link SupervisedProcess.start} starts it. */
export function superviseProcess(options: SupervisedOptions): SupervisedProcess {
  const { name } = options;
  let child: ChildProcess | undefined;
  let exited: Promise<unknown> = Promise.resolve();
  let listening: Listening | undefined;
  let stopping = false;
  let quickDeaths = 0;
  let pause: NodeJS.Timeout | undefined;
  const { promise: failed, resolve: fail } = Promise.withResolvers<MetronomeError>();

  const launch = (): Promise<Listening> => {
    const log = openSync(options.logFile, 'a', 0o600);
    const command = [...(options.launcher ?? []), process.execPath, '--disable-warning=ExperimentalWarning', MAIN_FILE, ...options.args(listening)];
    const started = spawn(command[0] ?? process.execPath, command.slice(1), {
      cwd: options.cwd,
      env: { ...options.env },
      detached: true,
      stdio: ['ignore', 'pipe', log, 'ipc'],
    });
    closeSync(log);
    child = started;
    const { promise: ready, resolve: nowReady, reject: notReady } = Promise.withResolvers<Listening>();
    let ownError: MetronomeError | undefined;
    let readyAt: number | undefined;
    const timer = setTimeout(() => {
      ownError = new MetronomeError('UNAVAILABLE', `${name} did not listen within ${START_TIMEOUT_MS / 1_000} s.`);
      killGroup(started);
    }, START_TIMEOUT_MS);

    // stdout is a pipe, as asked for above.
    if (started.stdout !== null) {
      createInterface({ input: started.stdout }).on('line', (line) => {
        const message = parseMessage(line);
        if (message?.event === 'listening') {
          readyAt = performance.now();
          listening = message;
          clearTimeout(timer);
          options.onListening?.(message);
          nowReady(message);
        } else if (message?.event === 'failed') {
          const code = String(message['code']);
          ownError = new MetronomeError(isErrorCode(code) ? code : 'INTERNAL', String(message['message']));
        }
      });
    }
    exited = new Promise<void>((gone) => {
      const onEnd = (how: string): void => {
        clearTimeout(timer);
        child = undefined;
        gone();
        if (readyAt === undefined) return void explain(ownError, how).then(notReady);
        if (stopping) return;
        quickDeaths = performance.now() - readyAt < QUICK_DEATH_MS ? quickDeaths + 1 : 1;
        died(ownError, how);
      };
      started.once('error', (error) => onEnd(`it could not be started: ${error.message}`));
      // 'close' comes after the last line of stdout, 'exit' may come before it.
      started.once('close', (code, signal) => onEnd(signal === null ? `it ended with exit code ${code}` : `it was killed by ${signal}`));
    });
    return ready;
  };

  const died = (ownError: MetronomeError | undefined, how: string): void => {
    if (quickDeaths >= MAX_QUICK_DEATHS) return void explain(ownError, `${how}, the ${quickDeaths}th time within seconds`).then(fail);
    const pauseMs = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (quickDeaths - 1));
    const diedAt = performance.now();
    options.onEvent({ kind: 'died', name, how, restartInMs: pauseMs });
    pause = setTimeout(() => {
      if (stopping) return;
      launch().then(
        () => options.onEvent({ kind: 'restarted', name, afterMs: performance.now() - diedAt }),
        (error: unknown) => {
          if (stopping) return;
          quickDeaths++;
          const known = MetronomeError.from(error);
          died(known, known.message);
        },
      );
    }, pauseMs);
  };

  const explain = async (error: MetronomeError | undefined, how: string): Promise<MetronomeError> => {
    // Its own error says it better than its log.
    if (error !== undefined) return error;
    const tail = await logTail(options.logFile, TAIL_LINES);
    return new MetronomeError('INTERNAL', `${name} cannot run: ${how}.${tail.length === 0 ? '' : ` The end of ${options.logFile}:\n  ${tail.join('\n  ')}`}`);
  };

  return {
    name,
    get pid() {
      return child?.pid;
    },
    failed,
    start: launch,
    async stop(graceMs) {
      stopping = true;
      clearTimeout(pause);
      const running = child;
      if (running === undefined) return;
      running.kill('SIGTERM');
      const timer = setTimeout(() => killGroup(running), graceMs);
      await exited;
      clearTimeout(timer);
    },
    kill() {
      stopping = true;
      clearTimeout(pause);
      if (child !== undefined) killGroup(child);
    },
  };
}

/** The process and everything in its group. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group is gone already; then so is the process.
    child.kill('SIGKILL');
  }
}

function parseMessage(line: string): (Listening & { readonly event: string }) | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && 'event' in value && typeof value.event === 'string' ? { ...value, event: value.event } : undefined;
  } catch {
    // Something that a library printed; the messages are JSON lines.
    return undefined;
  }
}
