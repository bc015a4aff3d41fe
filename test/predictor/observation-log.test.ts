import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatLogHeader, formatObservation, parseLogHeader, parseObservation, type RecordedObservation } from '../../src/predictor/observation-log.ts';
import { readRecording } from '../../src/workload/observation-file.ts';

const ONE: RecordedObservation = { function: 'log-split', node: 'node-1', application: 'log', situation: { startState: 4, inputBytes: 100 }, phases: { fetchedMs: 1, initialisedMs: 0.5, ranMs: 30 } };

describe('lines of a recording', () => {
  it('say again what was written', () => {
    expect(parseLogHeader(formatLogHeader({ source: 'recorded', note: 'two nodes' }), 'x:1')).toEqual({ source: 'recorded', note: 'two nodes' });
    for (const observation of [ONE, { ...ONE, served: { meanMs: 30, p95Ms: 40.5, p99Ms: 61 } }, { ...ONE, application: '', phases: undefined, excluded: 'timedOut' as const }, { ...ONE, node: '', situation: {}, phases: undefined, excluded: 'failed' as const, count: 3 }]) {
      const { phases, ...rest } = observation;
      const whole = (phases === undefined ? rest : observation) as RecordedObservation;
      expect(parseObservation(formatObservation(whole), 'x:2')).toEqual(whole);
    }
  });

  it.each([
    ['{', 'not JSON'],
    ['[]', 'not an object'],
    ['{"f":"","n":"a","s":{},"p":[1,2,3]}', '"f" must be'],
    ['{"f":"x","n":"a","s":{"cpu":1},"p":[1,2,3]}', '"cpu" is no feature'],
    ['{"f":"x","n":"a","s":{"functionIndex":1},"p":[1,2,3]}', '"functionIndex" is no feature'],
    ['{"f":"x","n":"a","s":{"inputBytes":"1"},"p":[1,2,3]}', 'no finite number'],
    ['{"f":"x","n":"a","s":{},"p":[1,2,-3]}', 'three numbers'],
    ['{"f":"x","n":"a","s":{},"p":[1,2,3],"q":[1,2]}', '"q" must hold three numbers'],
    ['{"f":"x","n":"a","s":{}}', 'exactly one of'],
    ['{"f":"x","n":"a","s":{},"x":"lost"}', 'must be one of failed'],
    ['{"f":"x","n":"a","s":{},"x":"failed","c":0}', '"c" must be a whole number'],
  ])('%s is refused with its place', (line, message) => {
    expect(() => parseObservation(line, 'file:7')).toThrow(message);
    expect(() => parseObservation(line, 'file:7')).toThrow('file:7');
  });
});

describe('a recording', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'metronome-recording-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('is read with indexes for names, zipped or not', async () => {
    const text = formatLogHeader({ source: 'recorded', note: '' }) + formatObservation(ONE) + formatObservation({ ...ONE, node: 'node-2' }) + formatObservation({ function: 'f', node: 'node-1', application: '', situation: {}, excluded: 'failed' })
      + formatObservation({ function: 'log-split', node: '', application: '', situation: {}, excluded: 'timedOut', count: 4 });
    const zipped = join(folder, 'a.jsonl.gz'), plain = join(folder, 'a.jsonl');
    await writeFile(zipped, gzipSync(text));
    await writeFile(plain, text);
    const recording = await readRecording(zipped);
    expect(recording.functions.map(({ name, application }) => [name, application])).toEqual([['log-split', 'log']]);
    expect(recording.executions.map(({ situation }) => [situation.functionIndex, situation.nodeIndex, situation.inputBytes])).toEqual([[0, 0, 100], [0, 1, 100]]);
    expect([recording.nodes, recording.excluded]).toEqual([['node-1', 'node-2'], 5]);
    expect(await readRecording(plain)).toEqual(recording);
  });

  it('that is cut, empty or something else is refused with its name', async () => {
    const path = join(folder, 'b.jsonl.gz');
    await writeFile(path, gzipSync(formatLogHeader({ source: 'recorded', note: '' }) + formatObservation(ONE)).subarray(0, 40));
    await expect(readRecording(path)).rejects.toThrow(/b\.jsonl\.gz/);
    await writeFile(path, gzipSync(''));
    await expect(readRecording(path)).rejects.toThrow('is empty');
    await writeFile(path, gzipSync('{"metronome":"observations","format":9,"source":"recorded"}\n'));
    await expect(readRecording(path)).rejects.toThrow('format 9, this build reads 1');
    await expect(readRecording(join(folder, 'none'))).rejects.toThrow('cannot be read');
  });
});
