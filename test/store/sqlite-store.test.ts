import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { openSqliteStore } from '../../src/store/sqlite-store.ts';
import { bytesOf, digestOf, invocation, listOpen, testStoreContract } from './store-contract.ts';
import { withTempDir } from './temp-dir.ts';

const CHILD = fileURLToPath(new URL('./fixtures/accept-until-killed.ts', import.meta.url));

testStoreContract('sqlite', async (options) => {
  const dir = await mkdtemp(join(tmpdir(), 'metronome-store-'));
  const store = await openSqliteStore({ dir, ...options });
  return {
    store,
    async dispose() {
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
});

/** What opening `dir` is refused with. */
async function refusal(dir: string): Promise<MetronomeError> {
  const outcome = await openSqliteStore({ dir, lockWaitMs: 20 }).catch((error: unknown) => error);
  if (outcome instanceof MetronomeError) return outcome;
  throw new Error(`Expected a MetronomeError, not ${String(outcome)}`);
}

/** Runs the child until `use` is done, then kills it with SIGKILL. */
async function withChild(args: readonly string[], use: (child: ChildProcess, lines: AsyncIterator<string>) => Promise<void>): Promise<void> {
  const child = spawn(process.execPath, [CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  try {
    await use(child, createInterface({ input: child.stdout })[Symbol.asyncIterator]());
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

describe('sqlite: group commit', () => {
  it('commits a thousand concurrent acceptances in few transactions', async () => {
    await withTempDir(async (dir) => {
      const store = await openSqliteStore({ dir });
      await Promise.all(Array.from({ length: 1_000 }, (_, i) => store.acceptInvocation(invocation(`i${i}`))));
      const { transactions, writes } = await store.stats();
      await store.close();
      expect(writes).toBe(1_000);
      expect(transactions).toBeLessThan(100);
    });
  });
});

describe('sqlite: persistence', () => {
  it('finds everything again after it was closed', async () => {
    await withTempDir(async (dir) => {
      const bundle = bytesOf('code');
      const first = await openSqliteStore({ dir });
      await first.putBundle(digestOf(bundle), bundle);
      await first.putFunction('f', bytesOf('function'), digestOf(bundle));
      await first.putWorkflow('w', bytesOf('workflow'));
      await first.acceptInvocation(invocation('i1', { idempotencyKey: 'k' }));
      await first.acceptInvocation(invocation('i2'));
      await first.markDispatched('i1', 'n', 7, 1);
      await first.endInvocation('i2', bytesOf('outcome'), 5);
      await first.close();

      const second = await openSqliteStore({ dir });
      expect(await second.listFunctions()).toEqual([{ name: 'f', bytes: bytesOf('function') }]);
      expect(await second.listWorkflows()).toEqual([{ name: 'w', bytes: bytesOf('workflow') }]);
      expect(await second.getBundle(digestOf(bundle))).toEqual(bundle);
      expect(await listOpen(second)).toMatchObject([{ id: 'i1', status: 'dispatched', node: 'n', nodeEpoch: 7, attempt: 1 }]);
      expect(await second.getInvocation('i2')).toMatchObject({ status: 'ended', outcome: bytesOf('outcome') });
      expect(await second.acceptInvocation(invocation('i3', { idempotencyKey: 'k' }))).toEqual({ duplicateOf: 'i1' });
      await second.close();
    });
  });

  it('leaves nothing but the database and an empty lock behind', async () => {
    await withTempDir(async (dir) => {
      const store = await openSqliteStore({ dir });
      await store.putWorkflow('w', bytesOf('1'));
      await store.close();
      expect((await readdir(dir)).sort()).toEqual(['metronome.db', 'metronome.lock']);
      expect((await stat(join(dir, 'metronome.lock'))).size).toBe(0);
    });
  });

  it('gives space back to the disk after most of it was pruned', async () => {
    await withTempDir(async (dir) => {
      const store = await openSqliteStore({ dir });
      const request = new Uint8Array(500_000);
      for (let i = 0; i < 20; i++) await store.acceptInvocation(invocation(`i${i}`, { request }));
      for (let i = 0; i < 20; i++) await store.endInvocation(`i${i}`, new Uint8Array(), 1);
      await store.pruneEnded(0, 0);
      await store.pruneEnded(0, 0);
      await store.close();
      expect((await stat(join(dir, 'metronome.db'))).size).toBeLessThan(5_000_000);
    });
  });
});

describe('sqlite: a process that is killed', () => {
  it('has everything that it reported as accepted after a restart', { timeout: 30_000 }, async () => {
    await withTempDir(async (dir) => {
      const printed: string[] = [];
      for (let round = 0; round < 3; round++) {
        // The first round is killed in full flight; the other ones show that reopening after a kill needs no help.
        const roundDir = join(dir, `${round}`);
        await withChild([roundDir], async (child, lines) => {
          expect((await lines.next()).value).toBe('open');
          for (let n = 0; n < 500 * (round + 1); n++) printed.push((await lines.next()).value);
          child.kill('SIGKILL');
          for (let rest = await lines.next(); !rest.done; rest = await lines.next()) printed.push(rest.value);
        });
        const store = await openSqliteStore({ dir: roundDir });
        const stored = await listOpen(store);
        await store.close();
        const ids = new Set(stored.map((row) => row.id));
        // The kill may have cut the last line short.
        const whole = printed.splice(0).slice(0, -1);
        expect(whole.length).toBeGreaterThanOrEqual(499);
        expect(whole.filter((id) => !ids.has(id))).toEqual([]);
        expect(stored.every((row) => row.request.byteLength === 2_000)).toBe(true);
      }
    });
  });
});

describe('sqlite: the lock of the data directory', () => {
  it('names the process that holds it, and is free as soon as that is killed', { timeout: 30_000 }, async () => {
    await withTempDir(async (dir) => {
      await withChild([dir, '--hold'], async (child, lines) => {
        expect((await lines.next()).value).toBe('open');
        const error = await refusal(dir);
        expect(error.code).toBe('STATE_LOCKED');
        expect(error.message).toContain(`process ${child.pid} `);
        expect(error.message).toContain(dir);
      });
      const store = await openSqliteStore({ dir });
      await store.close();
    });
  });

  it('holds within one process too', async () => {
    await withTempDir(async (dir) => {
      const store = await openSqliteStore({ dir });
      expect(await refusal(dir)).toMatchObject({ code: 'STATE_LOCKED' });
      await store.close();
      await (await openSqliteStore({ dir })).close();
    });
  });

  it('is waited for while the holder is about to end', async () => {
    await withTempDir(async (dir) => {
      const first = await openSqliteStore({ dir });
      const second = openSqliteStore({ dir, lockWaitMs: 20_000 });
      await first.close();
      await (await second).close();
    });
  });

  it('goes to exactly one of several that open a new directory at once', async () => {
    await withTempDir(async (dir) => {
      const outcomes = await Promise.allSettled(Array.from({ length: 4 }, () => openSqliteStore({ dir: join(dir, 'new'), lockWaitMs: 20 })));
      const stores = outcomes.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
      const errors = outcomes.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []));
      await Promise.all(stores.map((store) => store.close()));
      expect(stores).toHaveLength(1);
      for (const error of errors) expect(error).toMatchObject({ code: 'STATE_LOCKED' });
    });
  });
});

describe('sqlite: a database that cannot be used', () => {
  it('reports a file that is no database and leaves it alone', async () => {
    await withTempDir(async (dir) => {
      const file = join(dir, 'metronome.db');
      await writeFile(file, 'this is not a database, however long one looks at it; '.repeat(50));
      const error = await refusal(dir);
      expect(error.code).toBe('STATE_CORRUPT');
      expect(error.message).toContain(file);
      expect((await stat(file)).size).toBe(2_700);
      expect(await refusal(dir)).toMatchObject({ code: 'STATE_CORRUPT' });
    });
  });

  it('reports a database of a newer version', async () => {
    await withTempDir(async (dir) => {
      await (await openSqliteStore({ dir })).close();
      const database = new DatabaseSync(join(dir, 'metronome.db'));
      database.exec('PRAGMA user_version = 999');
      database.close();
      const error = await refusal(dir);
      expect(error.code).toBe('STATE_CORRUPT');
      expect(error.message).toMatch(/newer Metronome \(schema 999; this one knows up to \d+\)/);
      expect(error.message).toContain(join(dir, 'metronome.db'));
    });
  });

  it('reports a database of another program', async () => {
    await withTempDir(async (dir) => {
      const database = new DatabaseSync(join(dir, 'metronome.db'));
      database.exec('CREATE TABLE recipes (name TEXT)');
      database.close();
      expect(await refusal(dir)).toMatchObject({ code: 'STATE_CORRUPT', message: expect.stringContaining('another program') });
    });
  });

  it('reports damaged pages when they are read, and stays usable for the rest', async () => {
    await withTempDir(async (dir) => {
      const first = await openSqliteStore({ dir });
      await first.putWorkflow('w', bytesOf('workflow'));
      for (let i = 0; i < 200; i++) await first.acceptInvocation(invocation(`i${i}`, { request: new Uint8Array(3_000) }));
      await first.close();
      const file = join(dir, 'metronome.db');
      const size = (await stat(file)).size;
      const handle = await open(file, 'r+');
      await handle.write(Buffer.alloc(size / 2, 0xee), 0, size / 2, size / 2);
      await handle.close();

      const second = await openSqliteStore({ dir });
      await expect(listOpen(second)).rejects.toMatchObject({ code: 'STATE_CORRUPT', message: expect.stringContaining(file) });
      expect(await second.listWorkflows()).toEqual([{ name: 'w', bytes: bytesOf('workflow') }]);
      await second.close();
    });
  });

  it('fails as a whole when a write finds the file damaged, and says so to everybody', async () => {
    await withTempDir(async (dir) => {
      await (await openSqliteStore({ dir })).close();
      const file = join(dir, 'metronome.db');
      const size = (await stat(file)).size;
      const handle = await open(file, 'r+');
      // Everything but the page of the schema.
      await handle.write(Buffer.alloc(size - 8_192, 0xee), 0, size - 8_192, 8_192);
      await handle.close();
      const store = await openSqliteStore({ dir });
      await expect(store.acceptInvocation(invocation('i1'))).rejects.toMatchObject({ code: 'STATE_CORRUPT' });
      expect(await store.failed).toMatchObject({ code: 'STATE_CORRUPT' });
      await expect(store.stats()).rejects.toMatchObject({ code: 'STATE_CORRUPT' });
      await store.close();
    });
  });

  it('reports a data directory that is a file', async () => {
    await withTempDir(async (dir) => {
      await writeFile(join(dir, 'file'), '');
      expect(await refusal(join(dir, 'file'))).toMatchObject({ code: 'CONFIG_INVALID' });
    });
  });
});
