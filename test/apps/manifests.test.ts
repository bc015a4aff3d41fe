/** Every application can be deployed: its manifest is valid, its code is there, its lockfiles name no registry. */
import { execFile } from 'node:child_process';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadManifest } from '../../src/config/manifest.ts';
import { validateFunctionSpec, validateWorkflowSpec } from '../../src/config/spec.ts';
import { APPS, unpackApp, type Unpacked } from './unpacked.ts';

const apps = (await readdir(APPS, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);

describe.each(apps)('apps/%s', (app) => {
  it('has a valid manifest whose functions and workflows fit together', async () => {
    const { functions, workflows } = await loadManifest(join(APPS, app));
    expect(functions.length).toBeGreaterThan(0);
    for (const { spec } of functions) expect(validateFunctionSpec(spec)).toEqual([]);
    const names = functions.map(({ spec }) => spec.name);
    for (const { spec } of workflows) {
      expect(validateWorkflowSpec(spec)).toEqual([]);
      for (const step of spec.steps) expect(names).toContain(step.function);
    }
  });

  it('has lockfiles with digests and without addresses', async () => {
    for (const file of (await readdir(join(APPS, app), { recursive: true })).filter((name) => name.endsWith('package-lock.json') && !name.includes('node_modules'))) {
      const text = await readFile(join(APPS, app, file), 'utf8');
      expect(text).not.toMatch(/https?:|"resolved"/);
      const { packages } = JSON.parse(text) as { packages: Record<string, { integrity?: string }> };
      for (const [path, entry] of Object.entries(packages)) if (path !== '') expect(entry.integrity).toMatch(/^sha512-/);
    }
  });
});

/** Table 1 of the paper: what each function depends on, and how the steps follow each other. */
it.each([
  ['video', { 'video-split': 5, 'video-transcode': 4, 'video-merge': 4 }, 'video-transcoding', ['split:', 'transcode:objects', 'merge:']],
  ['log', { 'log-split': 0, 'log-analyze': 3, 'log-merge': 2 }, 'log-analysis', ['split:', 'analyze:objects', 'merge:']],
  ['document', { 'any2md-validate': 2, 'any2md-process': 34 }, 'any2md', ['validate:', 'process:']],
  ['inference', { 'ml-normalize': 4, 'ml-process': 17 }, 'ml-inference', ['normalize:', 'process:']],
])('the %s application has the dependency counts of the paper', async (app, counts, name, steps) => {
  const { functions, workflows } = await loadManifest(join(APPS, app));
  expect(Object.fromEntries(functions.map(({ spec }) => [spec.name, spec.dependencyCount]))).toEqual(counts);
  expect(workflows.map(({ spec }) => [spec.name, spec.steps.map((step) => `${step.name}:${step.forEach}`)])).toEqual([[name, steps]]);
});

describe('the hello functions', () => {
  let functions: Readonly<Record<string, Unpacked>> = {};
  let folder = '';
  beforeAll(async () => {
    ({ functions, folder } = await unpackApp('hello'));
  });
  afterAll(() => (folder === '' ? undefined : rm(folder, { recursive: true, force: true })));

  it('hello-node greets', async () => {
    expect((await functions['hello-node']?.call({ name: 'Ada' }))?.result).toMatchObject({ message: 'Hello, Ada!' });
    expect((await functions['hello-node']?.call(null))?.result).toMatchObject({ message: 'Hello, world!' });
  });

  it('noop returns nothing', async () => {
    expect((await functions['noop']?.call({}))?.result).toBeNull();
  });

  it('hello-python greets', async () => {
    const script = 'import json, handler; print(json.dumps([handler.handler({"name": "Ada"}, None), handler.handler(None, None)]))';
    const { stdout } = await promisify(execFile)('python3', ['-B', '-c', script], { cwd: functions['hello-python']?.folder });
    expect(JSON.parse(stdout)).toMatchObject([{ message: 'Hello, Ada!' }, { message: 'Hello, world!' }]);
  });
});
