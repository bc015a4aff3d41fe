/** What every command is given, and what it makes of the global options: a session with the scheduler. */
import type { Command } from 'commander';
import { MetronomeError } from '../core/errors.ts';
import { loadConfig, type LoadedConfig } from '../config/load.ts';
import { formatAddress } from '../rpc/server.ts';
import { createClient, type SchedulerClient } from '../rpc/client.ts';
import type { CliIo } from './io.ts';
import { createPrinter, type OutputFormat, type Printer } from './output/printer.ts';

/** Signals that ask a process to end. */
export type StopSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

/** What the process gives to the commands. */
export interface CliContext {
  readonly io: CliIo;
  /** Aborted by the first Ctrl-C, unless the command took the signals. */
  readonly signal: AbortSignal;
  /** The command handles signals itself from now on. */
  takeSignals(handler: (signal: StopSignal) => void): void;
}

/** The options that every command has. */
export interface GlobalOptions {
  readonly output: OutputFormat;
  readonly scheduler: string | undefined;
  readonly config: string | undefined;
  readonly quiet: boolean;
}

/** What an action returns: an exit code, or nothing for 0. */
export type ActionResult = number | void;

/** The global options of a command that runs. */
export function globalsOf(command: Command): GlobalOptions {
  const { output = 'table', scheduler, config, quiet = false } = command.optsWithGlobals<{ output?: OutputFormat; scheduler?: string; config?: string; quiet?: boolean }>();
  return { output, scheduler, config, quiet };
}

/** The configuration as this command line, the environment and the file say. */
export function loadCliConfig(context: CliContext, command: Command, flags: Readonly<Record<string, unknown>> = {}, flagNames: Readonly<Record<string, string>> = {}): LoadedConfig {
  const { config, scheduler } = globalsOf(command);
  return loadConfig({
    env: context.io.env,
    cwd: context.io.cwd,
    filePath: config,
    flags: { 'agent.scheduler': scheduler, ...flags },
    flagNames: { 'agent.scheduler': '--scheduler', ...flagNames },
  });
}

/** Where the scheduler is: --scheduler, METRONOME_ADDRESS, agent.scheduler, or the scheduler's own port in the configuration. */
export function schedulerAddress(context: CliContext, command: Command): string {
  const given = globalsOf(command).scheduler ?? context.io.env['METRONOME_ADDRESS'];
  if (given !== undefined && given !== '') {
    if (!/^\S+:\d{1,5}$/.test(given)) throw new MetronomeError('CONFIG_INVALID', `The address of the scheduler must be host:port, not "${given}".`);
    return given;
  }
  const { config, origins } = loadCliConfig(context, command);
  if (origins['agent.scheduler'] !== 'default' || config.scheduler.grpcPort === 0) return config.agent.scheduler;
  const host = config.scheduler.host === '0.0.0.0' ? '127.0.0.1' : config.scheduler.host === '::' ? '::1' : config.scheduler.host;
  return formatAddress(host, config.scheduler.grpcPort);
}

/** A printer for commands that need no scheduler. */
export function printerOf(context: CliContext, command: Command): Printer {
  return createPrinter(context.io, globalsOf(command));
}

/** A connection to the scheduler with a way to print. */
export interface Session {
  readonly client: SchedulerClient;
  readonly printer: Printer;
  readonly globals: GlobalOptions;
  /** For calls: ends with Ctrl-C. */
  readonly signal: AbortSignal;
}

/** Opens a session for the time of `use`. */
export async function withSession<T>(context: CliContext, command: Command, use: (session: Session) => Promise<T>): Promise<T> {
  const globals = globalsOf(command);
  const client = createClient({ address: schedulerAddress(context, command) });
  try {
    return await use({ client, globals, printer: createPrinter(context.io, globals), signal: context.signal });
  } finally {
    client.close();
  }
}
