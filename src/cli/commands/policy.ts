/** `metronome policy`: which policies there are, which one is in force, and sizes of functions for one that tunes them. */
import { Command } from 'commander';
import { withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import type { CliApp } from '../app.ts';
import { tuneResourcesCommand } from './tune-resources.ts';

export function policyCommand(app: CliApp): Command {
  const group = new Command('policy').description('look at and switch the scheduling policy');
  group.addCommand(withExamples(new Command('list').alias('ls').description('list the policies').action(app.action(async (_options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { policies, active, shadow } = await client.listPolicies({}, { signal });
      printer.list(policies, [
        { header: 'NAME', cell: ({ name }) => name },
        { header: 'ACTIVE', cell: ({ name }) => (name === active ? 'yes' : name === shadow ? 'shadow' : '') },
        { header: 'DESCRIPTION', cell: ({ description }) => description },
        { header: 'PARAMETERS', wide: true, cell: ({ parameters }) => Object.entries(parameters).map(([parameter, value]) => `${parameter} ${value}`).join(', ') },
      ], ({ name, description, parameters }) => ({ name, description, active: name === active, ...(name === shadow ? { shadow: true } : {}), parameters }), 'The scheduler has no policies.');
    }))), 'metronome policy list'));
  group.addCommand(withExamples(new Command('set').argument('<name>', 'name of the policy').description('switch the policy for all functions that name none, from the next decision on').action(app.action(async (name: string, _options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { previous, active } = await client.setPolicy({ policy: name }, { signal });
      printer.progress(previous === active ? `policy ${active} is in force already` : `policy ${active} is in force (before: ${previous})`);
      if (printer.isStructured) printer.structured({ previous, active });
    }))), 'metronome policy set round-robin'));
  group.addCommand(withExamples(new Command('shadow').argument('<name>', 'name of the policy, or "off"').description('let a second policy decide too, without effect, to compare both (metronome top, the page)').action(app.action(async (name: string, _options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { previous, active } = await client.setShadowPolicy({ policy: name === 'off' ? '' : name }, { signal });
      const words = (policy: string): string => (policy === '' ? 'none' : policy);
      printer.progress(previous === active ? `shadow policy: ${words(active)} already` : `shadow policy: ${words(active)} (before: ${words(previous)})`);
      if (printer.isStructured) printer.structured({ previous, active });
    }))), 'metronome policy shadow lookahead', 'metronome policy shadow off'));
  group.addCommand(tuneResourcesCommand(app));
  return group;
}
