/** The whole command line as one tree of commands, and what its end means: exit codes and how errors are shown. */
import { Command, CommanderError, Option } from 'commander';
import { MetronomeError } from '../core/errors.ts';
import { fromStatus } from '../rpc/status.ts';
import type { CliApp, CommandFactory } from './app.ts';
import { agentCommand } from './commands/agent.ts';
import { benchCommand } from './commands/bench.ts';
import { completionCommand } from './commands/completion.ts';
import { configCommand } from './commands/config.ts';
import { doctorCommand } from './commands/doctor.ts';
import { functionCommand } from './commands/function.ts';
import { inspectCommand } from './commands/inspect.ts';
import { invocationCommand } from './commands/invocation.ts';
import { invokeCommand } from './commands/invoke.ts';
import { loadCommand } from './commands/load.ts';
import { modelCommand } from './commands/model.ts';
import { nodeCommand } from './commands/node.ts';
import { objectCommand } from './commands/object.ts';
import { planCommand } from './commands/plan.ts';
import { policyCommand } from './commands/policy.ts';
import { recordingCommand } from './commands/recording.ts';
import { replayCommand } from './commands/replay.ts';
import { schedulerCommand } from './commands/scheduler.ts';
import { simCommand } from './commands/sim.ts';
import { statusCommand } from './commands/status.ts';
import { topCommand } from './commands/top.ts';
import { upCommand } from './commands/up.ts';
import { versionCommand } from './commands/version.ts';
import { whatIfCommand } from './commands/what-if.ts';
import { workflowCommand } from './commands/workflow.ts';
import type { CliContext } from './context.ts';
import { exitCodeOf, reportError } from './output/error-report.ts';
import { OUTPUT_FORMATS, type OutputFormat } from './output/printer.ts';
import { programVersion } from './project.ts';

const FACTORIES: readonly CommandFactory[] = [
  upCommand, schedulerCommand, agentCommand,
  functionCommand, workflowCommand, invokeCommand, invocationCommand, loadCommand,
  nodeCommand, objectCommand, modelCommand, planCommand, policyCommand, simCommand, statusCommand,
  topCommand, inspectCommand,
  recordingCommand, replayCommand, whatIfCommand,
  benchCommand, configCommand, doctorCommand, completionCommand, versionCommand,
];

/** The tree of commands. `setExitCode` is told what actions return. */
export function createProgram(context: CliContext, setExitCode: (code: number) => void = () => {}): Command {
  const program = new Command('metronome');
  const app: CliApp = {
    ...context,
    action: (run) => async (...args) => setExitCode((await run(...args)) ?? 0),
    root: () => program,
  };
  program
    .description('A locality-aware delay scheduler for serverless functions.')
    .version(programVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .addOption(new Option('-o, --output <format>', 'form of what is printed').choices(OUTPUT_FORMATS).default('table'))
    .option('--scheduler <host:port>', 'address of the scheduler (also METRONOME_ADDRESS)')
    .option('--config <file>', 'configuration file (also METRONOME_CONFIG; metronome.config.yaml if there is one)')
    .option('-q, --quiet', 'no progress on standard error')
    .addHelpText('after', '\nExamples:\n  metronome up\n  metronome function apply -f apps/hello\n  metronome invoke hello-node --data \'{"name":"you"}\'\n');
  for (const factory of FACTORIES) program.addCommand(factory(app));
  prepare(program, context);
  return program;
}

/** Runs one command line and returns its exit code. Never throws: errors are shown on standard error. */
export async function runCli(args: readonly string[], context: CliContext): Promise<number> {
  let exitCode = 0;
  const program = createProgram(context, (code) => (exitCode = code));
  try {
    await program.parseAsync([...args], { from: 'user' });
    return exitCode;
  } catch (thrown) {
    // Asked for help or the version: done. Everything else that the parser throws is a mistake in the command line.
    if (thrown instanceof CommanderError) return thrown.code === 'commander.helpDisplayed' || thrown.code === 'commander.version' ? 0 : 2;
    const error = thrown instanceof MetronomeError ? thrown : fromStatus(thrown);
    // Who pressed Ctrl-C knows that it was cancelled.
    if (context.signal.aborted && error.code === 'CANCELLED') return exitCodeOf(error);
    reportError(context.io, error, program.opts<{ output: OutputFormat }>().output);
    return exitCodeOf(error);
  }
}

/** Sends output through the context and keeps the parser from ending the process, in all commands. */
function prepare(command: Command, context: CliContext): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => context.io.out(text),
    writeErr: (text) => context.io.err(text),
    getOutHelpWidth: () => Math.min(context.io.columns ?? 100, 100),
    getErrHelpWidth: () => Math.min(context.io.columns ?? 100, 100),
    getOutHasColors: () => context.io.outColor,
    getErrHasColors: () => context.io.errColor,
  });
  command.showSuggestionAfterError(true);
  command.showHelpAfterError(`See ${[...ancestors(command)].map((each) => each.name()).join(' ')} --help.`);
  command.configureHelp({ showGlobalOptions: false });
  for (const child of command.commands) prepare(child, context);
}

function ancestors(command: Command): Command[] {
  return command.parent === null ? [command] : [...ancestors(command.parent), command];
}
