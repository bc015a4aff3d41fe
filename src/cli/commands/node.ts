/** `metronome node`: the nodes as the scheduler sees them, and what operators do with them. */
import { Command } from 'commander';
import { formatBytes } from '../../core/units.ts';
import { Node } from '../../rpc/gen/metronome/v1/node.ts';
import { wholeNumber, withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import type { Column } from '../output/table.ts';
import { msCell, percent, statusWord } from '../output/words.ts';
import type { CliApp } from '../app.ts';

export function nodeCommand(app: CliApp): Command {
  const group = new Command('node').description('look at and manage nodes');
  group.addCommand(withExamples(new Command('list').alias('ls').description('list the nodes').action(app.action(async (_options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { nodes } = await client.listNodes({}, { signal });
      printer.list(nodes, NODE_COLUMNS, Node.toJSON, 'No node has registered. Start one with: metronome agent');
    }))), 'metronome node list -o wide'));
  for (const [verb, drain, words] of [['drain', true, 'give a node no new work; what runs there ends normally'], ['restore', false, 'give a drained node work again']] as const) {
    group.addCommand(withExamples(new Command(verb).argument('<name...>', 'names of the nodes').description(words).action(app.action(async (names: string[], _options: object, command: Command) =>
      withSession(app, command, async ({ client, printer, signal }) => {
        const nodes: Node[] = [];
        for (const name of names) {
          const { node } = await client.drainNode({ name, drain }, { signal });
          if (node === undefined) continue;
          nodes.push(node);
          printer.progress(`node ${name}: ${statusWord(node.status)}${drain && node.slotsUsed > 0 ? `, ${node.slotsUsed} still running` : ''}`);
        }
        if (printer.isStructured) printer.structured(nodes.map((node) => Node.toJSON(node)));
      }))), `metronome node ${verb} node-2`));
  }
  group.addCommand(withExamples(new Command('prewarm').argument('<name>', 'name of the node').argument('<function>', 'name of the function').option('-n, --count <n>', 'idle sandboxes there should be', wholeNumber(1, 64), 1).option('--zygotes', 'zygotes with its packages instead of sandboxes').description('make idle sandboxes of a function ready on a node')
    .action(app.action(async (name: string, functionName: string, { count, zygotes }: PrewarmOptions, command: Command) =>
      withSession(app, command, async ({ client, printer, signal }) => {
        const { idle } = await client.prewarmNode({ name, function: functionName, count, zygotes: zygotes === true }, { signal });
        printer.progress(`node ${name}: ${idle} ${kindWord(zygotes, idle)} of ${functionName}`);
        if (printer.isStructured) printer.structured({ node: name, function: functionName, idle });
      }))), 'metronome node prewarm node-1 log-analyze -n 2'));
  group.addCommand(withExamples(new Command('evict').argument('<name>', 'name of the node').argument('[function]', 'name of the function; all functions without it').option('-n, --count <n>', 'how many at most, the least recently used first; 0: all', wholeNumber(0, 65_536), 0).option('--zygotes', 'zygotes with its packages instead of sandboxes').description('end idle sandboxes on a node; what runs goes on')
    .action(app.action(async (name: string, functionName: string | undefined, { count, zygotes }: PrewarmOptions, command: Command) =>
      withSession(app, command, async ({ client, printer, signal }) => {
        const { evicted } = await client.evictNode({ name, function: functionName ?? '', count, zygotes: zygotes === true }, { signal });
        printer.progress(`node ${name}: ended ${evicted} ${kindWord(zygotes, evicted)}${functionName === undefined ? '' : ` of ${functionName}`}`);
        if (printer.isStructured) printer.structured({ node: name, function: functionName ?? '', evicted });
      }))), 'metronome node evict node-1 log-analyze'));
  return group;
}

/** Options of prewarm and evict. */
interface PrewarmOptions {
  readonly count: number;
  readonly zygotes?: boolean;
}

function kindWord(zygotes: boolean | undefined, count: number): string {
  return `${zygotes === true ? 'zygote' : 'idle sandbox'}${count === 1 ? '' : zygotes === true ? 's' : 'es'}`;
}

const NODE_COLUMNS: readonly Column<Node>[] = [
  { header: 'NAME', cell: ({ name }) => name },
  { header: 'STATUS', cell: ({ status }) => statusWord(status) },
  { header: 'SLOTS', align: 'right', cell: ({ slots, slotsUsed }) => `${slotsUsed}/${slots}` },
  { header: 'WAITING', align: 'right', cell: ({ waiting }) => String(waiting) },
  { header: 'WARM', cell: ({ warm }) => warm.filter(({ idle, busy }) => idle + busy > 0).map((state) => `${state.function} ${state.idle + state.busy}`).join(', ') },
  { header: 'OBJECTS', align: 'right', cell: ({ objects, objectBytes }) => (objects === 0 ? '0' : `${objects} (${formatBytes(objectBytes)})`) },
  { header: 'CPU', align: 'right', cell: ({ metrics }) => (metrics === undefined ? '' : percent(metrics.cpuUtilisation)) },
  { header: 'AGE ms', align: 'right', cell: ({ stateAgeMs }) => msCell(stateAgeMs) },
  { header: 'ADDRESS', wide: true, cell: ({ address }) => address },
  { header: 'DATA', wide: true, cell: ({ dataUrl }) => dataUrl },
  { header: 'MEMORY', wide: true, align: 'right', cell: ({ metrics }) => (metrics === undefined ? '' : percent(metrics.memoryUtilisation)) },
  { header: 'ZYGOTES', wide: true, align: 'right', cell: ({ metrics }) => (metrics === undefined ? '' : `${metrics.zygotes} (${Math.round(metrics.zygoteMemoryMb)} MiB)`) },
  { header: 'ISOLATION', wide: true, cell: ({ isolation }) => isolation.join(', ') },
  { header: 'REPAIRS', wide: true, align: 'right', cell: ({ repairs }) => String(repairs) },
  { header: 'LABELS', wide: true, cell: ({ labels }) => Object.entries(labels).sort().map(([name, value]) => `${name}=${value}`).join(', ') },
  { header: 'EPOCH', wide: true, align: 'right', cell: ({ epoch }) => String(epoch) },
];
