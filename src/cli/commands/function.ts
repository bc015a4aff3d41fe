/** `metronome function`: deploy, list, look at and delete functions. */
import { Command } from 'commander';
import { formatBytes, formatMs } from '../../core/units.ts';
import { loadManifest } from '../../config/manifest.ts';
import { FunctionMessage } from '../../rpc/gen/metronome/v1/function.ts';
import { withExamples } from '../arguments.ts';
import { withSession, type CliContext } from '../context.ts';
import { deploy, type Deployed } from '../deploy.ts';
import type { Column } from '../output/table.ts';
import { ageText, timeText } from '../output/words.ts';
import type { CliApp } from '../app.ts';

export function functionCommand(app: CliApp): Command {
  const group = new Command('function').alias('fn').description('deploy and manage functions');
  group.addCommand(applyCommand(app, 'functions and workflows of a manifest', false, 'metronome function apply -f apps/log', 'metronome function apply -f metronome.yaml --dry-run'));
  group.addCommand(withExamples(new Command('list').alias('ls').description('list the deployed functions').action(app.action(async (_options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { functions } = await client.listFunctions({}, { signal });
      printer.list(functions, functionColumns(Date.now()), FunctionMessage.toJSON, 'No function is deployed. Deploy one with: metronome function apply -f PATH');
    }))), 'metronome function list -o wide'));
  group.addCommand(withExamples(new Command('get').argument('<name>', 'name of the function').description('show one function').action(app.action(async (name: string, _options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      const { function: found } = await client.getFunction({ name }, { signal });
      if (found !== undefined) printer.one(functionFields(found), () => FunctionMessage.toJSON(found));
    }))), 'metronome function get log-split -o yaml'));
  group.addCommand(withExamples(new Command('delete').alias('rm').argument('<name...>', 'names of the functions').description('delete functions; what runs ends normally').action(app.action(async (names: string[], _options: object, command: Command) =>
    withSession(app, command, async ({ client, printer, signal }) => {
      for (const name of names) {
        await client.deleteFunction({ name }, { signal });
        printer.progress(`function ${name}: deleted`);
      }
    }))), 'metronome function delete hello-node'));
  return group;
}

/** `apply`, for functions and for workflows. */
export function applyCommand(app: CliApp, what: string, workflowsOnly: boolean, ...examples: readonly string[]): Command {
  const command = new Command('apply')
    .description(`deploy the ${what}`)
    .requiredOption('-f, --file <path>', 'manifest, folder with metronome.yaml, or - for standard input')
    .option('--dry-run', 'check everything, change nothing')
    .action(app.action(async (options: { readonly file: string; readonly dryRun?: boolean }, own: Command) => {
      const manifest = await loadManifest(options.file, { cwd: app.io.cwd, ...(options.file === '-' ? { text: await readText(app) } : {}) });
      await withSession(app, own, async ({ client, printer, signal }) => {
        const deployed = await deploy({ client, manifest, dryRun: options.dryRun === true, workflowsOnly, signal, progress: printer.progress });
        printer.list(deployed, DEPLOYED_COLUMNS, (row) => row, workflowsOnly ? 'The manifest has no workflow.' : 'The manifest is empty.');
      });
    }));
  return withExamples(command, ...examples);
}

const DEPLOYED_COLUMNS: readonly Column<Deployed>[] = [
  { header: 'KIND', cell: ({ kind }) => kind },
  { header: 'NAME', cell: ({ name }) => name },
  { header: 'RESULT', cell: ({ result }) => result },
  { header: 'VERSION', cell: ({ version }) => version },
];

async function readText(context: CliContext): Promise<string> {
  return new TextDecoder().decode(await context.io.readStdin());
}

function functionColumns(nowMs: number): readonly Column<FunctionMessage>[] {
  return [
    { header: 'NAME', cell: ({ spec }) => spec?.name ?? '' },
    { header: 'RUNTIME', cell: ({ spec }) => spec?.runtime ?? '' },
    { header: 'MEMORY', align: 'right', cell: ({ spec }) => `${spec?.memoryMb ?? 0} MiB` },
    { header: 'TIMEOUT', align: 'right', cell: ({ spec }) => formatMs(spec?.timeoutMs ?? 0) },
    { header: 'SLA', align: 'right', cell: ({ spec }) => formatMs(spec?.slaMs ?? 0) },
    { header: 'PACKAGES', align: 'right', cell: ({ spec }) => String(spec?.dependencyCount ?? 0) },
    { header: 'AGE', align: 'right', cell: ({ appliedAtUnixMs }) => ageText(appliedAtUnixMs, nowMs) },
    { header: 'VERSION', wide: true, cell: ({ version }) => version },
    { header: 'HANDLER', wide: true, cell: ({ spec }) => spec?.handler ?? '' },
    { header: 'BUNDLE', wide: true, align: 'right', cell: ({ bundleBytes }) => formatBytes(bundleBytes) },
    { header: 'POLICY', wide: true, cell: ({ spec }) => spec?.policy ?? '' },
  ];
}

function functionFields({ spec, version, bundleBytes, bundleDigest, appliedAtUnixMs, lock }: FunctionMessage): (readonly [string, string])[] {
  const map = (entries: Readonly<Record<string, string>> | undefined): string => Object.entries(entries ?? {}).map(([key, value]) => `${key}=${value}`).join('\n');
  const fields: (readonly [string, string])[] = [
    ['Name', spec?.name ?? ''],
    ['Version', version],
    ['Runtime', spec?.runtime ?? ''],
    ['Handler', spec?.handler ?? ''],
    ['Memory', `${spec?.memoryMb ?? 0} MiB`],
    ['CPU', `${spec?.cpu ?? 0}`],
    ['Timeout', formatMs(spec?.timeoutMs ?? 0)],
    ['SLA', formatMs(spec?.slaMs ?? 0)],
    ['Concurrency', spec?.concurrency === 0 ? 'no limit' : String(spec?.concurrency ?? '')],
    ['Retries', `${spec?.retries ?? 0}${spec?.idempotent === true ? ' (idempotent)' : ''}`],
    ['Critical', spec?.critical === true ? 'yes' : 'no'],
    ['Locality key', spec?.localityKey ?? ''],
    ['Keep alive', spec?.keepAliveMs === 0 ? "the agent's default" : formatMs(spec?.keepAliveMs ?? 0)],
    ['Policy', spec?.policy === '' ? "the scheduler's" : (spec?.policy ?? '')],
    ['Isolation', spec?.isolation === '' ? "the node's default" : (spec?.isolation ?? '')],
    ['Network', spec?.network === true ? 'yes' : 'no'],
    ['Packages', lock === undefined ? map(spec?.packages) : lock.packages.filter(({ direct }) => direct).map(({ name, version: locked }) => `${name} ${locked}`).join('\n')],
    ['Dependencies', lock === undefined ? String(spec?.dependencyCount ?? 0) : `${spec?.dependencyCount ?? 0}, locked as ${lock.digest.slice(0, 16)}`],
    ['Environment', map(spec?.env)],
    ['Labels', map(spec?.labels)],
    ['Bundle', `${formatBytes(bundleBytes)}, sha256 ${bundleDigest}`],
    ['Applied', timeText(appliedAtUnixMs)],
  ];
  return fields.filter(([, value]) => value !== '');
}
