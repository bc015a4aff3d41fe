/** `metronome invocation`: what became of invocations, why, and what happens to them now. */
import { Command } from 'commander';
import { MetronomeError } from '../../core/errors.ts';
import { ExplainResponse } from '../../rpc/gen/metronome/v1/inspect.ts';
import { CancelInvocationResponse, InvocationState, Transition, type Invocation } from '../../rpc/gen/metronome/v1/invoke.ts';
import { fromErrorDetail } from '../../rpc/status.ts';
import { duration, wholeNumber, withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import { paint } from '../io.ts';
import { explanationText } from '../output/explain-text.ts';
import { errorText, exitCodeOf } from '../output/error-report.ts';
import { STEP_COLUMNS, byArrival, invocationColumns, invocationJson, phasesText } from '../output/invocation-text.ts';
import { oneLine, renderTable } from '../output/table.ts';
import { STATE_WORDS, ageText, clockText, isOver, localityText, parseState, stateWord, timeText } from '../output/words.ts';
import type { CliApp } from '../app.ts';

const MAX_WAIT_MS = 60_000;

export function invocationCommand(app: CliApp): Command {
  const group = new Command('invocation').alias('inv').description('look at, explain, watch and cancel invocations');
  group.addCommand(listCommand(app));
  group.addCommand(getCommand(app));
  group.addCommand(withExamples(
    new Command('explain').argument('<id>', 'id of the invocation').description('why it ran where and when it did').action(app.action(async (invocationId: string, _options: object, command: Command) =>
      withSession(app, command, async ({ client, printer, signal }) => {
        const explanation = await client.explain({ invocationId }, { signal });
        if (printer.isStructured) printer.structured(ExplainResponse.toJSON(explanation));
        else {
          printer.text(explanationText(explanation, app.io.columns));
          // A workflow run decides nothing itself; its steps do.
          if (explanation.invocation?.isWorkflow === true) {
            const { invocation } = await client.getInvocation({ invocationId }, { signal });
            const steps = invocation?.response?.steps ?? [];
            if (steps.length > 0) printer.text(`\n${renderTable(byArrival(steps), STEP_COLUMNS, { width: app.io.columns })}\nExplain a step by its own id.\n`);
          }
        }
      }))),
    'metronome invocation explain ID'));
  group.addCommand(watchCommand(app));
  group.addCommand(withExamples(
    new Command('cancel').argument('<id...>', 'ids of the invocations').description('cancel invocations or workflow runs; running functions are stopped').action(app.action(async (ids: string[], _options: object, command: Command) =>
      withSession(app, command, async ({ client, printer, signal }) => {
        for (const invocationId of ids) {
          const answer = await client.cancelInvocation({ invocationId }, { signal });
          printer.progress(`${invocationId}: ${isOver(answer.state) ? stateWord(answer.state) : `cancelling, still ${stateWord(answer.state)}`}`);
          if (printer.isStructured) printer.structured({ invocationId, ...(CancelInvocationResponse.toJSON(answer) as object) }); // toJSON of a message is an object
        }
      }))),
    'metronome invocation cancel ID'));
  return group;
}

function listCommand(app: CliApp): Command {
  return withExamples(
    new Command('list').alias('ls').description('list the invocations that the scheduler remembers, newest first')
      .option('--function <name>', 'only of this function or workflow')
      .option('--state <state>', `only in this state: ${STATE_WORDS.join(', ')}`)
      .option('-n, --limit <n>', 'at most so many', wholeNumber(1, 1_000), 20)
      .action(app.action(async (options: { readonly function?: string; readonly state?: string; readonly limit: number }, command: Command) => {
        const state = options.state === undefined ? InvocationState.UNSPECIFIED : parseState(options.state);
        if (state === undefined) command.error(`error: there is no state "${options.state}". States: ${STATE_WORDS.join(', ')}`);
        return withSession(app, command, async ({ client, printer, signal }) => {
          const { invocations } = await client.listInvocations({ function: options.function ?? '', state, limit: options.limit }, { signal });
          printer.list(invocations, invocationColumns(Date.now(), ageText), invocationJson, 'No such invocation is remembered.');
        });
      })),
    'metronome invocation list --state delaying', 'metronome invocation list --function log-analyze -n 100 -o wide');
}

function getCommand(app: CliApp): Command {
  return withExamples(
    new Command('get').argument('<id>', 'id of the invocation').description('show one invocation')
      .option('--wait <duration>', 'wait for its end at most so long', duration)
      .option('--result', 'print only its result; fails as the invocation failed')
      .action(app.action(async (invocationId: string, options: { readonly wait?: number; readonly result?: boolean }, command: Command) =>
        withSession(app, command, async ({ client, printer, signal, globals }) => {
          const deadline = performance.now() + (options.wait ?? 0);
          let invocation: Invocation | undefined;
          // The scheduler waits a minute at most; longer waits are several questions.
          do {
            const waitMs = Math.min(MAX_WAIT_MS, Math.max(0, deadline - performance.now()));
            ({ invocation } = await client.getInvocation({ invocationId, waitMs }, { signal }));
          } while (invocation !== undefined && !isOver(invocation.state) && performance.now() < deadline);
          if (invocation === undefined) throw new MetronomeError('INVOCATION_NOT_FOUND', `There is no invocation "${invocationId}".`);
          const error = invocation.error === undefined ? undefined : MetronomeError.fromRecord(fromErrorDetail(invocation.error));
          if (options.result === true) {
            if (error !== undefined) throw error;
            if (invocation.response === undefined) throw new MetronomeError('DEADLINE_EXCEEDED', `${invocationId} has no result yet: it is ${stateWord(invocation.state)}. Wait for it with --wait 30s.`);
            app.io.out(invocation.response.payload);
            if (globals.output === 'table' && invocation.response.payload.at(-1) !== 0x0a) app.io.out('\n');
            return 0;
          }
          const found = invocation;
          printer.one(invocationFields(found), () => invocationJson(found));
          if (error !== undefined && !printer.isStructured) app.io.err(errorText(error, app.io.errColor));
          return error !== undefined && options.wait !== undefined ? exitCodeOf(error) : 0;
        }))),
    'metronome invocation get ID', 'metronome invocation get ID --wait 30s --result');
}

function invocationFields(invocation: Invocation): (readonly [string, string])[] {
  const { phases, response } = invocation;
  const result = response === undefined ? '' : cut(Buffer.from(response.payload).toString('utf8'));
  const fields: (readonly [string, string])[] = [
    ['Id', invocation.id],
    [invocation.isWorkflow ? 'Workflow' : 'Function', invocation.function],
    ['State', `${stateWord(invocation.state)}${invocation.delayingFor === '' ? '' : ` for ${invocation.delayingFor}`}`],
    ['Reason', invocation.reason],
    ['Node', invocation.node],
    ['Locality', localityText(invocation.locality)],
    ['Attempt', invocation.attempt === 0 ? '' : String(invocation.attempt)],
    ['Policy', invocation.policy],
    ['Arrived', timeText(invocation.arrivedAtUnixMs)],
    ['Ended', timeText(invocation.endedAtUnixMs)],
    ['Time', phases === undefined ? '' : phasesText(phases)],
    ['Run', invocation.workflowRunId === '' ? '' : `${invocation.workflowRunId}, step ${invocation.step}`],
    ['Outputs', (response?.outputs ?? []).map((output) => `${output.id} ${output.name}`).join('\n')],
    ['Stdout', cut(response?.logs?.stdout.trimEnd() ?? '')],
    ['Stderr', cut(response?.logs?.stderr.trimEnd() ?? '')],
    ['Result', result],
  ];
  return fields.filter(([, value]) => value !== '').map(([name, value]) => [name, value.split('\n').map(oneLine).join('\n')] as const);
}

/** Results may be a megabyte; the screen is not. */
function cut(text: string): string {
  return text.length <= 2_000 ? text : `${text.slice(0, 2_000)}… (${text.length} characters; all of it with --result)`;
}

function watchCommand(app: CliApp): Command {
  return withExamples(
    new Command('watch').argument('[id]', 'only this invocation; ends when it ends').description('print transitions as they happen')
      .option('--function <name>', 'only of this function')
      .option('-n, --count <n>', 'end after so many transitions', wholeNumber(1, 1_000_000_000))
      .action(app.action(async (invocationId: string | undefined, options: { readonly function?: string; readonly count?: number }, command: Command) =>
        withSession(app, command, async ({ client, printer, signal }) => {
          let left = options.count ?? Infinity;
          let missed = 0;
          const show = (transition: Transition): void => {
            // One JSON object a line: a stream has no end to close a list at.
            if (printer.isStructured) app.io.out(`${JSON.stringify(Transition.toJSON(transition))}\n`);
            else app.io.out(`${transitionLine(transition, app.io.outColor)}\n`);
          };
          // What is over already makes no more transitions.
          if (invocationId !== undefined) {
            const { invocation } = await client.getInvocation({ invocationId, waitMs: 0 }, { signal });
            if (invocation !== undefined && isOver(invocation.state)) {
              printer.progress(`${invocationId} is over: ${stateWord(invocation.state)}`);
              const { transitions } = await client.explain({ invocationId }, { signal });
              transitions.forEach(show);
              return;
            }
          }
          for await (const batch of client.watchInvocations({ invocationId: invocationId ?? '', function: options.function ?? '' }, { signal })) {
            if (batch.missed > missed) printer.warn(`${batch.missed - missed} transitions were missed, because they were not read fast enough`);
            missed = batch.missed;
            for (const transition of batch.transitions) {
              show(transition);
              if (--left <= 0 || (transition.invocationId === invocationId && isOver(transition.to))) return;
            }
          }
        }))),
    'metronome invocation watch', 'metronome invocation watch ID', 'metronome invocation watch --function log-analyze -o json');
}

function transitionLine(transition: Transition, colour: boolean): string {
  const { from, to, delayingFor, node } = transition;
  const name = stateWord(to);
  const state = `${stateWord(from) || '·'} → ${paint(colour, name === 'completed' ? 'green' : name === 'delaying' ? 'yellow' : isOver(to) ? 'red' : 'cyan', name)}${delayingFor === '' ? '' : ` (${delayingFor})`}`;
  return [paint(colour, 'dim', clockText(transition.atUnixMs)), oneLine(transition.invocationId), oneLine(transition.function), state, oneLine(transition.reason), ...(node === '' ? [] : [oneLine(node)])].join('  ');
}
