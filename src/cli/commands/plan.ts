/** `metronome plan`: what would be decided now, without doing it. */
import { Command } from 'commander';
import { Decision } from '../../rpc/gen/metronome/v1/inspect.ts';
import { collect, duration, withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import { readInputs } from '../inputs.ts';
import { candidateTable, decisionSentence } from '../output/explain-text.ts';
import type { CliApp } from '../app.ts';

export function planCommand(app: CliApp): Command {
  const command = new Command('plan')
    .argument('<name>', 'name of the function')
    .description('decide without dispatching: which node would be chosen now, and why')
    .option('--input <file|reference>', 'input object: a file is stored first, a reference (JSON) is used as it is; may be given again', collect)
    .option('--sla <duration>', 'latency target', duration)
    .option('--policy <name>', 'policy that decides')
    .option('--locality-key <key>', 'locality key of the request')
    .option('--via <url>', "the gateway's HTTP door for files, when the nodes cannot be reached from here")
    .action(app.action(async (name: string, options: { readonly input?: string[]; readonly sla?: number; readonly policy?: string; readonly localityKey?: string; readonly via?: string }, own: Command) =>
      withSession(app, own, async ({ client, printer, signal }) => {
        const inputs = await readInputs({ client, gatewayUrl: options.via, signal }, options.input ?? [], app.io.cwd, printer.progress);
        const request = { function: name, inputs, slaMs: options.sla ?? 0, policy: options.policy ?? '', localityKey: options.localityKey ?? '' };
        const { decision } = await client.plan({ request }, { signal });
        if (decision === undefined) printer.progress('The scheduler decided nothing.');
        else if (printer.isStructured) printer.structured(Decision.toJSON(decision));
        else printer.text(`${decisionSentence(decision)}\n${candidateTable(decision, app.io.columns)}`);
      })));
  return withExamples(command, 'metronome plan log-analyze --input part.log', 'metronome plan hello-node --policy round-robin -o json');
}
