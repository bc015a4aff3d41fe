import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { boundLog, logTail } from '../../src/cli/cluster/log-file.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-logs-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('the end of a log', () => {
  it('is shown with structured lines shortened and others as they are', async () => {
    const path = join(dir, 'a.log');
    await writeFile(path, 'early\n{"level":50,"time":"2026-01-01T10:00:00.123Z","role":"agent","pid":1,"code":"X","msg":"agent.failed"}\nError: plain\n    at somewhere\n');
    expect(await logTail(path, 3)).toEqual(['10:00:00.123 error agent.failed {"code":"X"}', 'Error: plain', '    at somewhere']);
  });

  it('is empty when there is no log', async () => {
    expect(await logTail(join(dir, 'none.log'), 3)).toEqual([]);
  });
});

describe('the size of a log', () => {
  it('is bounded: its end is kept beside it, and the writer goes on', async () => {
    const path = join(dir, 'b.log');
    const lines = Array.from({ length: 1_000 }, (_, i) => `line ${i}`).join('\n');
    await writeFile(path, `${lines}\n`);
    await boundLog(path, 1_000);
    expect((await stat(path)).size).toBe(0);
    const kept = await readFile(`${path}.1`, 'utf8');
    expect(kept.length).toBeLessThanOrEqual(1_000);
    expect(kept.endsWith('line 999\n')).toBe(true);
    expect(kept).toMatch(/^line \d+\n/);
    await appendFile(path, 'next\n');
    expect(await readFile(path, 'utf8')).toBe('next\n');
  });

  it('is left alone while it is small', async () => {
    const path = join(dir, 'c.log');
    await writeFile(path, 'short\n');
    await boundLog(path);
    expect(await readFile(path, 'utf8')).toBe('short\n');
  });
});
