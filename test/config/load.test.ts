/** The configuration: precedence, places of errors, what is shown. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { text } from '../../src/config/fields.ts';
import { configRows, displayValue, loadConfig, type ConfigSources } from '../../src/config/load.ts';
import { configFields, configJsonSchema, configSchema, referenceRows } from '../../src/config/schema.ts';
import { MetronomeError } from '../../src/core/errors.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'metronome-config-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function violationsOf(sources: ConfigSources): string[] {
  try {
    loadConfig({ cwd: folder, ...sources });
  } catch (error) {
    expect(error).toBeInstanceOf(MetronomeError);
    const { code, extras } = MetronomeError.from(error);
    expect(code).toBe('CONFIG_INVALID');
    return (extras.violations ?? []).map(({ field, description }) => `${field} ${description}`);
  }
  return [];
}

async function write(content: string): Promise<string> {
  await writeFile(join(folder, 'c.yaml'), content);
  return 'c.yaml';
}

describe('loadConfig', () => {
  it('gives the documented defaults when nothing is set', () => {
    const { config, origins, file } = loadConfig({ cwd: folder });
    expect(file).toBeUndefined();
    expect(config.scheduler).toEqual({
      host: '127.0.0.1', grpcPort: 7070, httpPort: 7071, dataDir: '.metronome/scheduler', policy: 'metronome', shadowPolicy: '', engine: 'table',
      predictor: 'forest', candidates: 'auto', candidateLimit: 64, gateway: 'thread', logLevel: 'info', drainGraceMs: 30_000, reflection: true, origins: '',
    });
    expect(config.delay).toEqual({ localityGain: 0.85, safetyMargin: 0.1, monitorIntervalMs: 100, strict: false, waitPerGain: 0.75, localityThreshold: 0.1, decideOn: 'events', blindTo: 'nothing' });
    expect(config.limits).toEqual({
      maxLive: 20_000, maxPayloadBytes: 1_048_576, maxResultBytes: 1_048_576, maxNodes: 1_024, maxFunctions: 10_000, maxInputs: 1_024,
      rememberInvocations: 10_000, rememberDecisions: 16_384, maxInFlight: 20_000, maxWaitMs: 600_000, maxWorkflowRuns: 2_000,
    });
    expect(config.inspect).toEqual({ sampleEvery: 100, functions: '', keep: 1_024, clients: 16, hosts: '' });
    expect(config.nodes).toEqual({ pushIntervalMs: 50, staleAfterMs: 150, lostAfterMs: 3_000 });
    expect(config.agent).toMatchObject({ grpcPort: 0, dataPort: 0, scheduler: '127.0.0.1:7070', keepAliveMs: 60_000, objectQuotaBytes: 10 * 1024 ** 3, logBytes: 65_536 });
    expect(config.agent.slots).toBeGreaterThanOrEqual(1);
    expect(config.agent.memoryBytes).toBeGreaterThanOrEqual(64 * 1024 ** 2);
    expect(config.up).toMatchObject({ nodes: 3, slots: 2 });
    expect(new Set(Object.values(origins))).toEqual(new Set(['default']));
    expect(Object.keys(origins)).toHaveLength(configFields.length);
  });

  it('takes flags over environment over file over defaults and names each origin', async () => {
    const filePath = await write('scheduler:\n  grpcPort: 1001\n  httpPort: 1002\n  logLevel: debug\nnodes:\n  staleAfter: 1s\n');
    const { config, origins } = loadConfig({
      cwd: folder,
      filePath,
      env: { METRONOME_SCHEDULER__GRPC_PORT: '2001', METRONOME_SCHEDULER__HTTP_PORT: '2002', METRONOME_DELAY__STRICT: 'yes', PATH: '/bin' },
      flags: { 'scheduler.grpcPort': '3001', 'scheduler.policy': undefined, 'limits.maxPayloadBytes': '2MiB' },
    });
    expect(config.scheduler).toMatchObject({ grpcPort: 3001, httpPort: 2002, logLevel: 'debug', policy: 'metronome' });
    expect(config.nodes.staleAfterMs).toBe(1_000);
    expect(config.delay.strict).toBe(true);
    expect(config.limits.maxPayloadBytes).toBe(2 * 1024 ** 2);
    expect(origins).toMatchObject({
      'scheduler.grpcPort': 'flag --grpc-port',
      'scheduler.httpPort': 'env METRONOME_SCHEDULER__HTTP_PORT',
      'scheduler.logLevel': 'file c.yaml:4',
      'nodes.staleAfter': 'file c.yaml:6',
      'scheduler.policy': 'default',
      'limits.maxPayloadBytes': 'flag --max-payload-bytes',
    });
  });

  it('reads metronome.config.yaml of the working directory, METRONOME_CONFIG before it and --config before that', async () => {
    const home = await mkdtemp(join(tmpdir(), 'metronome-config-'));
    try {
      for (const [name, port] of [['metronome.config.yaml', 1], ['env.yaml', 2], ['flag.yaml', 3]] as const) await writeFile(join(home, name), `scheduler: { grpcPort: ${port} }\n`);
      expect(loadConfig({ cwd: home })).toMatchObject({ file: 'metronome.config.yaml', config: { scheduler: { grpcPort: 1 } } });
      expect(loadConfig({ cwd: home, env: { METRONOME_CONFIG: 'env.yaml' } }).config.scheduler.grpcPort).toBe(2);
      expect(loadConfig({ cwd: home, env: { METRONOME_CONFIG: 'env.yaml' }, filePath: 'flag.yaml' }).config.scheduler.grpcPort).toBe(3);
    } finally {
      await rm(home, { recursive: true, force: true });
    }
  });

  it('says who named a file that cannot be read', () => {
    expect(() => loadConfig({ cwd: folder, filePath: 'none.yaml' })).toThrow(/"none.yaml" \(named by --config\)/);
    expect(() => loadConfig({ cwd: folder, env: { METRONOME_CONFIG: 'none.yaml' } })).toThrow(/named by METRONOME_CONFIG/);
  });

  it('accepts an empty file and empty sections', async () => {
    expect(violationsOf({ filePath: await write('# nothing yet\n') })).toEqual([]);
    expect(violationsOf({ filePath: await write('scheduler:\nnodes: {}\n') })).toEqual([]);
  });

  it('freezes what it returns', () => {
    const { config } = loadConfig({ cwd: folder });
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.scheduler)).toBe(true);
  });

  it('gives every key its own environment variable', () => {
    for (const { env, key, info } of configFields) {
      if (info.kind !== 'duration' && info.kind !== 'integer') continue;
      const { origins } = loadConfig({ cwd: folder, env: { [env]: info.defaultText?.match(/^\d/) ? info.defaultText : '2' } });
      expect(origins[key]).toBe(`env ${env}`);
    }
  });
});

describe('bad configuration', () => {
  const cases: readonly (readonly [string, string, readonly string[]])[] = [
    ['an unknown key', 'scheduler:\n  grpcport: 1\n', ['c.yaml:2:3 scheduler.grpcport is no key of scheduler; did you mean "grpcPort"?']],
    ['an unknown section', 'schedular:\n  host: x\n', ['c.yaml:1:1 schedular is no section; did you mean "scheduler"?']],
    ['a key without its section', 'staleAfter: 1s\n', ['c.yaml:1:1 staleAfter is no section; it belongs under "nodes:"']],
    ['a key in the wrong section', 'scheduler:\n  maxLive: 3\n', ['c.yaml:2:3 scheduler.maxLive is no key of scheduler; there is "limits.maxLive"']],
    ['a duration that is none', 'nodes:\n  lostAfter: 3x\n', ['c.yaml:2:14 nodes.lostAfter must be a duration such as "150ms" or "30s", not "3x"']],
    ['a duration out of bounds', 'nodes: { lostAfter: 1d }\n', ['c.yaml:1:21 nodes.lostAfter must be from 50ms to 10m, not "1d"']],
    ['a size without unit', 'agent:\n  memory: 512\n', ['c.yaml:2:11 agent.memory must be from 64MiB to 16TiB, not 512 (a number without a unit is bytes; did you mean "512MiB"?)']],
    ['an excluded bound', 'delay:\n  localityGain: 1\n', ['c.yaml:2:17 delay.localityGain must be above 0 and below 1, not 1']],
    ['a word that is not offered', 'scheduler:\n  engine: tabel\n', ['c.yaml:2:11 scheduler.engine must be one of table, xstate, not "tabel"']],
    ['yes instead of true', 'delay:\n  strict: yes\n', ['c.yaml:2:11 delay.strict must be true or false, not "yes"']],
    ['a fraction', 'up: { nodes: 1.5 }\n', ['c.yaml:1:14 up.nodes must be a whole number from 1 to 64, not 1.5']],
    ['a number for text', 'agent:\n  name: 12\n', ['c.yaml:2:9 agent.name must be text, not 12; write it in quotes: "12"']],
    ['a key without value', 'nodes:\n  lostAfter:\n', ['c.yaml:2:3 nodes.lostAfter has no value; leave the key out for its default']],
    ['a section that is no map', 'nodes: 3\n', ['c.yaml:1:1 nodes must be a map of keys, not 3']],
    ['a list at the top', '- a\n', ['c.yaml:1:1 must be a map of sections (scheduler, delay, policies, model, limits, inspect, recording, nodes, agent, up), not ["a"]']],
    ['a key given twice', 'scheduler:\n  host: a\n  host: b\n', ['c.yaml:3:3 scheduler.host is given twice']],
    ['a second document', 'scheduler: {}\n---\nnodes: {}\n', ['c.yaml:3:1 is a second document; a configuration file has one']],
    ['stale before the next push', 'nodes:\n  staleAfter: 40ms\n', ['c.yaml:2:15 nodes.staleAfter nodes.staleAfter (40ms) must be longer than nodes.pushInterval (50ms), or every node is stale']],
    ['lost before stale', 'nodes:\n  staleAfter: 4s\n', ['c.yaml:2:15 nodes.staleAfter nodes.lostAfter (3s) must be longer than nodes.staleAfter (4s)']],
    ['several problems', 'scheduler:\n  httpPort: -1\n  x: 1\nfoo: 1\n', [
      'c.yaml:3:3 scheduler.x is no key of scheduler; known: host, grpcPort, httpPort, dataDir, policy, shadowPolicy, engine, predictor, candidates, candidateLimit, gateway, logLevel, drainGrace, reflection, origins',
      'c.yaml:4:1 foo is no section; known: scheduler, delay, policies, model, limits, inspect, recording, nodes, agent, up',
      'c.yaml:2:13 scheduler.httpPort must be from 0 to 65535, not -1',
    ]],
  ];
  it.each(cases)('names the place of %s', async (_name, content, expected) => {
    expect(violationsOf({ filePath: await write(content) })).toEqual(expected);
  });

  it('names the place of a syntax error', async () => {
    const [first] = violationsOf({ filePath: await write('scheduler:\n  host: "x\n') });
    expect(first).toMatch(/^c\.yaml:\d+:\d+ is not valid YAML: /);
  });

  it('names the environment variable', () => {
    expect(violationsOf({ env: { METRONOME_SCHEDULER__GRPC_PORT: '70x' } })).toEqual(['METRONOME_SCHEDULER__GRPC_PORT scheduler.grpcPort must be a whole number from 0 to 65535, not "70x"']);
    expect(violationsOf({ env: { METRONOME_SCHEDULER_GRPC_PORT: '1' } })).toEqual(['METRONOME_SCHEDULER_GRPC_PORT is no configuration variable; did you mean "METRONOME_SCHEDULER__GRPC_PORT"?']);
  });

  it('leaves the METRONOME_ variables of others alone', () => {
    expect(violationsOf({ env: { METRONOME_ADDRESS: 'x', METRONOME_CONFIG: '' } })).toEqual([]);
  });

  it('names the flag', () => {
    expect(violationsOf({ flags: { 'scheduler.httpPort': 'x' }, flagNames: { 'scheduler.httpPort': '--port' } })).toEqual(['--port scheduler.httpPort must be a whole number from 0 to 65535, not "x"']);
    expect(violationsOf({ flags: { 'scheduler.htpPort': '1' } })[0]).toContain('did you mean "scheduler.httpPort"?');
  });

  it('complains about a bad value in the file also when a flag hides it', async () => {
    expect(violationsOf({ filePath: await write('up: { nodes: x }\n'), flags: { 'up.nodes': 2 } })).toHaveLength(1);
  });
});

describe('what is shown', () => {
  it('shows every value as people write it, with its origin', () => {
    const rows = configRows(loadConfig({ cwd: folder, env: { METRONOME_NODES__LOST_AFTER: '90s' } }));
    expect(rows).toHaveLength(configFields.length);
    expect(rows.find((row) => row.key === 'nodes.lostAfter')).toEqual({ key: 'nodes.lostAfter', value: '90s', origin: 'env METRONOME_NODES__LOST_AFTER' });
    expect(rows.find((row) => row.key === 'agent.objectQuota')?.value).toBe('10GiB');
    expect(rows.find((row) => row.key === 'delay.localityGain')?.value).toBe('0.85');
  });

  it('never shows a secret', () => {
    const { info } = text({ doc: 'A token.', default: '', secret: true });
    expect(displayValue(info, 'hunter2')).toBe('(secret)');
    expect(displayValue(info, '')).toBe('');
  });

  it('has a reference row for every key, with bounds and description', () => {
    const rows = referenceRows();
    expect(rows.map((row) => row.key)).toEqual(configFields.map((field) => field.key));
    expect(rows.find((row) => row.key === 'nodes.staleAfter')).toMatchObject({ env: 'METRONOME_NODES__STALE_AFTER', type: 'duration', default: '150ms', unit: 'ms', bounds: 'from 10ms to 1m' });
    expect(rows.find((row) => row.key === 'agent.slots')?.default).toBe('number of CPUs');
    for (const row of rows) expect(row.description).toMatch(/\.$/);
  });

  it('has a JSON Schema that does not depend on the machine', () => {
    const json = JSON.stringify(configJsonSchema());
    expect(json).toContain('"default":"30s"');
    const slots = JSON.parse(json).properties.agent.properties.slots as Record<string, unknown>;
    expect(slots).toMatchObject({ type: 'integer', defaultText: 'number of CPUs' });
    expect(slots).not.toHaveProperty('default');
  });

  it('the schema itself refuses unknown keys, so that the JSON Schema and the loader agree', () => {
    expect(configSchema.safeParse({ scheduler: { x: 1 } }).success).toBe(false);
    expect(configSchema.parse({ nodes: { lostAfter: '5s' } }).nodes).toEqual({ pushInterval: 50, staleAfter: 150, lostAfter: 5_000 });
  });
});
