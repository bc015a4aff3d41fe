/** The inference application with its real packages: a trained network over real tables against what plain JavaScript computes, and tables that are none. */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPS, inputOf, unpackApp, type Input, type Ran, type UnpackedApp } from './unpacked.ts';

interface Truth {
  readonly bytes: number;
  readonly payload: { readonly ranges: Readonly<Record<string, readonly [number, number]>> };
  readonly rows: number;
  readonly predictions: string;
  readonly classes: Readonly<Record<string, number>>;
  readonly accuracy: number;
}

// Plain JavaScript, both.
const { makeInput } = (await import(pathToFileURL(join(APPS, 'inference', 'make-input.mjs')).href)) as { makeInput: (options: { path: string; bytes: number; seed?: number }) => Promise<Truth> };
const { checkOutput } = (await import(pathToFileURL(join(APPS, 'inference', 'check-output.mjs')).href)) as { checkOutput: (run: { truth: Truth; result: unknown; outputs: readonly Input[] }) => Promise<readonly string[]> };

let folder = '';
let call: UnpackedApp['call'];
let given: UnpackedApp['given'];
beforeAll(async () => {
  ({ folder, call, given } = await unpackApp('inference'));
}, 180_000);
afterAll(() => (folder === '' ? undefined : rm(folder, { recursive: true, force: true })));

async function made(bytes: number, seed = 1): Promise<{ readonly truth: Truth; readonly input: Input }> {
  const path = join(folder, 'irises.csv');
  return { truth: await makeInput({ path, bytes, seed }), input: await inputOf(path) };
}

/** What the workflow does, step by step. */
async function infer(event: unknown, input: Input): Promise<{ readonly normalized: Ran; readonly processed: Ran }> {
  const normalized = await call('ml-normalize', event, [input]);
  return { normalized, processed: await call('ml-process', normalized.result, normalized.outputs) };
}

const textOf = async (ran: Ran): Promise<string> => readFile(ran.outputs[0]?.path ?? '', 'utf8');

describe('the maker', () => {
  it('makes the same table for the same seed, of about the size that is asked for', async () => {
    const digest = async (seed: number): Promise<string> => createHash('sha256').update(await readFile((await made(50_000, seed)).input.path)).digest('hex');
    expect(await digest(1)).toBe(await digest(1));
    expect(await digest(1)).not.toBe(await digest(2));
    const { truth, input } = await made(50_000);
    expect(truth.bytes).toBe(input.sizeBytes);
    expect(Math.abs(truth.bytes - 50_000)).toBeLessThan(100);
  });

  it('makes irises that look like irises', async () => {
    const { truth, input } = await made(100_000);
    const rows = (await readFile(input.path, 'utf8')).trim().split('\n').slice(1).map((line) => line.split(','));
    expect(rows).toHaveLength(truth.rows);
    const meanOf = (species: string, column: number): number => {
      const values = rows.filter((row) => row[5] === species).map((row) => Number(row[column]));
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    // Fisher's means of petal length in cm.
    expect(meanOf('setosa', 3)).toBeCloseTo(1.462, 1);
    expect(meanOf('versicolor', 3)).toBeCloseTo(4.26, 1);
    expect(meanOf('virginica', 3)).toBeCloseTo(5.552, 1);
  });
});

describe('the workflow ml-inference', () => {
  it('says about every row what the network says in plain JavaScript, and is right in 95 of 100', async () => {
    for (const seed of [1, 2, 3]) {
      const { truth, input } = await made(120_000, seed);
      const { normalized, processed } = await infer(truth.payload, input);
      expect(normalized.result).toMatchObject({ rows: truth.rows, incomplete: 0, others: ['id', 'species'] });
      expect(await checkOutput({ truth, ...processed })).toEqual([]);
      expect((processed.result as { accuracy: number }).accuracy).toBeGreaterThanOrEqual(0.95);
      // Its own data set, too: part of loading it.
      expect(processed.result).toMatchObject({ model: { knownAccuracy: expect.closeTo(0.973, 2) as number } });
    }
  }, 60_000);

  it('has a check that finds another class, another count and another accuracy', async () => {
    const { truth, input } = await made(30_000);
    const { processed } = await infer(truth.payload, input);
    const first = truth.predictions[0] === '0' ? '1' : '0';
    expect((await checkOutput({ truth: { ...truth, predictions: first + truth.predictions.slice(1) }, ...processed })).join()).toMatch(/^1 rows have another class; the first is row 1: /);
    expect((await checkOutput({ truth: { ...truth, accuracy: 0.5 }, ...processed })).join()).toMatch(/the accuracy is 0\.9\d*, not 0\.5/);
    expect((await checkOutput({ truth: { ...truth, classes: { ...truth.classes, setosa: 7 } }, ...processed })).join()).toContain('setosa is counted');
    expect((await checkOutput({ truth: { ...truth, rows: 3 }, ...processed })).join()).toContain('predictions');
  });
});

describe('ml-normalize', () => {
  const normalize = async (content: string, event: unknown = null): Promise<Ran> => call('ml-normalize', event, [await given('t.csv', Buffer.from(content))]);

  it('brings columns into the range of their own values, and leaves text as it is', async () => {
    const ran = await normalize('\uFEFFa, b ,name,same\r\n1,-5,"x, ""y""",7\r\n3,5,z,7\r\n\r\n2,0,,7\r\n');
    expect(await textOf(ran)).toBe('a,b,name,same\n0.000000,0.000000,"x, ""y""",0.000000\n1.000000,1.000000,z,0.000000\n0.500000,0.500000,,0.000000\n');
    expect(ran.result).toEqual({ rows: 3, incomplete: 0, columns: [{ name: 'a', low: 1, high: 3 }, { name: 'b', low: -5, high: 5 }, { name: 'same', low: 7, high: 7 }], others: ['name'] });
  });

  it('uses the ranges that it is given, also for values outside of them and for a single row', async () => {
    expect(await textOf(await normalize('a,b\n5,1\n25,2\n', { ranges: { a: [10, 20] } }))).toBe('a,b\n-0.500000,1\n1.500000,2\n');
    expect(await textOf(await normalize('a\n5\n', { ranges: { a: [0, 10] } }))).toBe('a\n0.500000\n');
  });

  it('leaves rows with missing numbers out and counts them', async () => {
    const ran = await normalize('a,n\n1,x\n,y\n3,\n');
    expect(ran.result).toMatchObject({ rows: 2, incomplete: 1 });
    expect(await textOf(ran)).toBe('a,n\n0.000000,x\n1.000000,\n');
  });

  it.each<[what: string, content: string, event: unknown, message: RegExp]>([
    ['an empty table', '\n\n', null, /"t\.csv" is empty/],
    ['a table without a header', '1,2\n3,4\n', null, /has no header: its first line is "1,2", all numbers/],
    ['a header without a table', 'a,b\n', null, /has a header and no rows/],
    ['a row that is too short', 'a,b\n1,2\n3\n', null, /has 1 cells in line 3, but 2 columns/],
    ['two columns of one name', 'a,a\n1,2\n', null, /has two columns "a"/],
    ['an open quote', 'a,b\n"1,2\n', null, /a quote that does not end in line 2/],
    ['text behind a quote', 'a,b\n"1"x,2\n', null, /text behind a closing quote in line 2/],
    ['bytes', 'a,b\n\0,\0\n', null, /is no text: it has zero bytes/],
    ['no numbers at all', 'a\nx\n', null, /has no column of numbers/],
    ['a table with nothing whole', 'a,b\n1,\n,2\n', null, /no row without missing numbers/],
    ['text where a number must be', 'a,b\n1,2\nx,2\n', { ranges: { a: [0, 1] } }, /has "x" in column "a", where a number is needed \(row 2\)/],
    ['ranges of a column that is not there', 'a,b\n1,2\n', { ranges: { c: [0, 1] } }, /has no column "c"; it has a, b/],
    ['ranges the wrong way round', 'a,b\n1,2\n', { ranges: { a: [1, 0] } }, /the range of "a" must be two numbers, the smaller first, not \[1,0\]/],
    ['ranges that are none', 'a,b\n1,2\n', { ranges: [] }, /ranges must be an object of columns/],
  ])('refuses %s', async (_what, content, event, message) => {
    await expect(normalize(content, event)).rejects.toThrow(message);
  });

  it('says that it needs one table', async () => {
    await expect(call('ml-normalize', null, [])).rejects.toThrow('ml-normalize needs exactly one input object, a table, not 0');
  });
});

describe('ml-process', () => {
  const HEADER = 'sepal_length,sepal_width,petal_length,petal_width';
  const ROWS = { setosa: '0.2,0.6,0.08,0.05', versicolor: '0.45,0.3,0.55,0.5', virginica: '0.65,0.4,0.8,0.85' };
  const infers = async (content: string): Promise<Ran> => call('ml-process', null, [await given('n.csv', content)]);

  it('knows typical irises, with or without their names', async () => {
    const { result, outputs } = await infers(`${HEADER},species\n${ROWS.setosa},Setosa\n${ROWS.versicolor},versicolor\n${ROWS.virginica},setosa\n${ROWS.virginica},unknown\n`);
    expect(result).toMatchObject({ rows: 4, classes: { setosa: 1, versicolor: 1, virginica: 2 }, accuracy: 2 / 3, confusion: [[1, 0, 1], [0, 1, 0], [0, 0, 0]] });
    expect((await readFile(outputs[0]?.path ?? '', 'utf8')).replaceAll(/,[01]\.\d{4}$/gm, '')).toBe('class,probability\nsetosa\nversicolor\nvirginica\nvirginica\n');
    expect((await infers(`${HEADER}\n${ROWS.setosa}\n`)).result).toMatchObject({ rows: 1, accuracy: null, confusion: null, order: null });
  });

  it('sees whether rows come in a rhythm', async () => {
    const rhythm = (await infers(`${HEADER}\n${Array.from({ length: 64 }, (_, i) => (i % 4 < 2 ? ROWS.setosa : ROWS.virginica)).join('\n')}\n`)).result;
    expect(rhythm).toMatchObject({ order: { period: 4, share: expect.closeTo(1, 6) as number } });
    expect((await infers(`${HEADER}\n${Array.from({ length: 64 }, () => ROWS.setosa).join('\n')}\n`)).result).toMatchObject({ order: null });
  });

  it.each([
    ['a table without the columns that the model needs', 'sepal_length,petal_length\n1,2\n', /has no column "sepal_width", "petal_width"; it has sepal_length, petal_length/],
    ['a table without rows', `${HEADER}\n`, /has no rows/],
    ['text where a number must be', `${HEADER}\n1,2,3,x\n`, /has "x" in column "petal_width", where a number is needed \(row 1\)/],
    ['a missing number', `${HEADER}\n1,2,,4\n`, /has "" in column "petal_length"/],
    ['a row of another length', `${HEADER}\n1,2,3\n`, /no valid table: Too few fields.* \(row 1\)/],
  ])('refuses %s', async (_what, content, message) => {
    await expect(infers(content)).rejects.toThrow(message);
  });
});
