/** `metronome inspect`: the page, exports of what the inspector remembers, and other inspectors. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { invocationMachine } from '../../../machines/invocation.ts';
import { MetronomeError } from '../../core/errors.ts';
import type { Invocation, InvocationEvent } from '../../core/invocation.ts';
import type { Reason } from '../../core/reasons.ts';
import { toDecision } from '../../daemon/messages.ts';
import { toChromeTrace } from '../../inspect/export/chrome-trace.ts';
import { excerptDot, excerptMermaid } from '../../inspect/export/diagram.ts';
import { toHtml } from '../../inspect/export/html.ts';
import { toJsonLines } from '../../inspect/export/json-lines.ts';
import type { Excerpt } from '../../inspect/export/excerpt.ts';
import { toTransitionRow } from '../../inspect/invocation-rows.ts';
import { StatelyForwarder, connectStately } from '../../inspect/stately.ts';
import type { TransitionRow } from '../../inspect/page-api.ts';
import { Decision } from '../../rpc/gen/metronome/v1/inspect.ts';
import type { Transition } from '../../rpc/gen/metronome/v1/invoke.ts';
import { duration, wholeNumber, withExamples } from '../arguments.ts';
import { printerOf, withSession, type Session } from '../context.ts';
import type { Printer } from '../output/printer.ts';
import { openForCommand } from './replay.ts';
import type { CliApp } from '../app.ts';

const FORMATS = {
  mermaid: (excerpt: Excerpt) => excerptMermaid(invocationMachine, excerpt),
  dot: (excerpt: Excerpt) => excerptDot(invocationMachine, excerpt),
  jsonl: toJsonLines,
  'chrome-trace': toChromeTrace,
  html: toHtml,
} as const satisfies Record<string, (excerpt: Excerpt) => string>;

interface ExportOptions {
  readonly format: keyof typeof FORMATS;
  readonly since?: number;
  readonly function?: string;
  readonly decisions: number;
  readonly file?: string;
  readonly recording?: string;
}

/** Transitions of one export. */
const MAX_TRANSITIONS = 500_000;

export function inspectCommand(app: CliApp): Command {
  const group = new Command('inspect').description('look into the scheduler: the page, exports, other inspectors');
  group.addCommand(withExamples(
    new Command('open').description('print where the page is, and open it in the browser of this machine if there is one')
      .option('--no-browser', 'only print it')
      .action(app.action(async (options: { readonly browser: boolean }, command: Command) =>
        withSession(app, command, async ({ client, printer, signal }) => {
          const { pageUrl } = await client.getStatus({}, { signal });
          if (pageUrl === '') throw new MetronomeError('UNAVAILABLE', 'This scheduler serves no page.');
          if (printer.isStructured) printer.structured({ pageUrl });
          else printer.text(`${pageUrl}\n`);
          if (options.browser && app.io.columns !== undefined) openBrowser(pageUrl);
        }))),
    'metronome inspect open', 'metronome inspect open --no-browser'));
  group.addCommand(withExamples(
    new Command('export').argument('[id]', 'only this invocation, with all its decisions').description('write what the inspector remembers, of some time or of one invocation')
      .addOption(new Option('-f, --format <format>', 'form of the export').choices(Object.keys(FORMATS)).default('html'))
      .option('--since <duration>', 'only the last so long', duration)
      .option('--function <name>', 'only this function')
      .option('--decisions <n>', 'decisions are asked for of so many invocations, the newest', wholeNumber(0, 10_000), 100)
      .option('--file <path>', 'write it there instead of printing it')
      .option('--recording <path>', 'of a recording instead of a running scheduler: it is replayed; with an id, only that invocation')
      .action(app.action(async (id: string | undefined, options: ExportOptions, command: Command) => {
        const printer = printerOf(app, command);
        const excerpt = options.recording !== undefined ? await excerptOfRecording(printer, resolve(app.io.cwd, options.recording), id, options)
          : await withSession(app, command, (session) => (id === undefined ? excerptOf(session, options) : excerptOfOne(session, id)));
        const text = FORMATS[options.format](excerpt);
        if (options.file === undefined) app.io.out(text);
        else {
          const path = resolve(app.io.cwd, options.file);
          await writeFile(path, text).catch((cause: unknown) => {
            throw new MetronomeError('INVALID_REQUEST', `The file "${path}" cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
          });
          printer.progress(`${excerpt.transitions.length} transitions written to ${path}`);
        }
        if (excerpt.missed > 0) printer.warn(`${excerpt.missed} further transitions are not in it: ${options.recording === undefined ? 'they are not remembered any more (limits.rememberDecisions)' : `an export holds ${MAX_TRANSITIONS}`}`);
      })),
    'metronome inspect export --format html --file run.html', 'metronome inspect export --recording ./recordings --file run.html', 'metronome inspect export ID --format mermaid', 'metronome inspect export --since 30s --format chrome-trace --file trace.json'));
  group.addCommand(withExamples(
    new Command('stately').description('forward some invocations to Stately Inspector (npm install @statelyai/inspect)')
      .option('--url <url>', 'web socket of the inspector\'s server', 'ws://localhost:8080')
      .option('--function <name>', 'only this function')
      .option('--every <n>', 'one in so many', wholeNumber(1, 1_000_000), 1)
      .option('--most <n>', 'at most so many at once', wholeNumber(1, 200), 20)
      .action(app.action(async (options: { readonly url: string; readonly function?: string; readonly every: number; readonly most: number }, command: Command) =>
        withSession(app, command, async ({ client, printer, signal }) => {
          const inspector = await connectStately(options.url);
          const forwarder = new StatelyForwarder(inspector, { definition: JSON.stringify(invocationMachine.definition), most: options.most, every: options.every });
          printer.progress(`forwarding to ${options.url}; Ctrl-C ends it`);
          try {
            for await (const { transitions } of client.watchInvocations({ function: options.function ?? '' }, { signal })) for (const transition of transitions) forwarder.told(toRow(transition));
          } finally {
            inspector.stop();
            printer.progress(`${forwarder.forwarded} invocations forwarded, ${forwarder.leftOut} left out`);
          }
        }))),
    'metronome inspect stately --function log-analyze --every 10'));
  return group;
}

function toRow({ invocationId, function: functionName, from, to, event, reason, node, delayingFor, atUnixMs }: Transition): TransitionRow {
  // The words of the contract are those of the loop; the node comes by name.
  return toTransitionRow({ id: invocationId, functionName, from, to, event: event as InvocationEvent['type'], reason: reason as Reason, node: 0, delayingFor, atMs: atUnixMs }, () => node);
}

async function excerptOf({ client, signal }: Session, { since, function: name = '', decisions }: ExportOptions): Promise<Excerpt> {
  const sinceUnixMs = since === undefined ? 0 : Date.now() - since;
  const transitions: TransitionRow[] = [];
  let missed = 0;
  for (let from = 0, end = false; !end && transitions.length < MAX_TRANSITIONS; ) {
    const page = await client.readTransitions({ from, function: name, sinceUnixMs }, { signal });
    // What is gone is of no interest when it is older than what was asked for.
    if (since === undefined) missed += page.missed;
    for (const transition of page.transitions) transitions.push(toRow(transition));
    ({ next: from, end } = page);
  }
  const kept = new Map<string, readonly unknown[]>();
  const newest = [...new Set(transitions.map(({ id }) => id).reverse())].slice(0, decisions);
  for (const invocationId of newest) {
    // One that was forgotten meanwhile has no decisions; the export goes on.
    const explanation = await client.explain({ invocationId }, { signal }).catch((error: unknown) => {
      if (error instanceof MetronomeError && error.code === 'INVOCATION_NOT_FOUND') return undefined;
      throw error;
    });
    if (explanation !== undefined && explanation.decisions.length > 0) kept.set(invocationId, explanation.decisions.map((decision) => Decision.toJSON(decision)));
  }
  return { title: `Metronome${name === '' ? '' : ` ${name}`}, ${new Date().toISOString()}`, transitions, decisions: kept, missed };
}

async function excerptOfOne({ client, signal }: Session, invocationId: string): Promise<Excerpt> {
  const { invocation, transitions, decisions } = await client.explain({ invocationId }, { signal });
  return { title: `${invocation?.function ?? ''} ${invocationId}`.trim(), transitions: transitions.map(toRow), decisions: new Map([[invocationId, decisions.map((decision) => Decision.toJSON(decision))]]), missed: 0 };
}

/** A recording, made again from its inputs. Decisions are kept of the last invocations, like those of a running scheduler. */
async function excerptOfRecording(printer: Printer, path: string, id: string | undefined, { function: name = '', since, decisions }: ExportOptions): Promise<Excerpt> {
  const { replayRecording } = await import('../../recording/replay.ts');
  const reader = await openForCommand(printer, path);
  const { localityThreshold } = reader.head.scheduler;
  const transitions: TransitionRow[] = [];
  const kept = new Map<string, unknown[]>();
  let missed = 0;
  const isWanted = (invocation: Invocation): boolean => (id === undefined || invocation.id === id) && (name === '' || invocation.functionName === name);
  const { difference } = replayRecording(reader, {
    onTransition({ cluster, nowMs }, invocation, from, to, event) {
      if (!isWanted(invocation)) return;
      if (transitions.length >= MAX_TRANSITIONS) return void missed++;
      const { functionName, node, target, delayingFor } = invocation;
      transitions.push(toTransitionRow({ id: invocation.id, functionName, from, to, event: event.type, reason: event.reason, node: node >= 0 ? node : target, atMs: nowMs, delayingFor }, (index) => cluster.name(index)));
    },
    onDecided(scheduler, invocation) {
      if (!isWanted(invocation) || decisions === 0) return;
      const known = kept.get(invocation.id) ?? [];
      kept.delete(invocation.id);
      kept.set(invocation.id, [...known, Decision.toJSON(toDecision(scheduler.decisions.last(invocation), scheduler.cluster, localityThreshold))]);
      if (kept.size > decisions) for (const oldest of kept.keys()) {
        kept.delete(oldest);
        break;
      }
    },
  });
  if (difference !== undefined) printer.warn(`the replay differs from the recording at entry ${difference.entry}; the export ends there (metronome replay tells more)`);
  if (id !== undefined && transitions.length === 0) throw new MetronomeError('INVOCATION_NOT_FOUND', `The recording ${reader.folder} has no invocation "${id}".`);
  const fromMs = since === undefined ? -Infinity : (transitions.at(-1)?.atMs ?? 0) - since;
  return { title: `${id ?? (name === '' ? 'Metronome' : `Metronome ${name}`)}, recording ${basename(reader.folder)}`, transitions: transitions.filter(({ atMs }) => atMs >= fromMs), decisions: kept, missed };
}

/** Opens the browser of this machine; without one, nothing happens: the address was printed. */
function openBrowser(url: string): void {
  const [program, ...args] = process.platform === 'darwin' ? ['open', url] : process.platform === 'win32' ? ['cmd', '/c', 'start', '', url] : ['xdg-open', url];
  const child = spawn(program as string, args, { stdio: 'ignore', detached: true });
  child.once('error', () => {}); // no such program
  child.unref();
}
