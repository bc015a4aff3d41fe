/** `metronome doctor`: what this machine has, what is missing, and the one line that installs it. */
import { execFile } from 'node:child_process';
import { access, constants, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { Command } from 'commander';
import { limitsSizes, openCgroups } from '../../agent/sandbox/cgroups.ts';
import { probeBubblewrap } from '../../agent/sandbox/isolation-probe.ts';
import type { Config } from '../../config/schema.ts';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import { createClient } from '../../rpc/client.ts';
import { withExamples } from '../arguments.ts';
import { probeCapabilities, type Missing } from '../cluster/emulation/capabilities.ts';
import { cleanUp } from '../cluster/emulation/clean-up.ts';
import { abandoned } from '../cluster/emulation/reaper.ts';
import { loadCliConfig, printerOf, schedulerAddress } from '../context.ts';
import { paint } from '../io.ts';
import type { CliApp } from '../app.ts';

/** One finding. */
interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** Whether `metronome up` needs it. */
  readonly required: boolean;
  /** What was found, or what its absence means. */
  readonly detail: string;
  /** What to do when it is missing. */
  readonly fix: string;
}

const PROBE_TIMEOUT_MS = 5_000;
const MIN_FREE_BYTES = 1024 ** 3;

export function doctorCommand(app: CliApp): Command {
  return withExamples(new Command('doctor').description('check what this machine has and what is missing').option('--fix', 'remove what killed emulated clusters left behind, before anything is checked').action(app.action(async (options: { readonly fix?: boolean }, command: Command) => {
    const printer = printerOf(app, command);
    if (options.fix === true) cleanUp(printer.progress);
    const checks = await runChecks(app, command);
    const word = (check: Check): string => (check.ok ? 'ok' : check.required ? 'missing' : 'optional');
    if (printer.isStructured) printer.structured(checks);
    else {
      printer.table(checks, [
        { header: 'CHECK', cell: ({ name }) => name },
        { header: 'RESULT', cell: word },
        { header: 'DETAIL', cell: ({ detail }) => detail },
      ]);
      const fixes = checks.filter((check) => !check.ok && check.fix !== '');
      for (const check of fixes) printer.text(`\n${paint(app.io.outColor, check.required ? 'red' : 'yellow', word(check))} ${check.name}: ${check.fix}`);
      if (fixes.length > 0) printer.text('\n');
    }
    const missing = checks.filter(({ ok, required }) => !ok && required);
    printer.progress(missing.length === 0 ? 'All that is required is there.' : `Missing: ${missing.map(({ name }) => name).join(', ')}.`);
    return missing.length === 0 ? 0 : 1;
  })), 'metronome doctor', 'metronome doctor --fix', 'metronome doctor -o json');
}

async function runChecks(app: CliApp, command: Command): Promise<Check[]> {
  let config: Config | undefined;
  let configProblem = '';
  try {
    config = loadCliConfig(app, command).config;
  } catch (error) {
    configProblem = MetronomeError.from(error).message;
  }
  const checks = await Promise.all([
    Promise.resolve(nodeCheck()),
    Promise.resolve<Check>({ name: 'configuration', ok: configProblem === '', required: true, detail: configProblem === '' ? 'valid' : configProblem, fix: configProblem === '' ? '' : 'correct the file, variable or flag that is named' }),
    programCheck(app, 'python3', ['--version'], 'functions in Python', 'python3'),
    programCheck(app, 'setpriv', ['--version'], 'sandboxes without privileges when started by root', 'util-linux'),
    isolationCheck(app),
    limitsCheck(),
    programCheck(app, 'ip', ['-V'], 'emulated links between nodes (metronome up --link)', 'iproute2'),
    Promise.resolve(emulationChecks()),
    programCheck(app, 'ffmpeg', ['-version'], 'the video application', 'ffmpeg'),
    chromiumCheck(app),
    programCheck(app, 'npm', ['--version'], 'packages of Node functions that have no lockfile', 'npm'),
    programCheck(app, 'python3', ['-m', 'pip', '--version'], 'packages of Python functions', 'python3-pip', 'pip'),
    ...(config === undefined ? [] : [
      portCheck('gRPC port', config.scheduler.host, config.scheduler.grpcPort, '--grpc-port'),
      portCheck('HTTP port', config.scheduler.host, config.scheduler.httpPort, '--http-port'),
      folderCheck('data folder', resolve(app.io.cwd, config.scheduler.dataDir)),
    ]),
    folderCheck('temporary folder', tmpdir()),
  ]).then((found) => found.flat());
  if (config === undefined) return checks;
  const scheduler = await schedulerCheck(schedulerAddress(app, command));
  // Ports that our own scheduler has taken are as they should be.
  return [...checks.map((check) => (scheduler.ok && check.name.endsWith(' port') && !check.ok ? { ...check, ok: true, detail: `${check.detail}; a scheduler runs`, fix: '' } : check)), scheduler];
}

/** What the kernel can emulate, and what emulated clusters left behind. */
function emulationChecks(): Check[] {
  const { network, quota, netem } = probeCapabilities();
  const left = abandoned();
  const row = (name: string, missing: readonly Missing[], detail: string, without: string): Check => ({
    name, ok: missing.length === 0, required: false,
    detail: missing.length === 0 ? detail : `${without}; missing: ${missing.map(({ what }) => what).join(', ')}`,
    fix: [...new Set(missing.map(({ fix }) => fix))].join('; '),
  });
  return [
    row('emulated links', network, `by the kernel: namespaces and tbf${netem ? ', netem' : '; no netem: latency is added in the data plane'}`, 'in the data plane only'),
    row('emulated CPUs', quota, 'by quotas of control groups', 'not limited'),
    { name: 'emulated clusters', ok: left.length === 0, required: false, detail: left.length === 0 ? 'none was left behind' : `left behind: ${left.map(({ id, owner }) => `${id} (process ${owner.pid})`).join(', ')}`, fix: left.length === 0 ? '' : 'metronome up --clean' },
  ];
}

function nodeCheck(): Check {
  // main.ts refused anything older.
  return { name: 'Node', ok: true, required: true, detail: `${process.versions.node} (${process.execPath})`, fix: '' };
}

async function programCheck(app: CliApp, program: string, args: readonly string[], purpose: string, debianPackage: string, name = program): Promise<Check> {
  const path = await which(app, program);
  const fix = `sudo apt-get install -y ${debianPackage}`;
  if (path === undefined) return { name, ok: false, required: false, detail: `not found; needed for ${purpose}`, fix };
  const version = await new Promise<string | undefined>((done) => {
    execFile(path, [...args], { timeout: PROBE_TIMEOUT_MS }, (error, stdout, stderr) => done(error === null ? (`${stdout}\n${stderr}`.trim().split('\n')[0] ?? '') : undefined));
  });
  if (version === undefined) return { name, ok: false, required: false, detail: `${path} does not run; needed for ${purpose}`, fix };
  return { name, ok: true, required: false, detail: `${version.slice(0, 60)} (${path})`, fix: '' };
}

/** Runs a trivial sandbox, as an agent on this machine would. */
async function isolationCheck(app: CliApp): Promise<Check> {
  const dir = await mkdtemp(join(tmpdir(), 'metronome-doctor-'));
  const cgroups = openCgroups(`metronome-doctor-${process.pid}`);
  try {
    const probe = await probeBubblewrap({ dir, cgroups, maxFileBytes: 1024 ** 2, searchPath: app.io.env['PATH'] ?? '' });
    const common = { name: 'bwrap', required: false } as const;
    if ('missing' in probe) return { ...common, ok: false, detail: `no isolated sandboxes: ${probe.missing}`, fix: 'sudo apt-get install -y bubblewrap' };
    return { ...common, ok: true, detail: `bubblewrap works; limits: ${cgroups === undefined ? 'memory only, by looking at it (no control groups that this user may write)' : `${cgroups.controllers.join(', ')} by control groups, version ${cgroups.version}`}`, fix: '' };
  } finally {
    await cgroups?.close();
    await rm(dir, { recursive: true, force: true });
  }
}

/** Whether the kernel would hold sandboxes of an agent of this user to their CPU and memory. */
async function limitsCheck(): Promise<Check> {
  const cgroups = openCgroups(`metronome-doctor-limits-${process.pid}`);
  await cgroups?.close();
  const common = { name: 'limits', required: false } as const;
  if (cgroups !== undefined && limitsSizes(cgroups)) return { ...common, ok: true, detail: `${cgroups.controllers.join(', ')} of sandboxes by control groups, version ${cgroups.version}`, fix: '' };
  return { ...common, ok: false, detail: `functions are not held to their cpu; needed for agent.limits "all"; ${cgroups === undefined ? 'this user may make no control groups' : `control groups here have only ${cgroups.controllers.join(', ')}`}`, fix: 'run agents as root, or as systemd units with Delegate=yes' };
}

async function chromiumCheck(app: CliApp): Promise<Check> {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
    const path = await which(app, name);
    if (path !== undefined) return { name: 'chromium', ok: true, required: false, detail: path, fix: '' };
  }
  return { name: 'chromium', ok: false, required: false, detail: 'not found; needed for tests of the page', fix: 'sudo apt-get install -y chromium' };
}

async function which(app: CliApp, program: string): Promise<string | undefined> {
  for (const folder of (app.io.env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    const path = join(folder, program);
    const runs = await access(path, constants.X_OK).then(() => true, () => false);
    if (runs) return path;
  }
  return undefined;
}

/** A port that is taken is no fault when a scheduler of ours has it; the check of the scheduler tells. */
async function portCheck(name: string, host: string, port: number, flag: string): Promise<Check> {
  if (port === 0) return { name, ok: true, required: false, detail: 'a free one is picked', fix: '' };
  const problem = await new Promise<string | undefined>((done) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => done(error.code === 'EADDRINUSE' ? 'taken' : error.message));
    server.listen({ host, port, exclusive: true }, () => server.close(() => done(undefined)));
  });
  return { name, ok: problem === undefined, required: false, detail: `${host}:${port} is ${problem ?? 'free'}`, fix: problem === undefined ? '' : `if no scheduler of yours runs there, choose another port: metronome up ${flag} 0` };
}

async function folderCheck(name: string, path: string): Promise<Check> {
  // A folder that is not there yet is made in the nearest one that is.
  let folder = path;
  while (!(await stat(folder).then((found) => found.isDirectory(), () => false)) && dirname(folder) !== folder) folder = dirname(folder);
  try {
    const probe = await mkdtemp(join(folder, '.metronome-doctor-'));
    await writeFile(join(probe, 'probe'), 'x');
    await rm(probe, { recursive: true });
    const free = await freeBytes(folder);
    const isTight = free !== undefined && free < MIN_FREE_BYTES;
    return { name, ok: true, required: true, detail: `${path} can be written${free === undefined ? '' : `, ${formatBytes(free)} free${isTight ? ' (tight)' : ''}`}`, fix: '' };
  } catch (error) {
    return { name, ok: false, required: true, detail: `${path} cannot be written: ${error instanceof Error ? error.message : String(error)}`, fix: 'choose another folder with --data-dir, or give this user the right to write there' };
  }
}

async function freeBytes(folder: string): Promise<number | undefined> {
  const { statfs } = await import('node:fs/promises');
  return statfs(folder).then(({ bavail, bsize }) => bavail * bsize, () => undefined);
}

async function schedulerCheck(address: string): Promise<Check> {
  const client = createClient({ address });
  try {
    const status = await client.getStatus({}, { timeoutMs: 1_000 });
    return { name: 'scheduler', ok: true, required: false, detail: `${address}, version ${status.version}, policy ${status.policy}`, fix: '' };
  } catch (error) {
    return { name: 'scheduler', ok: false, required: false, detail: `${address} does not answer (${MetronomeError.from(error).code})`, fix: 'start one: metronome up' };
  } finally {
    client.close();
  }
}
