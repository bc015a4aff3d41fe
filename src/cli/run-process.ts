/** Runs the command line as a process: signals, closed pipes, the exit code. Everything else is program.ts. */
import { processIo } from './io.ts';
import { runCli } from './program.ts';
import type { StopSignal } from './context.ts';

/** What a shell expects of a program that ended because of Ctrl-C. */
const INTERRUPTED = 130;
const TERMINATED = 143;

/** Runs the command of process.argv and ends the process with its exit code. */
export async function runProcess(): Promise<void> {
  // `metronome … | head` closes the pipe early; that is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  // Nobody can read complaints any more; the exit code still tells.
  process.stderr.on('error', () => {});

  const controller = new AbortController();
  let interrupted: number | undefined;
  let onSignal = (signal: StopSignal): void => {
    const code = signal === 'SIGINT' ? INTERRUPTED : TERMINATED;
    if (interrupted !== undefined) process.exit(code);
    interrupted = code;
    controller.abort(new Error(signal));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => onSignal(signal));

  const code = await runCli(process.argv.slice(2), {
    io: processIo(),
    signal: controller.signal,
    takeSignals(handler) {
      onSignal = handler;
    },
  });
  await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
  process.exit(interrupted ?? code);
}
