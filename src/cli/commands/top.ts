/** `metronome top`: what goes on, live. On a terminal one screen that renews itself, elsewhere a line from time to time. */
import { Command } from 'commander';
import { MetronomeError } from '../../core/errors.ts';
import { WatchTrafficResponse } from '../../rpc/gen/metronome/v1/inspect.ts';
import { duration, wholeNumber, withExamples } from '../arguments.ts';
import { withSession, type Session } from '../context.ts';
import { TopWindow, topLine, topScreen } from '../output/top-text.ts';
import type { CliApp } from '../app.ts';

interface TopOptions {
  readonly once?: boolean;
  readonly every: number;
  readonly count?: number;
}

/** Rates and percentiles are of the last ten seconds, or of what was told so far. */
const WINDOW_MS = 10_000;
/** After the scheduler went away, it is looked for again every so often, ms. */
const RETRY_MS = 1_000;
const ENTER_SCREEN = '\u001b[?1049h\u001b[?25l', LEAVE_SCREEN = '\u001b[?25h\u001b[?1049l', HOME = '\u001b[H', CLEAR_LINE = '\u001b[K', CLEAR_BELOW = '\u001b[J';

export function topCommand(app: CliApp): Command {
  return withExamples(
    new Command('top').description('what goes on, live: rates, latencies, waiting, functions and nodes')
      .option('--once', 'print it once, of one interval, and end')
      .option('--every <duration>', 'how often it is renewed', duration, 1_000)
      .option('-n, --count <n>', 'end after so many', wholeNumber(1, 1_000_000_000))
      .action(app.action(async (options: TopOptions, command: Command) => withSession(app, command, (session) => show(app, session, options)))),
    'metronome top', 'metronome top --once', 'metronome top --every 10s -o json');
}

async function show(app: CliApp, session: Session, options: TopOptions): Promise<void> {
  const { client, printer, signal } = session;
  const { io } = app;
  const everyMs = Math.max(250, options.every);
  const isScreen = io.columns !== undefined && !printer.isStructured && options.once !== true;
  const window = new TopWindow(WINDOW_MS);
  let left = options.once === true ? 1 : (options.count ?? Infinity);
  let isOpen = false;
  const print = (message: WatchTrafficResponse): void => {
    const view = window.view();
    if (view === undefined) return;
    if (printer.isStructured) io.out(`${JSON.stringify(WatchTrafficResponse.toJSON(message))}\n`);
    else if (isScreen) {
      const screen = topScreen(view, { columns: io.columns, rows: io.rows, address: client.address });
      io.out(`${isOpen ? '' : ENTER_SCREEN}${HOME}${screen.split('\n').map((line) => line + CLEAR_LINE).join('\n')}${CLEAR_BELOW}`);
      isOpen = true;
    } else if (options.once === true) io.out(`${topScreen(view, { columns: io.columns, rows: undefined, address: client.address })}\n`);
    else io.out(`${topLine(view)}\n`);
    left--;
  };
  try {
    let hasSpoken = false;
    while (left > 0 && !signal.aborted) {
      try {
        let shownAtMs: number | undefined;
        for await (const message of client.watchTraffic({}, { signal })) {
          hasSpoken = true;
          window.add(message);
          // The first message only says where things stand; a screen shows it at once, everything else waits for an interval.
          if (shownAtMs === undefined && !isScreen) shownAtMs = message.atUnixMs;
          else if (shownAtMs === undefined || message.atUnixMs - shownAtMs >= everyMs - 50) {
            shownAtMs = message.atUnixMs;
            print(message);
          }
          if (left <= 0) return;
        }
      } catch (error) {
        // A scheduler that restarts is found again; one that was never there is an error.
        if (!(error instanceof MetronomeError) || error.code !== 'UNAVAILABLE' || !hasSpoken || options.once === true) throw error;
        if (!isScreen) printer.progress(`${error.message} Looking again …`);
      }
      await pause(RETRY_MS, signal);
    }
  } finally {
    if (isOpen) io.out(LEAVE_SCREEN);
  }
}

/** Resolves after a while, or at once when it is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
