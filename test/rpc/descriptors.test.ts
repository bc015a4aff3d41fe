import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const root = new URL('../..', import.meta.url).pathname;

describe('src/rpc/gen/descriptors.ts', () => {
  it('is what the proto files say', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'metronome-descriptors-'));
    try {
      const template = join(folder, 'buf.gen.yaml');
      await writeFile(template, `version: v2\nplugins:\n  - local: ["node", "src/rpc/protoc-gen-descriptors.ts"]\n    strategy: all\n    out: ${folder}\n`);
      await promisify(execFile)(join(root, 'node_modules/.bin/buf'), ['generate', '--template', template], { cwd: root, env: { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env['PATH']}` } });
      expect(await readFile(join(root, 'src/rpc/gen/descriptors.ts'), 'utf8')).toBe(await readFile(join(folder, 'descriptors.ts'), 'utf8'));
    } finally {
      await rm(folder, { recursive: true });
    }
  }, 30_000);
});
