/** The log application on a real log of 5 MB, packed and unpacked with its real packages, against the truth of the generator. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPS, inputOf, unpackApp, type Input, type Ran, type UnpackedApp } from './unpacked.ts';

interface Truth {
  readonly lines: number;
  readonly bytes: number;
  readonly responseBytes: number;
  readonly statusClasses: Record<string, { readonly requests: number; readonly bytes: number }>;
  readonly distinctAddresses: number;
  readonly topAddresses: readonly { readonly address: string; readonly requests: number }[];
  readonly latencyMs: Record<'p50' | 'p90' | 'p99' | 'max', number> | null;
}
type MakeInput = (options: { path: string; bytes: number; seed?: number; addresses?: number; latency?: boolean }) => Promise<Truth>;

interface Summary {
  readonly parts: number;
  readonly requests: number;
  readonly malformed: number;
  readonly bytes: number;
  readonly distinctAddresses: number;
  readonly statusClasses: Truth['statusClasses'];
  readonly networks: Record<string, number>;
  readonly topAddresses: readonly { readonly address: string; readonly requests: number; readonly bytes: number }[];
  readonly latencyMs: Truth['latencyMs'];
}

let folder = '';
let appFolder = '';
let makeInput: MakeInput;
let functions: UnpackedApp['functions'];
let call: UnpackedApp['call'];
let given: UnpackedApp['given'];
let log: Input;
let truth: Truth;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'metronome-log-'));
  ({ makeInput } = (await import(pathToFileURL(join(APPS, 'log', 'make-input.mjs')).href)) as { makeInput: MakeInput }); // plain JavaScript
  ({ functions, folder: appFolder, call, given } = await unpackApp('log'));
  log = await made('access.log', 5_000_000, 7);
}, 180_000);
afterAll(async () => {
  for (const path of [folder, appFolder]) if (path !== '') await rm(path, { recursive: true, force: true });
});

async function made(name: string, bytes: number, seed: number): Promise<Input> {
  const path = join(folder, name);
  truth = await makeInput({ path, bytes, seed });
  return inputOf(path);
}

/** What the workflow does, step by step. */
async function analyse(event: unknown, input: Input): Promise<{ readonly split: Ran; readonly analyzed: readonly Ran[]; readonly merged: Summary }> {
  const split = await call('log-split', event, [input]);
  const analyzed = await Promise.all(split.outputs.map((part) => call('log-analyze', split.result, [part])));
  const { result } = await call('log-merge', analyzed.map((each) => each.result), analyzed.flatMap((each) => each.outputs));
  return { split, analyzed, merged: result as Summary }; // checked against the truth field by field
}

describe('the generator', () => {
  it('gives the same bytes for the same seed and others for another', async () => {
    const digest = async (name: string, seed: number): Promise<string> => {
      await makeInput({ path: join(folder, name), bytes: 200_000, seed });
      return createHash('sha256').update(await readFile(join(folder, name))).digest('hex');
    };
    expect(await digest('a', 1)).toBe(await digest('b', 1));
    expect(await digest('a', 1)).not.toBe(await digest('b', 2));
  });

  it('makes combined format with about 120 bytes a line and says how much', async () => {
    const content = await readFile(log.path, 'latin1');
    const lines = content.split('\n');
    expect(lines.pop()).toBe('');
    expect(lines).toHaveLength(truth.lines);
    expect(content.length).toBe(truth.bytes);
    expect(truth.bytes / truth.lines).toBeGreaterThan(100);
    expect(truth.bytes / truth.lines).toBeLessThan(150);
    expect(lines.every((line) => /^\S+ - - \[\d\d\/[A-Z][a-z]{2}\/\d{4}:[\d:]{8} \+0000\] "[A-Z]+ \S+ HTTP\/1\.1" \d{3} (\d+|-) "[^"]+" "[^"]+" \d+$/.test(line))).toBe(true);
  });

  it('draws addresses by Zipf\'s law', () => {
    const [first, second, third] = truth.topAddresses;
    // s = 1.1: the first is 2^1.1 = 2.14 times as frequent as the second, 3^1.1 = 3.35 times as the third.
    expect((first?.requests ?? 0) / (second?.requests ?? 1)).toBeGreaterThan(1.9);
    expect((first?.requests ?? 0) / (second?.requests ?? 1)).toBeLessThan(2.4);
    expect((first?.requests ?? 0) / (third?.requests ?? 1)).toBeGreaterThan(2.9);
    expect((first?.requests ?? 0) / (third?.requests ?? 1)).toBeLessThan(3.9);
  });
});

describe('the workflow log-analysis', () => {
  it.each([1, 4, 7])('in %i parts finds what the generator put in', async (parts) => {
    const { split, merged } = await analyse({ parts }, log);
    expect(split.outputs).toHaveLength(parts);
    expect(merged.parts).toBe(parts);
    expect(merged.malformed).toBe(0);
    expect(merged.requests).toBe(truth.lines);
    expect(merged.bytes).toBe(truth.responseBytes);
    expect(merged.statusClasses).toEqual(truth.statusClasses);
    expect(merged.distinctAddresses).toBe(truth.distinctAddresses);
    expect(merged.topAddresses.map(({ address, requests }) => ({ address, requests }))).toEqual(truth.topAddresses.slice(0, 10));
    expect(Object.values(merged.networks).reduce((sum, count) => sum + count, 0)).toBe(truth.lines);
    for (const p of ['p50', 'p90', 'p99'] as const) expect(Math.abs((merged.latencyMs?.[p] ?? 0) / (truth.latencyMs?.[p] ?? 1) - 1)).toBeLessThan(0.05);
    expect(merged.latencyMs?.max).toBe(truth.latencyMs?.max);
  }, 60_000);

  it('analyze returns little and leaves the table as an object', async () => {
    const { analyzed } = await analyse(null, log);
    expect(analyzed).toHaveLength(4);
    for (const { result, outputs } of analyzed) {
      expect(JSON.stringify(result).length).toBeLessThan(16_384);
      expect((result as { topAddresses: unknown[] }).topAddresses).toHaveLength(50);
      expect(outputs).toHaveLength(1);
      expect((await readFile(outputs[0]?.path ?? '', 'latin1')).split('\n')[0]).toMatch(/^\S+\t\d+\t\d+$/);
    }
  }, 60_000);

  it('uses the real packages, which travel in the bundle', () => {
    const has = (name: string, module: string): boolean => existsSync(join(functions[name]?.folder ?? '', 'node_modules', module, 'package.json'));
    expect(['d3-array', 'internmap', 'ipaddr.js'].map((module) => has('log-analyze', module))).toEqual([true, true, true]);
    expect(['d3-array', 'internmap', 'ipaddr.js'].map((module) => has('log-merge', module))).toEqual([true, true, false]);
    expect(existsSync(join(functions['log-split']?.folder ?? '', 'node_modules'))).toBe(false);
  });
});

describe('log-split', () => {
  it('cuts at line ends into parts of nearly the same size that are the log again', async () => {
    const { outputs, result } = await call('log-split', { parts: 5 }, [log]);
    const parts = await Promise.all(outputs.map(({ path }) => readFile(path)));
    expect(Buffer.concat(parts).equals(await readFile(log.path))).toBe(true);
    for (const part of parts) {
      expect(part.at(-1)).toBe(0x0a);
      expect(Math.abs(part.length - log.sizeBytes / 5)).toBeLessThan(500);
    }
    expect(result).toEqual({ bytes: log.sizeBytes, parts: outputs.map(({ name, sizeBytes }) => ({ name, bytes: sizeBytes })) });
  });

  it.each([
    ['no bytes', '', []],
    ['one line without end', 'abc', ['abc']],
    ['fewer lines than parts', 'a\nb\n', ['a\n', 'b\n']],
    ['one line longer than all others', `a\n${'x'.repeat(200_000)}\nb\n`, [`a\n${'x'.repeat(200_000)}\n`, 'b\n']],
  ])('makes no empty parts of a log with %s', async (_name, content, expected) => {
    const { outputs } = await call('log-split', { parts: 4 }, [await given('small.log', content)]);
    expect(await Promise.all(outputs.map(({ path }) => readFile(path, 'latin1')))).toEqual(expected);
  });

  it.each([0, 1025, 1.5, 'x'])('refuses %j parts', async (parts) => {
    await expect(call('log-split', { parts }, [log])).rejects.toThrow(/parts must be a whole number from 1 to 1024/);
  });

  it('says that it needs one log', async () => {
    await expect(call('log-split', null, [])).rejects.toThrow('log-split needs exactly one input object, the log file, not 0');
  });
});

describe('log-analyze', () => {
  const line = (host: string, rest = '200 10 "-" "x"'): string => `${host} - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" ${rest}\n`;

  it('normalises addresses and tells networks apart', async () => {
    const input = await given('n.log', ['1.2.3.4', '::ffff:1.2.3.4', '::FFFF:102:304', '2001:DB8::1', '2001:db8:0:0::1', '10.0.0.1', '127.0.0.1', 'host.example.org'].map((host) => line(host)).join(''));
    const { result, outputs } = await call('log-analyze', null, [input]);
    expect(result).toMatchObject({ requests: 8, malformed: 0, distinctAddresses: 5, networks: { unicast: 3, private: 1, loopback: 1, reserved: 2, name: 1 }, latencyMs: null, topAddresses: expect.arrayContaining([{ address: '1.2.3.4', requests: 3, bytes: 30 }, { address: '2001:db8::1', requests: 2, bytes: 20 }]) });
    expect(outputs.map(({ name }) => name)).toEqual(['n.addresses.tsv']);
  });

  it('counts what it cannot read, reads common format, missing sizes, escaped quotes and Windows line ends', async () => {
    const content = `${line('1.1.1.1', '200 5')}${line('1.1.1.1', '304 - "-" "a \\"b\\" c" 1500')}garbage\n\n${line('1.1.1.1', '200 7 "-" "x"').replace('\n', '\r\n')}${line('1.1.1.1', '999 7')}${'y'.repeat(3_000_000)}\n${line('2.2.2.2').trimEnd()}`;
    const { result } = await call('log-analyze', null, [await given('m.log', content)]);
    expect(result).toMatchObject({ requests: 4, malformed: 3, bytes: 22, statusClasses: { '2xx': { requests: 3, bytes: 22 }, '3xx': { requests: 1, bytes: 0 } }, latencyMs: { max: 1.5 } });
  });

  it('takes an empty part', async () => {
    const { result, outputs } = await call('log-analyze', null, [await given('e.log', '')]);
    expect(result).toMatchObject({ requests: 0, bytes: 0, distinctAddresses: 0, busiest: null, topAddresses: [] });
    expect(outputs[0]?.sizeBytes).toBe(0);
    expect((await call('log-merge', [result], outputs)).result).toMatchObject({ parts: 1, requests: 0, latencyMs: null });
  });
});

describe('log-merge', () => {
  it('merges nothing into nothing', async () => {
    expect((await call('log-merge', [], [])).result).toMatchObject({ parts: 0, requests: 0, distinctAddresses: 0, topAddresses: [], latencyMs: null });
  });

  it('refuses tables that do not belong to the summaries', async () => {
    const { result } = await call('log-analyze', null, [await given('x.log', '1.1.1.1 - - [t] "G" 200 1\n')]);
    await expect(call('log-merge', [result], [])).rejects.toThrow(/one table for each summary, not 0 for 1/);
    await expect(call('log-merge', [result], [await given('t.tsv', '1.1.1.1\t2\t1\n')])).rejects.toThrow(/count 1 requests, the tables 2/);
    await expect(call('log-merge', [result], [await given('t.tsv', 'what\n')])).rejects.toThrow(/is no table of addresses: "what"/);
  });
});
