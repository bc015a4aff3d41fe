import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import type { Command } from 'commander';
import { run, runAsProcess } from './run.ts';

/** Nobody listens there: the address is one of those that are reserved. */
const NOBODY = ['--scheduler', '127.0.0.1:1'];

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-usage-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('mistakes in the command line', () => {
  it.each<[string, readonly string[], RegExp]>([
    ['an unknown command suggests the right one', ['functoin', 'list'], /unknown command 'functoin'[\s\S]*function/],
    ['an unknown verb suggests the right one', ['node', 'lisst'], /unknown command 'lisst'[\s\S]*list/],
    ['an unknown option suggests the right one', ['invoke', 'x', '--polcy', 'y'], /unknown option '--polcy'[\s\S]*--policy/],
    ['a missing argument is named', ['invoke'], /missing required argument 'name'/],
    ['a missing option is named', ['function', 'apply'], /required option '-f, --file <path>'/],
    ['a format that there is not', ['-o', 'xml', 'node', 'list'], /table, wide, json, yaml/],
    ['a duration that is none', ['invoke', 'x', '--sla', 'soon'], /250ms, 2s or 1m30s/],
    ['a count out of bounds', ['invoke', 'x', '-n', '0'], /whole number from 1/],
    ['a state that there is not', ['invocation', 'list', '--state', 'sleeping'], /no state "sleeping"[\s\S]*delaying/],
    ['options that exclude each other', ['invoke', 'x', '-n', '5', '--async'], /--async and --count/],
    ['concurrency without a count', ['invoke', 'x', '--concurrency', '5'], /needs --count/],
    ['clients of an application that there is not', ['bench', 'paper', '--concurrency', 'videos=2'], /"videos" is no application; they are video, log/],
    ['a figure of benches in simulation', ['bench', 'paper', '--figure', '9', '--where', 'simulation'], /Figure 9 comes from benches of the real program/],
    ['a load without a recording', ['load'], /required option '--recording <folder>'/],
    ['a speed that is none', ['load', '--recording', 'x', '--speed', '0'], /a number above 0/],
    ['a number of cores that there is not', ['policy', 'tune-resources', 'x', '--max-cpu', '0'], /number of cores from 0\.1 to 64/],
    ['a shell without completion', ['completion', 'csh'], /no completion for "csh"/],
    ['a schema that there is not', ['config', 'schema', 'nodes'], /not of "nodes"/],
    ['a group without a verb shows its help', ['function'], /Commands:[\s\S]*apply/],
  ])('%s', async (_name, args, message) => {
    const ran = await run(args);
    expect(ran.err).toMatch(message);
    expect(ran).toMatchObject({ code: 2, out: '' });
  });

  it('point to the help of the command', async () => {
    expect((await run(['node', 'list', '--foo'])).err).toContain('See metronome node list --help.');
  });

  it('in values of the configuration name the flag', async () => {
    const ran = await run(['scheduler', '--grpc-port', '99999']);
    expect(ran.code).toBe(2);
    expect(ran.err).toMatch(/CONFIG_INVALID.*--grpc-port scheduler\.grpcPort must be from 0 to 65535, not 99999/);
  });

  it('in the configuration file name the line', async () => {
    const file = join(dir, 'bad.yaml');
    await writeFile(file, 'scheduler:\n  grpcport: 1\n');
    const ran = await run(['config', 'show', '--config', file]);
    expect(ran.code).toBe(2);
    expect(ran.err).toMatch(/bad\.yaml:2:3 scheduler\.grpcport .*grpcPort/);
  });

  it('in a payload are found before anything is sent', async () => {
    const ran = await run([...NOBODY, 'invoke', 'x', '--data', '{name: you}']);
    expect(ran.code).toBe(2);
    expect(ran.err).toMatch(/PAYLOAD_INVALID.*--data .*is not JSON/);
  });

  it('in an address are found before anything is sent', async () => {
    expect(await run(['--scheduler', 'localhost', 'node', 'list'])).toMatchObject({ code: 2, err: expect.stringContaining('host:port') });
  });

  it('in a manifest name file, line and field', async () => {
    const file = join(dir, 'metronome.yaml');
    await writeFile(file, 'apiVersion: metronome/v1\nkind: Function\nmetadata: { name: f }\nspec:\n  runtime: nod\n  handler: h.mjs\n');
    const ran = await run([...NOBODY, 'function', 'apply', '-f', dir]);
    expect(ran.code).toBe(2);
    expect(ran.err).toMatch(/MANIFEST_INVALID/);
    expect(ran.err).toMatch(/metronome\.yaml:5:\d+ spec\.runtime/);
  });
});

describe('help', () => {
  it('is there for every command, with an example', async () => {
    const paths: string[][] = [];
    const walk = (command: Command, path: string[]): void => {
      if (command.commands.length === 0) paths.push(path);
      for (const child of command.commands) walk(child, [...path, child.name()]);
    };
    walk(createProgram({ io: { out() {}, err() {}, env: {}, cwd: '/', columns: undefined, outColor: false, errColor: false, readStdin: async () => new Uint8Array() }, signal: new AbortController().signal, takeSignals() {} }), []);
    expect(paths.length).toBeGreaterThan(25);
    for (const path of paths) {
      const ran = await run([...path, '--help']);
      expect(ran.code, path.join(' ')).toBe(0);
      expect(ran.out, path.join(' ')).toMatch(/Usage: metronome/);
      expect(ran.out, path.join(' ')).toMatch(/Examples?:\n {2}\S/);
    }
  });
});

describe('the process', () => {
  it('prints the version as data and ends with 0', async () => {
    const ran = await runAsProcess(['version', '-o', 'json']);
    expect(ran.code).toBe(0);
    expect(JSON.parse(ran.out)).toMatchObject({ metronome: expect.stringMatching(/^\d+\.\d+\.\d+/), node: process.versions.node });
    expect(ran.err).toBe('');
  });

  it('ends with 2 after a mistake in the command line', async () => {
    expect(await runAsProcess(['nonsense'])).toMatchObject({ code: 2, out: '' });
  });

  it('ends with 6 when nobody listens, says where and what to do', async () => {
    const ran = await runAsProcess(['node', 'list', ...NOBODY]);
    expect(ran).toMatchObject({ code: 6, out: '' });
    expect(ran.err).toMatch(/UNAVAILABLE.*127\.0\.0\.1:1.*metronome up/);
  });

  it('finds the scheduler by METRONOME_ADDRESS', async () => {
    expect((await runAsProcess(['node', 'list'], { env: { METRONOME_ADDRESS: '127.0.0.1:2' } })).err).toContain('127.0.0.1:2');
  });

  it('shows no colours when it is told not to, and none in a pipe', async () => {
    const ran = await runAsProcess(['node', 'list', ...NOBODY], { env: { NO_COLOR: '1', FORCE_COLOR: '1' } });
    expect(ran.err).not.toContain('\u001b');
    expect((await runAsProcess(['node', 'list', ...NOBODY])).err).not.toContain('\u001b');
  });

  it('gives errors as JSON on standard error when the output is JSON', async () => {
    const ran = await runAsProcess(['status', '-o', 'json', ...NOBODY]);
    expect(JSON.parse(ran.err)).toMatchObject({ error: { code: 'UNAVAILABLE', retryable: true } });
  });
});

describe('config', () => {
  it('shows where every value came from', async () => {
    const file = join(dir, 'some.yaml');
    await writeFile(file, 'delay:\n  safetyMargin: 0.2\n');
    const ran = await run(['config', 'show', 'delay', '--origin', '-o', 'json', '--config', file], { env: { METRONOME_DELAY__STRICT: 'yes' } });
    expect(ran.code).toBe(0);
    const shown = JSON.parse(ran.out) as Record<string, { value: string; origin: string }>;
    expect(shown['delay.safetyMargin']).toEqual({ value: '0.2', origin: expect.stringMatching(/some\.yaml:2$/) });
    expect(shown['delay.strict']).toEqual({ value: 'true', origin: 'env METRONOME_DELAY__STRICT' });
    expect(shown['delay.localityGain']?.origin).toBe('default');
  });

  it('shows only what was changed', async () => {
    const ran = await run(['config', 'show', '--changed', '-o', 'json'], { env: { METRONOME_DELAY__STRICT: 'yes' }, cwd: dir });
    expect(JSON.parse(ran.out)).toEqual({ 'delay.strict': 'true' });
  });

  it('prints JSON Schemas for editors', async () => {
    expect(JSON.parse((await run(['config', 'schema'])).out)).toMatchObject({ title: 'Metronome configuration' });
    expect(JSON.parse((await run(['config', 'schema', 'manifest'])).out)).toMatchObject({ title: 'Metronome manifest' });
  });
});

describe('doctor', () => {
  it('checks everything and ends with 0 when what is required is there', async () => {
    const ran = await run(['doctor', '-o', 'json'], { cwd: dir, env: { PATH: process.env['PATH'] ?? '', METRONOME_ADDRESS: '127.0.0.1:1', METRONOME_SCHEDULER__GRPC_PORT: '0', METRONOME_SCHEDULER__HTTP_PORT: '0' } });
    const checks = JSON.parse(ran.out) as { name: string; ok: boolean; fix: string; required: boolean }[];
    expect(checks.map(({ name }) => name)).toEqual(expect.arrayContaining(['Node', 'configuration', 'python3', 'setpriv', 'bwrap', 'ip', 'ffmpeg', 'chromium', 'gRPC port', 'data folder', 'scheduler']));
    expect(checks.filter(({ ok, required }) => required && !ok)).toEqual([]);
    expect(ran.code).toBe(0);
    expect(checks.find(({ name }) => name === 'scheduler')).toMatchObject({ ok: false, fix: expect.stringContaining('metronome up') });
  });

  it('names the line that installs what is missing', async () => {
    const ran = await run(['doctor'], { cwd: dir, env: { PATH: dir, METRONOME_ADDRESS: '127.0.0.1:1' } });
    expect(ran.out).toContain('sudo apt-get install -y bubblewrap');
    expect(ran.out).toContain('sudo apt-get install -y python3');
  });

  it('ends with 1 when something that is required is missing', async () => {
    const file = join(dir, 'broken.yaml');
    await writeFile(file, 'nope: 1\n');
    expect(await run(['doctor', '--config', file], { cwd: dir, env: { PATH: dir } })).toMatchObject({ code: 1, err: expect.stringContaining('Missing: configuration') });
  });
});

describe('completion', () => {
  it('knows every command, verb and option in all shells', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { out, code } = await run(['completion', shell]);
      expect(code).toBe(0);
      for (const word of ['invocation', 'explain', 'idempotency-key', 'prewarm', 'output']) expect(out, `${shell}: ${word}`).toContain(word);
    }
  });

  it('completes verbs in a real bash', async () => {
    const { out } = await run(['completion', 'bash']);
    const { execFile } = await import('node:child_process');
    const complete = (...words: string[]): Promise<string> => new Promise((resolve, reject) => {
      const script = `${out}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _metronome; echo "\${COMPREPLY[*]}"`;
      execFile('bash', ['--norc', '-c', script], (error, stdout) => (error ? reject(error) : resolve(stdout.trim())));
    });
    expect(await complete('metronome', 'invoc')).toBe('invocation');
    expect(await complete('metronome', 'invocation', 'ex')).toBe('explain');
    expect(await complete('metronome', 'function', 'apply', '--dry')).toBe('--dry-run');
    expect(await complete('metronome', '-o', 'j')).toBe('json');
  });
});
