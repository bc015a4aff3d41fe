import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readAzure2019 } from '../../src/workload/traces/azure-2019.ts';
import { readAzure2021 } from '../../src/workload/traces/azure-2021.ts';
import { readHuawei2023 } from '../../src/workload/traces/huawei-2023.ts';
import { readTrace, type RankedCalls, type TracePart } from '../../src/workload/traces/read-trace.ts';
import { linesOf, type TracedCall } from '../../src/workload/traces/trace.ts';

async function all(calls: AsyncIterable<TracedCall>): Promise<TracedCall[]> {
  const found: TracedCall[] = [];
  for await (const call of calls) found.push(call);
  return found;
}

const azure2019 = (rows: readonly (readonly [string, string, Readonly<Record<number, string>>])[]): string => {
  const minutes = Array.from({ length: 1_440 }, (_, i) => i + 1);
  return [`HashOwner,HashApp,HashFunction,Trigger,${minutes.join(',')}`, ...rows.map(([app, name, counts]) => `o,${app},${name},http,${minutes.map((minute) => counts[minute] ?? '0').join(',')}`)].join('\n');
};

describe('lines', () => {
  it('come out whole, however the text is cut, with either line end and without a last one', async () => {
    const found: string[] = [];
    for await (const { text, number } of linesOf(['a', 'b\r\nc', '\n', '\nd'], 'f')) found.push(`${number}:${text}`);
    expect(found).toEqual(['1:ab', '2:c', '3:', '4:d']);
  });

  it('that never end are refused', async () => {
    await expect(all(readAzure2021(['x'.repeat(300_000)], 'big.csv'))).rejects.toThrow('big.csv:1 has more than 262144 characters; is this a text file?');
  });
});

describe('the Azure trace of 2019', () => {
  const text = azure2019([['app1', 'fn1', { 1: '2', 3: '1' }], ['app2', 'fn2', { 3: '4' }]]);

  it('gives the calls of each minute within it, in order', async () => {
    const calls = await all(readAzure2019([text], 'd01.csv', { seed: 1 }));
    expect(calls.map(({ function: name, application, atMs }) => `${application}/${name} ${Math.floor(atMs / 60_000)}`).sort()).toEqual(['app1/fn1 0', 'app1/fn1 0', 'app1/fn1 2', 'app2/fn2 2', 'app2/fn2 2', 'app2/fn2 2', 'app2/fn2 2']);
    expect(calls.map(({ atMs }) => atMs)).toEqual(calls.map(({ atMs }) => atMs).sort((a, b) => a - b));
    expect(await all(readAzure2019([text], 'd01.csv', { seed: 1 }))).toEqual(calls);
  });

  it('gives a part of the day, from 0 on, and a share of it', async () => {
    const part = await all(readAzure2019([text], 'd01.csv', { seed: 1, fromMinute: 3, minutes: 1 }));
    expect(part).toHaveLength(5);
    expect(Math.max(...part.map(({ atMs }) => atMs))).toBeLessThan(60_000);
    const many = azure2019([['a', 'f', { 1: '2000' }]]);
    const share = (await all(readAzure2019([many], 'd.csv', { seed: 1, share: 0.25 }))).length;
    expect(share).toBeGreaterThan(400);
    expect(share).toBeLessThan(600);
  });

  it.each<[string, string, string]>([
    ['an empty file', '', 'd.csv:1 is empty; a trace in the format Azure 2019 begins with a line of column names.'],
    ['another header', 'app,func\n', 'd.csv:1 has no column "HashOwner", "HashApp", "HashFunction", "Trigger", "1", "1440"; the format Azure 2019 has HashOwner, HashApp, HashFunction, Trigger, 1, 1440. Found: app, func.'],
    ['a word for a number', azure2019([['a', 'f', { 7: 'many' }]]), 'd.csv:2 column 7 must be a number of at least 0, not "many".'],
    ['a negative count', azure2019([['a', 'f', { 1440: '-1' }]]), 'd.csv:2 column 1440 must be a number of at least 0, not "-1".'],
    ['a line that is cut off', `${azure2019([['a', 'f', {}]])}\no,b,g,http,1,2`, 'd.csv:3 has 6 columns, the header has 1444.'],
  ])('refuses %s and names the place', async (_name, content, message) => {
    await expect(all(readAzure2019([content], 'd.csv', { seed: 1 }))).rejects.toMatchObject({ code: 'TRACE_INVALID', message });
  });

  it('has a bound', async () => {
    await expect(all(readAzure2019([text], 'd.csv', { seed: 1, maxFunctions: 1 }))).rejects.toThrow('d.csv:3 is the function number 2; at most 1 are read.');
  });
});

describe('the Azure trace of 2021', () => {
  it('is put in order of the beginnings, from 0 on', async () => {
    const calls = await all(readAzure2021(['app,func,end_timestamp,duration\na,f,110.5,0.5\nb,g,111,10\n'], 't.csv'));
    expect(calls).toEqual([{ atMs: 0, function: 'g', application: 'b', durationMs: 10_000 }, { atMs: 9_000, function: 'f', application: 'a', durationMs: 500 }]);
  });

  it.each<[string, string, string]>([
    ['a missing column', 'app,func,duration\n', 't.csv:1 has no column "end_timestamp"; the format Azure 2021 has app, func, end_timestamp, duration. Found: app, func, duration.'],
    ['an empty cell', 'app,func,end_timestamp,duration\na,f,,1\n', 't.csv:2 column end_timestamp must be a number of at least 0, not "".'],
    ['too many columns', 'app,func,end_timestamp,duration\na,f,1,1,1\n', 't.csv:2 has 5 columns, the header has 4.'],
  ])('refuses %s and names the place', async (_name, content, message) => {
    await expect(all(readAzure2021([content], 't.csv'))).rejects.toMatchObject({ code: 'TRACE_INVALID', message });
  });

  it('has a bound', async () => {
    await expect(all(readAzure2021(['app,func,end_timestamp,duration\na,f,1,1\na,f,2,1\n'], 't.csv', { maxCalls: 1 }))).rejects.toThrow('t.csv:3 is the call number 2; at most 1 are read.');
  });
});

describe('the Huawei trace of 2023', () => {
  it('gives the calls of each interval within it; an empty cell is none', async () => {
    const calls = await all(readHuawei2023(['day,time,0,17\n3,60,2,\n3,120,,1\n'], 'day_003.csv', { seed: 1 }));
    expect(calls.map(({ function: name, atMs }) => `${name} ${Math.floor(atMs / 60_000)}`)).toEqual(['0 0', '0 0', '17 1']);
  });

  it('takes the interval from the times: seconds here', async () => {
    const calls = await all(readHuawei2023(['day,time,0\n1,0,5\n1,1,5\n'], 'day_001.csv', { seed: 1 }));
    expect(calls.filter(({ atMs }) => atMs < 1_000)).toHaveLength(5);
    expect(Math.max(...calls.map(({ atMs }) => atMs))).toBeLessThan(2_000);
  });

  it.each<[string, string, string]>([
    ['no function', 'day,time\n', 'h.csv:1 names no function beside day and time.'],
    ['times that stand still', 'day,time,0\n1,60,1\n1,60,1\n', 'h.csv:3 column time must grow from line to line; 60 follows 60.'],
    ['a word', 'day,time,0\n1,60,x\n', 'h.csv:2 column 0 must be a number of at least 0, not "x".'],
  ])('refuses %s and names the place', async (_name, content, message) => {
    await expect(all(readHuawei2023([content], 'h.csv', { seed: 1 }))).rejects.toMatchObject({ code: 'TRACE_INVALID', message });
  });
});

describe('a part of a trace', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'metronome-traces-'));
  });
  afterAll(() => rm(dir, { recursive: true }));
  const part = async (name: string, content: string | Uint8Array, more: Partial<TracePart>): Promise<RankedCalls> => {
    await writeFile(join(dir, name), content);
    return readTrace({ path: join(dir, name), file: name, format: 'azure-2019', fromMs: 0, durationMs: 86_400_000, share: 1, seed: 1, ...more });
  };

  it('ranks functions by their calls in it, whatever they did before and after', async () => {
    const text = azure2019([['a', 'rare', { 1: '50', 11: '1' }], ['b', 'often', { 11: '3', 12: '2' }], ['a', 'later', { 13: '9' }]]);
    const { functions, atMs, rank, durationMs } = await part('d01.csv', text, { fromMs: 600_000, durationMs: 120_000 });
    expect(functions).toBe(2);
    expect(rank.filter((each) => each === 0)).toHaveLength(5);
    expect(rank.filter((each) => each === 1)).toHaveLength(1);
    expect(atMs).toEqual([...atMs].sort((a, b) => a - b));
    expect([Math.min(...atMs) >= 0, Math.max(...atMs) < 120_000]).toEqual([true, true]);
    expect(durationMs).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('keeps how long calls ran, and takes a share of any format, packed or not', async () => {
    const lines = ['app,func,end_timestamp,duration', ...Array.from({ length: 1_000 }, (_, i) => `a,f${i % 2},${i + 1},1`)].join('\n');
    const whole = await part('t.csv', lines, { format: 'azure-2021' });
    expect([whole.atMs.length, whole.durationMs[0]]).toEqual([1_000, 1_000]);
    const share = await part('t.csv.gz', gzipSync(lines), { format: 'azure-2021', share: 0.3 });
    expect(share.atMs.length).toBeGreaterThan(230);
    expect(share.atMs.length).toBeLessThan(370);
  });

  it.each<[string, string, Partial<TracePart>, string]>([
    ['is empty', azure2019([['a', 'f', { 1: '2' }]]), { fromMs: 600_000 }, 'x.csv has no call in this time.'],
    ['is too large', azure2019([['a', 'f', { 1: '20' }]]), { maxCalls: 19 }, 'x.csv has more than 19 calls in this time. Take a share of them, or less time.'],
    ['is broken', 'app,func\n', {}, 'x.csv:1 has no column "HashOwner"'],
    ['is not there', '', { path: '/nowhere/x.csv' }, 'x.csv cannot be read: ENOENT'],
  ])('that %s is refused', async (_name, content, more, message) => {
    await expect(part('x.csv', content, more)).rejects.toMatchObject({ code: 'TRACE_INVALID', message: expect.stringContaining(message) as string });
  });
});
