/** `metronome invoke`: runs a function or workflow. The result goes to stdout, where the time went to stderr. */
import { Command } from 'commander';
import { InvokeRequest, type InvokeResponse } from '../../rpc/gen/metronome/v1/invoke.ts';
import { collect, duration, readPayload, wholeNumber, withExamples } from '../arguments.ts';
import { runBurst } from '../burst.ts';
import { withSession, type Session } from '../context.ts';
import { readInputs } from '../inputs.ts';
import type { CliIo } from '../io.ts';
import { exitCodeOf, reportError } from '../output/error-report.ts';
import { STEP_COLUMNS, byArrival, responseJson, summaryLine } from '../output/invocation-text.ts';
import { renderTable } from '../output/table.ts';
import { printTally } from '../output/tally-text.ts';
import type { CliApp } from '../app.ts';

const MAX_COUNT = 1_000_000;
const MAX_CONCURRENCY = 4_096;

interface InvokeOptions {
  readonly data?: string;
  readonly contentType?: string;
  readonly input?: string[];
  readonly async?: boolean;
  readonly sla?: number;
  readonly timeout?: number;
  readonly policy?: string;
  readonly localityKey?: string;
  readonly idempotencyKey?: string;
  readonly count: number;
  readonly concurrency?: number;
  readonly steps?: boolean;
  readonly via?: string;
}

export function invokeCommand(app: CliApp): Command {
  const command = new Command('invoke')
    .argument('<name>', 'name of the function or workflow')
    .description('run a function or workflow and print its result')
    .option('-d, --data <json|@file|->', 'payload: as it stands, from a file, or from standard input')
    .option('--content-type <type>', 'media type of the payload (default: application/json)')
    .option('--input <file|reference>', 'input object: a file is stored first, a reference (JSON) is used as it is; may be given again', collect)
    .option('--async', 'accept it durably, print its id and do not wait')
    .option('--sla <duration>', 'latency target from arrival to result', duration)
    .option('--timeout <duration>', 'give up after this time', duration)
    .option('--policy <name>', 'scheduling policy for this request')
    .option('--locality-key <key>', 'the node that served this key last counts as local')
    .option('--idempotency-key <key>', 'the same key gets the same invocation within an hour')
    .option('-n, --count <n>', 'invoke it so often and print percentiles', wholeNumber(1, MAX_COUNT), 1)
    .option('--concurrency <n>', 'how many of them at the same time (default: 1)', wholeNumber(1, MAX_CONCURRENCY))
    .option('--steps', 'for workflows: also print the steps, on standard error')
    .option('--via <url>', "the gateway's HTTP door for files, when the nodes cannot be reached from here")
    .action(app.action(async (name: string, options: InvokeOptions, own: Command) => {
      const isBurst = options.count > 1;
      if (isBurst && options.async === true) own.error('error: --async and --count do not go together');
      if (!isBurst && options.concurrency !== undefined && options.concurrency > 1) own.error('error: --concurrency needs --count');
      if (isBurst && options.idempotencyKey !== undefined) own.error('error: --idempotency-key and --count do not go together: all would be the same invocation');
      const data = await readPayload(app.io, options.data, options.contentType);
      return withSession(app, own, async (session) => {
        const { client, printer, signal } = session;
        const inputs = await readInputs({ client, gatewayUrl: options.via, signal }, options.input ?? [], app.io.cwd, printer.progress);
        const request = InvokeRequest.fromPartial({
          function: name,
          payload: Buffer.from(data.payload),
          contentType: data.contentType,
          inputs,
          slaMs: options.sla ?? 0,
          timeoutMs: options.timeout ?? 0,
          policy: options.policy ?? '',
          localityKey: options.localityKey ?? '',
          idempotencyKey: options.idempotencyKey ?? '',
        });
        if (isBurst) return burst(session, app.io, request, options.count, options.concurrency ?? 1);
        if (options.async === true) {
          const { invocationId } = await client.invokeAsync({ request }, { signal });
          if (printer.isStructured) printer.structured({ invocationId });
          else printer.text(`${invocationId}\n`);
          printer.progress(`accepted; follow it with: metronome invocation watch ${invocationId}`);
          return 0;
        }
        const response = await client.invoke(request, { signal });
        printResult(session, app.io, response, options.steps === true);
        return 0;
      });
    }));
  return withExamples(command,
    'metronome invoke hello-node --data \'{"name":"you"}\'',
    'metronome invoke log-analysis --input access.log --data \'{"parts":8}\' --steps',
    'metronome invoke noop -n 1000 --concurrency 16',
    'echo \'{"name":"you"}\' | metronome invoke hello-python --data -');
}

function printResult({ printer }: Session, io: CliIo, response: InvokeResponse, withSteps: boolean): void {
  if (printer.isStructured) printer.structured(responseJson(response));
  else if (response.payload.byteLength > 0) {
    io.out(response.payload);
    const isText = response.contentType === '' || /^(text\/|application\/json)/.test(response.contentType);
    if (isText && response.payload.at(-1) !== 0x0a) io.out('\n');
  }
  if (withSteps && response.steps.length > 0) printer.progress(renderTable(byArrival(response.steps), STEP_COLUMNS, { width: io.columns }).trimEnd());
  printer.progress(summaryLine(response));
}

async function burst({ client, printer, globals, signal }: Session, io: CliIo, request: InvokeRequest, count: number, concurrency: number): Promise<number> {
  let done = 0;
  let told = performance.now();
  const { summary, firstError } = await runBurst({
    client, count, concurrency, signal,
    request: () => request,
    onSettled() {
      done++;
      if (performance.now() - told < 2_000) return;
      told = performance.now();
      printer.progress(`${done} of ${count} …`);
    },
  });
  if (printer.isStructured) printer.structured(summary);
  else printTally(summary, printer);
  if (firstError === undefined) return 0;
  if (!signal.aborted) {
    printer.progress('The first error:');
    reportError(io, firstError, globals.output);
  }
  return summary.succeeded > 0 ? 1 : exitCodeOf(firstError);
}
