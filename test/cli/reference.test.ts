import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { referencePages, writeReference } from '../../src/cli/reference.ts';
import { parseProto } from '../../src/cli/reference/proto-file.ts';
import { ERRORS } from '../../src/core/errors.ts';
import { REASONS } from '../../src/core/reasons.ts';

describe('docs/reference', () => {
  it('is what the schema, the error table, the commands and the proto files say (else: npx node src/cli/reference.ts --write)', async () => {
    expect(await writeReference({ check: true })).toEqual([]);
  });

  it('holds every error, every reason and every method', async () => {
    const pages = await referencePages();
    for (const code of Object.keys(ERRORS)) expect(pages.get('errors.md')).toContain(`\`${code}\``);
    for (const reason of Object.keys(REASONS)) expect(pages.get('reasons.md')).toContain(`\`${reason}\``);
    for (const method of ['InvokeStream', 'ApplyFunction', 'ApplyWorkflow', 'RegisterNode', 'Explain', 'Predict', 'WatchState']) expect(pages.get('api.md')).toContain(`\`${method}\``);
    for (const command of ['metronome up', 'metronome function apply', 'metronome invocation explain', 'metronome config schema']) expect(pages.get('cli.md')).toContain(`# ${command}\n`);
  });

  it('contains nothing of this machine', async () => {
    for (const [name, text] of await referencePages()) {
      expect(text, name).not.toContain(process.cwd());
      expect(text, name).not.toContain(tmpdir() === '/tmp' ? '/tmp/metronome' : tmpdir());
    }
  });

  it('is written where it is told, corrects what was edited and removes what nothing makes any more', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'metronome-reference-'));
    try {
      expect((await writeReference({ check: false, dir })).sort()).toEqual(['api.md', 'cli.md', 'config.md', 'errors.md', 'features.md', 'reasons.md']);
      expect(await writeReference({ check: true, dir })).toEqual([]);
      await writeFile(join(dir, 'errors.md'), 'edited');
      await writeFile(join(dir, 'old.md'), 'old');
      expect((await writeReference({ check: true, dir })).sort()).toEqual(['errors.md', 'old.md']);
      expect(await readFile(join(dir, 'errors.md'), 'utf8')).toBe('edited');
      await writeReference({ check: false, dir });
      expect(await writeReference({ check: true, dir })).toEqual([]);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});

describe('the proto reader', () => {
  it('finds services, streams, fields, oneofs and enums with their comments', () => {
    const file = parseProto(`syntax = "proto3";

// The file.
package p.v1;

import "a.proto";

// A service.
service S {
  // Streams.
  // Two lines.
  rpc Do(stream A) returns (stream B);
}

// Empty.
message A {}

// Full.
message B {
  // A map.
  map<string, double> m = 1;
  // A choice.
  oneof c {
    // One.
    repeated A one = 2;
  }
}

// Words.
enum E {
  // None.
  E_NONE = 0;
}
`);
    expect(file.doc).toBe('The file.');
    expect(file.services).toEqual([{ name: 'S', doc: 'A service.', methods: [{ name: 'Do', doc: 'Streams. Two lines.', request: 'A', response: 'B', requestStream: true, responseStream: true }] }]);
    expect(file.messages).toEqual([
      { name: 'A', doc: 'Empty.', fields: [] },
      { name: 'B', doc: 'Full.', fields: [{ type: 'map<string, double>', name: 'm', number: 1, doc: 'A map.', oneof: '' }, { type: 'repeated A', name: 'one', number: 2, doc: 'One.', oneof: 'c' }] },
    ]);
    expect(file.enums).toEqual([{ name: 'E', doc: 'Words.', values: [{ name: 'E_NONE', number: 0, doc: 'None.' }] }]);
  });

  it('refuses what it does not understand instead of leaving it out', () => {
    expect(() => parseProto('message A {\n  extend X {\n}\n')).toThrow(/extend X/);
  });
});
