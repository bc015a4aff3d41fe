/** What commands are made with; apart from the program, so that no command needs to know it. */
import type { Command } from 'commander';
import type { CliContext } from './context.ts';

/** Makes one command; `onExit` is told the exit code when it is not 0. */
export type CommandFactory = (app: CliApp) => Command;

/** What commands are made with. */
export interface CliApp extends CliContext {
  /** Wraps an action: what it returns becomes the exit code. */
  action<Args extends readonly unknown[]>(run: (...args: Args) => Promise<number | void> | number | void): (...args: Args) => Promise<void>;
  /** The root, for what needs to know all commands. */
  root(): Command;
}
