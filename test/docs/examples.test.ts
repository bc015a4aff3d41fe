/** The code in the documents is run: both handlers of the README on the same log, and the policy of the guide on hand-made situations. */
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Policy } from '../../src/policy/policy.ts';
import { decide } from '../policy/situation.ts';
import { ROOT, readPage } from './markdown.ts';

const run = promisify(execFile);
let folder = '';
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'metronome-examples-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The one block of a language on a page. */
function only(page: string, language: string): string {
  const found = readPage(page).blocks.filter((block) => block.language === language);
  expect(found).toHaveLength(1);
  return (found[0] as { readonly text: string }).text; // there is one
}

describe('the handlers of the README', () => {
  const LOG = 'GET /a\nPOST /b\nGET /c\n';

  it('count lines in Node', async () => {
    writeFileSync(join(folder, 'handler.mjs'), only('README.md', 'js'));
    writeFileSync(join(folder, 'access.log'), LOG);
    const call = `import { handler } from './handler.mjs';
      const result = await handler({ word: 'GET' }, { inputs: [{ path: 'access.log' }], output: (name) => 'node-' + name });
      console.log(JSON.stringify(result));`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', call], { cwd: folder });
    expect(JSON.parse(stdout)).toEqual({ lines: 2 });
    expect(readFileSync(join(folder, 'node-matches.txt'), 'utf8')).toContain('GET /c');
  });

  it('count the same lines in Python', async () => {
    writeFileSync(join(folder, 'handler.py'), only('README.md', 'python'));
    writeFileSync(join(folder, 'access.log'), LOG);
    const call = `import json, types, handler
context = types.SimpleNamespace(inputs=[types.SimpleNamespace(path="access.log")], output=lambda name: "python-" + name)
print(json.dumps(handler.handler({"word": "GET"}, context)))`;
    const { stdout } = await run('python3', ['-c', call], { cwd: folder });
    expect(JSON.parse(stdout)).toEqual({ lines: 2 });
    expect(readFileSync(join(folder, 'python-matches.txt'), 'utf8')).toContain('GET /c');
  });
});

describe('the policy of the guide', () => {
  const FILE = 'src/policy/least-loaded.ts';

  // A copy of the part of the project that it needs, so that it stands where the guide puts it.
  beforeAll(() => {
    for (const part of ['src/core', 'src/policy', 'src/predictor', 'package.json', 'tsconfig.json']) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    writeFileSync(join(folder, FILE), only('docs/guide/writing-a-policy.md', 'ts'));
  });

  it('passes the type checker with the settings of the project', async () => {
    const project = join(folder, 'tsconfig.example.json');
    writeFileSync(project, JSON.stringify({ extends: './tsconfig.json', include: [], files: [FILE] }));
    const { stdout } = await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', project], { cwd: folder }).catch((error: { readonly stdout: string }) => error);
    expect(stdout).toBe('');
  }, 60_000);

  it('does what it says', async () => {
    const { createLeastLoadedPolicy } = (await import(pathToFileURL(join(folder, FILE)).href)) as { createLeastLoadedPolicy(): Policy };
    const policy = createLeastLoadedPolicy();
    expect(policy.name).toBe('least-loaded');
    expect(decide(policy, { rows: [{ T: 10, room: 1, load: 0.5 }, { T: 90, room: 2, load: 0 }, { T: 80, room: 2, load: 0 }, { T: 1, load: 1 }] })).toMatchObject({ action: 'dispatch', row: 2, reason: 'leastLoaded' });
    expect(decide(policy, { rows: [{ T: 10 }] })).toMatchObject({ action: 'delay', row: -1, reason: 'noRoom' });
    expect(decide(policy, { rows: [] })).toMatchObject({ action: 'delay', reason: 'noNodes' });
    expect(decide(policy, { rows: [{ T: 10, room: 1 }], mayRun: false })).toMatchObject({ action: 'delay', reason: 'concurrencyLimit' });
  });
});
