import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatLogHeader, formatObservation } from '../../src/predictor/observation-log.ts';
import { parseProfiles } from '../../src/sim/profile-file.ts';
import { createSyntheticExecutions } from '../../src/workload/synthetic-executions.ts';
import { run } from './run.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-sim-'));
  const source = createSyntheticExecutions(4);
  let lines = formatLogHeader({ source: 'synthetic', note: 'for a test' });
  for (let i = 0; i < 600; i++) {
    const { situation: { functionIndex, nodeIndex, ...situation }, phases } = source.next();
    lines += formatObservation({ function: source.functions[functionIndex]!.name, node: `n${nodeIndex}`, application: '', situation, phases });
  }
  await writeFile(join(dir, 'seen.jsonl'), lines);
});
afterAll(() => rm(dir, { recursive: true }));

describe('metronome sim calibrate', () => {
  it('fits all functions of a recording, says how good the fit is, and writes profiles that can be read again', async () => {
    const { code, out, err } = await run(['sim', 'calibrate', 'seen.jsonl', '--profiles', 'profiles.json', '-o', 'json'], { cwd: dir });
    expect([code, err]).toEqual([0, 'seen.jsonl: 600 executions, 0 excluded (for a test)\nprofiles.json: profiles of 10 functions\n']);
    const { functions } = JSON.parse(out) as { functions: { function: string; medianError: number; profile: unknown }[] };
    const written = parseProfiles(await readFile(join(dir, 'profiles.json'), 'utf8'), 'profiles.json');
    expect(written.functions).toEqual(Object.fromEntries(functions.map(({ function: name, profile }) => [name, profile])));
    expect(written.note).toBe('fitted by metronome sim calibrate to 600 executions of 10 functions (seen.jsonl)');
    for (const { medianError } of functions) expect(medianError).toBeLessThan(1);
    expect((await run(['sim', 'calibrate', 'seen.jsonl', '-o', 'wide'], { cwd: dir })).out).toMatch(/ml-process +\d+ +\d+\/\d+\/\d+\/\d+ /);
  });

  it('names file and line of what it cannot read, and says when there is too little', async () => {
    await writeFile(join(dir, 'bad.jsonl'), `${formatLogHeader({ source: 'recorded', note: '' })}{"f":"x","n":"n","s":{},"p":[0,"soon",1]}\n`);
    const bad = await run(['sim', 'calibrate', 'bad.jsonl'], { cwd: dir });
    expect([bad.code, bad.err]).toEqual([1, expect.stringContaining('bad.jsonl:2 is not a recording of observations: "p" must hold three numbers')]);
    await writeFile(join(dir, 'short.jsonl'), `${formatLogHeader({ source: 'recorded', note: '' })}{"f":"x","n":"n","s":{},"p":[0,0,1]}\n`);
    const short = await run(['sim', 'calibrate', 'short.jsonl'], { cwd: dir });
    expect([short.code, short.err]).toEqual([2, expect.stringContaining('short.jsonl: no function has 5 successful executions; nothing can be fitted.')]);
    expect((await run(['sim', 'calibrate', 'none.jsonl'], { cwd: dir })).err).toContain('none.jsonl cannot be read');
  });
});
