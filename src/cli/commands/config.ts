/** `metronome config`: the configuration in force, where each value came from, and what there is to configure. */
import { Command } from 'commander';
import { configRows } from '../../config/load.ts';
import { manifestJsonSchema } from '../../config/manifest.ts';
import { configJsonSchema } from '../../config/schema.ts';
import { withExamples } from '../arguments.ts';
import { loadCliConfig, printerOf } from '../context.ts';
import type { CliApp } from '../app.ts';

export function configCommand(app: CliApp): Command {
  const group = new Command('config').description('look at the configuration');
  group.addCommand(withExamples(
    new Command('show').argument('[key]', 'only keys that begin with this, for example delay or delay.strict')
      .description('show the configuration in force')
      .option('--origin', 'also where each value came from')
      .option('--changed', 'only what is not the default')
      .action(app.action((prefix: string | undefined, options: { readonly origin?: boolean; readonly changed?: boolean }, command: Command) => {
        const loaded = loadCliConfig(app, command);
        const rows = configRows(loaded).filter(({ key, origin }) => (prefix === undefined || key === prefix || key.startsWith(`${prefix}.`)) && (options.changed !== true || origin !== 'default'));
        const printer = printerOf(app, command);
        if (prefix !== undefined && rows.length === 0 && options.changed !== true) printer.warn(`no key begins with "${prefix}"`);
        const withOrigin = options.origin === true;
        if (printer.isStructured) printer.structured(Object.fromEntries(rows.map(({ key, value, origin }) => [key, withOrigin ? { value, origin } : value])));
        else if (rows.length > 0) printer.table(rows, [
          { header: 'KEY', cell: ({ key }) => key },
          { header: 'VALUE', cell: ({ value }) => value },
          ...(withOrigin ? [{ header: 'ORIGIN', cell: ({ origin }: { readonly origin: string }) => origin }] : []),
        ]);
      })),
    'metronome config show --origin', 'metronome config show delay -o json'));
  group.addCommand(withExamples(
    new Command('schema').argument('[what]', 'config or manifest', 'config')
      .description('print the JSON Schema of metronome.config.yaml or metronome.yaml, for editors')
      .action(app.action((what: string, _options: object, command: Command) => {
        if (what !== 'config' && what !== 'manifest') command.error(`error: there is a schema of config and of manifest, not of "${what}"`);
        const schema = what === 'manifest' ? manifestJsonSchema() : configJsonSchema();
        const printer = printerOf(app, command);
        if (printer.format === 'yaml') printer.structured(schema);
        else app.io.out(`${JSON.stringify(schema, null, 2)}\n`);
      })),
    'metronome config schema manifest > metronome.schema.json'));
  return group;
}
