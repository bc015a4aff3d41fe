/**
 * `metronome up`: the embedded cluster in one command, without root, Docker or a database server. Stays until Ctrl-C. With --link,
 * --latency or --cpus its nodes are emulated: with root by the kernel, otherwise as well as it can be done.
 */
import { resolve } from 'node:path';
import { Command } from 'commander';
import type { LoadedConfig } from '../../config/load.ts';
import { MetronomeError } from '../../core/errors.ts';
import { formatMs } from '../../core/units.ts';
import { withExamples } from '../arguments.ts';
import { startCluster, type Cluster } from '../cluster/cluster.ts';
import { cleanUp } from '../cluster/emulation/clean-up.ts';
import { openClusterDir } from '../cluster/data-dir.ts';
import { RECORD_FLAG, addConfigFlags, addRecordFlag, configFlags } from '../config-flags.ts';
import { globalsOf, loadCliConfig, printerOf } from '../context.ts';
import { runDemo } from '../demo.ts';
import { paint } from '../io.ts';
import { reportError } from '../output/error-report.ts';
import type { Printer } from '../output/printer.ts';
import type { CliApp } from '../app.ts';
import { calledAs } from '../project.ts';

/** A terminal and npm both pass a Ctrl-C on; what comes so soon after the first is the same one. */
const SAME_SIGNAL_MS = 500;
const INTERRUPTED = 130;
const DEFAULT_GRPC_PORT = 7070;

interface UpOptions {
  readonly demo?: boolean;
  readonly yes?: boolean;
  readonly clean?: boolean;
}

export function upCommand(app: CliApp): Command {
  const command = new Command('up').description('start scheduler and agents on this machine; Ctrl-C drains and ends them');
  const flags = addConfigFlags(command, { sections: ['up'] });
  const schedulerFlags = addConfigFlags(command, { sections: ['scheduler'], only: ['scheduler.grpcPort', 'scheduler.httpPort', 'scheduler.policy'] });
  addRecordFlag(command)
    .option('--demo', 'deploy the log application, run workflows on generated logs and show where they ran')
    .option('-y, --yes', 'take free ports when the default ones are taken')
    .option('--clean', 'remove what killed emulated clusters left behind, and end')
    .action(app.action(async (options: UpOptions, own: Command) => {
      if (options.clean === true) return cleanUp(printerOf(app, own).progress) === 0 ? 0 : 1;
      const given = configFlags(own, new Map([...flags, ...schedulerFlags, RECORD_FLAG]));
      const loaded = loadCliConfig(app, own, given.flags, given.flagNames);
      return up(app, own, options, loaded);
    }));
  return withExamples(command, 'metronome up', 'metronome up --nodes 5 --slots 4 --data-dir ./state', 'metronome up --demo', 'sudo metronome up --nodes 4 --link 250mbit --latency 1ms --cpus 0.5');
}

async function up(app: CliApp, command: Command, options: UpOptions, loaded: LoadedConfig): Promise<number> {
  const { config } = loaded;
  const printer = printerOf(app, command);
  const starting = new AbortController();
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  let firstAt = 0;
  let isKilled = false;
  let cluster: Cluster | undefined;
  const dir = await openClusterDir(config.up.dataDir === '' ? '' : resolve(app.io.cwd, config.up.dataDir));
  app.takeSignals((signal) => {
    if (firstAt === 0) {
      firstAt = performance.now();
      printer.progress(`\n${signal === 'SIGINT' ? 'Ctrl-C' : signal}: draining (again: kill) …`);
      starting.abort();
      stop();
    } else if (performance.now() - firstAt > SAME_SIGNAL_MS) {
      isKilled = true;
      cluster?.kill();
      void dir.dispose().finally(() => process.exit(INTERRUPTED));
    }
  });

  try {
    cluster = await startOrMove(app, printer, command, options, loaded, dir.path, starting.signal);
    const { demoFailed } = await tellAndDemo(app, printer, command, options, config, cluster, dir, starting.signal);
    const failure = await Promise.race([stopped, cluster.failed]);
    const begun = performance.now();
    await cluster.stop();
    // The kill ended what the drain waited for: nothing ended in order then.
    if (isKilled) return INTERRUPTED;
    if (failure !== undefined) throw failure;
    printer.progress(`Ended in order after ${formatMs(performance.now() - begun)}.`);
    return demoFailed ? 1 : 0;
  } catch (error) {
    cluster?.kill();
    await cluster?.stop();
    if (isKilled) return INTERRUPTED;
    // Stopped while it started: that was asked for.
    if (starting.signal.aborted && MetronomeError.from(error).code === 'CANCELLED') return 0;
    throw error;
  } finally {
    await dir.dispose();
  }
}

/** Starts the cluster; when the default ports are taken and nobody insists on them, on free ones. */
async function startOrMove(app: CliApp, printer: Printer, command: Command, options: UpOptions, { config, origins }: LoadedConfig, dataDir: string, signal: AbortSignal): Promise<Cluster> {
  const { scheduler, up: wanted } = config;
  const { config: file } = globalsOf(command);
  const isDefault = origins['scheduler.grpcPort'] === 'default' && origins['scheduler.httpPort'] === 'default';
  const start = (grpcPort: number, httpPort: number): Promise<Cluster> => startCluster({
    nodes: wanted.nodes, slots: wanted.slots, memoryBytes: wanted.memoryBytes, namePrefix: wanted.namePrefix,
    dataDir, grpcPort, httpPort, signal,
    emulation: { linkBitsPerS: wanted.linkBitsPerS, latencyMs: wanted.latencyMs, cpus: wanted.cpus, mode: wanted.emulation },
    commonArgs: file === undefined ? [] : ['--config', file],
    schedulerArgs: ['--policy', scheduler.policy, ...(config.recording.dir === '' ? [] : ['--record', resolve(app.io.cwd, config.recording.dir)])],
    drainGraceMs: scheduler.drainGraceMs,
    cwd: app.io.cwd,
    env: childEnv(app.io.env),
    progress: printer.progress,
    onEvent(event) {
      if (event.kind === 'died') printer.warn(`${event.name} died: ${event.how}; it is started again in ${formatMs(event.restartInMs)} (log: ${dataDir}/logs/${event.name}.log)`);
      else printer.progress(`${event.name} runs again, ${formatMs(event.afterMs)} after it died`);
    },
  });
  try {
    return await start(scheduler.grpcPort, scheduler.httpPort);
  } catch (error) {
    if (!(error instanceof MetronomeError) || error.code !== 'PORT_IN_USE' || !isDefault) throw error;
    if (options.demo === true || options.yes === true) {
      printer.progress(`${error.message.replace(/ Choose another.*$/, '')} Taking free ports instead.`);
      return start(0, 0);
    }
    throw new MetronomeError('PORT_IN_USE', `${error.message} To take free ports: ${calledAs()} up --grpc-port 0 --http-port 0`, { cause: error });
  }
}

/** Says where everything is, then runs the demo if asked for. A failed demo is told, and the cluster stays. */
async function tellAndDemo(app: CliApp, printer: Printer, command: Command, options: UpOptions, config: LoadedConfig['config'], cluster: Cluster, dir: { readonly path: string; readonly isTemporary: boolean }, signal: AbortSignal): Promise<{ readonly demoFailed: boolean }> {
  const { grpcAddress, httpUrl } = cluster;
  // Commands find the default address by themselves.
  const metronome = `${calledAs()}${grpcAddress === `127.0.0.1:${DEFAULT_GRPC_PORT}` ? '' : ` --scheduler ${grpcAddress}`}`;
  const addresses = { grpcAddress, httpUrl, nodes: cluster.nodeNames, dataDir: dir.path, ...(cluster.emulation === undefined ? {} : { emulated: cluster.emulation.plan.labels }), pids: [process.pid, ...cluster.pids] };
  const bold = (text: string): string => paint(app.io.outColor, 'bold', text);
  if (printer.format === 'json') app.io.out(`${JSON.stringify(addresses)}\n`);
  else if (printer.isStructured) printer.structured(addresses);
  else {
    printer.text([
      '',
      bold(`Metronome is up: ${config.up.nodes} ${config.up.nodes === 1 ? 'node' : 'nodes'} with ${config.up.slots} ${config.up.slots === 1 ? 'slot' : 'slots'} each, policy ${config.scheduler.policy}.`),
      `  gRPC  ${grpcAddress}`,
      `  HTTP  ${httpUrl}`,
      `  page  ${httpUrl}/inspect/`,
      ...(config.recording.dir === '' ? [] : [`  rec   ${resolve(app.io.cwd, config.recording.dir)}`]),
      `  data  ${dir.path}${dir.isTemporary ? ' (removed at the end)' : ''}`,
      ...(cluster.emulation === undefined ? [] : [`  each  ${Object.entries(cluster.emulation.plan.labels).map(([name, value]) => `${name} ${value}`).join(', ')}`]),
      '',
    ].join('\n'));
  }
  let demoFailed = false;
  if (options.demo === true) {
    try {
      await runDemo({ config, cluster, printer, dataDir: dir.path, metronome, signal, colour: app.io.outColor });
    } catch (error) {
      if (signal.aborted) return { demoFailed: false };
      demoFailed = true;
      reportError(app.io, MetronomeError.from(error), printer.format);
      printer.progress(`The demo failed; the cluster is still up. Logs: ${dir.path}/logs`);
    }
  } else if (!printer.isStructured) {
    printer.text([
      '',
      bold('Next, in another terminal:'),
      `  ${metronome} function apply -f apps/hello`,
      `  ${metronome} invoke hello-node --data '{"name":"you"}'`,
      `  curl -d '{"name":"you"}' ${httpUrl}/run/hello-node`,
      `  ${metronome} node list`,
      '',
    ].join('\n'));
  }
  printer.progress('Ctrl-C drains and ends it.');
  return { demoFailed };
}

/** What npm sets for its scripts is nothing to the processes of the cluster. */
function childEnv(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('npm_') && name !== 'METRONOME_ADDRESS'));
}
