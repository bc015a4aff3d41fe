/** `metronome status`: how the scheduler is doing. */
import { Command } from 'commander';
import { GetStatusResponse } from '../../rpc/gen/metronome/v1/inspect.ts';
import { NodeStatus, type Node } from '../../rpc/gen/metronome/v1/node.ts';
import { withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import { ageText } from '../output/words.ts';
import type { CliApp } from '../app.ts';

export function statusCommand(app: CliApp): Command {
  return withExamples(new Command('status').description('how the scheduler is doing').action(app.action(async (_options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const [status, { nodes }] = await Promise.all([client.getStatus({}, { signal }), client.listNodes({}, { signal })]);
      const ready = nodes.filter((node) => node.status === NodeStatus.READY);
      const slots = ready.reduce((sum, node) => sum + node.slots, 0);
      const used = ready.reduce((sum, node) => sum + node.slotsUsed, 0);
      printer.one([
        ['Scheduler', `${client.address}, version ${status.version}, up ${ageText(status.startedAtUnixMs, Date.now())}${status.draining ? ', draining' : ''}`],
        ['Policy', `${status.policy}${status.shadowPolicy === '' ? '' : `, shadow ${status.shadowPolicy}`}`],
        ...(status.pageUrl === '' ? [] : [['Page', status.pageUrl] as const]),
        ['Predictor', status.predictor],
        ['Engine', status.engine],
        ['Nodes', `${ready.length} ready of ${nodes.length}, ${used} of ${slots} slots in use`],
        ...labelRows(nodes),
        ['Live', `${status.live} (waiting for a better node: ${status.delayingForLocality}, for room: ${status.delayingForCapacity})`],
        ['States', pairs(status.states)],
        ['Counters', pairs(status.counters)],
      ], () => GetStatusResponse.toJSON(status));
    }))), 'metronome status', 'metronome status -o json');
}

/** What is emulated, if anything is: figures of such a cluster mean nothing without it. */
function labelRows(nodes: readonly Node[]): [string, string][] {
  const texts = new Set(nodes.map(({ labels }) => ['link', 'latency', 'cpus'].flatMap((name) => (labels[name] === undefined ? [] : [`${name} ${labels[name]}`])).join(', ')));
  texts.delete('');
  return texts.size === 0 ? [] : [['Emulated', [...texts].join('\n')]];
}

function pairs(map: Readonly<Record<string, number>>): string {
  const entries = Object.entries(map).filter(([, value]) => value !== 0).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.length === 0 ? '-' : entries.map(([name, value]) => `${name} ${Math.round(value * 100) / 100}`).join('\n');
}
