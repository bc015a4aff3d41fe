/** `metronome workflow`: deploy, list, look at and delete workflows. They are invoked like functions. */
import { Command } from 'commander';
import { formatMs } from '../../core/units.ts';
import { Workflow, type WorkflowStep } from '../../rpc/gen/metronome/v1/workflow.ts';
import { withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import type { Column } from '../output/table.ts';
import { ageText, timeText } from '../output/words.ts';
import type { CliApp } from '../app.ts';
import { applyCommand } from './function.ts';

export function workflowCommand(app: CliApp): Command {
  const group = new Command('workflow').alias('wf').description('deploy and manage workflows');
  group.addCommand(applyCommand(app, 'workflows of a manifest, not its functions', true, 'metronome workflow apply -f apps/log'));
  group.addCommand(withExamples(new Command('list').alias('ls').description('list the deployed workflows').action(app.action(async (_options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { workflows } = await client.listWorkflows({}, { signal });
      printer.list(workflows, workflowColumns(Date.now()), Workflow.toJSON, 'No workflow is deployed. Deploy one with: metronome workflow apply -f PATH');
    }))), 'metronome workflow list'));
  group.addCommand(withExamples(new Command('get').argument('<name>', 'name of the workflow').description('show one workflow').action(app.action(async (name: string, _options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { workflow } = await client.getWorkflow({ name }, { signal });
      if (workflow !== undefined) printer.one(workflowFields(workflow), () => Workflow.toJSON(workflow));
    }))), 'metronome workflow get log-analysis'));
  group.addCommand(withExamples(new Command('delete').alias('rm').argument('<name...>', 'names of the workflows').description('delete workflows; runs that began go on').action(app.action(async (names: string[], _options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      for (const name of names) {
        await client.deleteWorkflow({ name }, { signal });
        printer.progress(`workflow ${name}: deleted`);
      }
    }))), 'metronome workflow delete log-analysis'));
  return group;
}

function workflowColumns(nowMs: number): readonly Column<Workflow>[] {
  return [
    { header: 'NAME', cell: ({ spec }) => spec?.name ?? '' },
    { header: 'STEPS', cell: ({ spec }) => (spec?.steps ?? []).map((step) => `${step.name}${step.forEach === '' ? '' : '[]'}`).join(' → ') },
    { header: 'SLA', align: 'right', cell: ({ spec }) => formatMs(spec?.slaMs ?? 0) },
    { header: 'TIMEOUT', align: 'right', cell: ({ spec }) => formatMs(spec?.timeoutMs ?? 0) },
    { header: 'AGE', align: 'right', cell: ({ appliedAtUnixMs }) => ageText(appliedAtUnixMs, nowMs) },
    { header: 'VERSION', wide: true, cell: ({ version }) => version },
  ];
}

function workflowFields({ spec, version, appliedAtUnixMs }: Workflow): (readonly [string, string])[] {
  const step = ({ name, function: called, after, forEach, critical }: WorkflowStep): string =>
    `${name}: ${called}${forEach === '' ? '' : ` for each of ${forEach}`}${after.length === 0 ? '' : ` after ${after.join(', ')}`}${critical ? ', critical' : ''}`;
  return [
    ['Name', spec?.name ?? ''],
    ['Version', version],
    ['SLA', formatMs(spec?.slaMs ?? 0)],
    ['Timeout', formatMs(spec?.timeoutMs ?? 0)],
    ['Steps', (spec?.steps ?? []).map(step).join('\n')],
    ['Applied', timeText(appliedAtUnixMs)],
  ];
}
