import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatLogHeader, formatObservation } from '../../src/predictor/observation-log.ts';
import { parseProfiles } from '../../src/sim/profile-file.ts';
import { createSyntheticExecutions } from '../../src/workload/synthetic-executions.ts';
import { recordSimulation, writeRecording } from '../recording/recorded-simulation.ts';
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

  it('reads folders: recordings of a scheduler, the newest of several, and folders of observations', async () => {
    const recordings = join(dir, 'recordings');
    await mkdir(recordings);
    const { head, sink, sim } = recordSimulation({ durationMs: 6_000 });
    const { folder } = writeRecording(recordings, head, sink.blocks, 2);
    const { code, out, err } = await run(['sim', 'calibrate', 'recordings', '-o', 'json'], { cwd: dir });
    expect([code, err]).toEqual([0, expect.stringMatching(new RegExp(`^recordings: ${sim.scheduler.counters.completed} executions, \\d+ excluded\n$`))]);
    const { functions } = JSON.parse(out) as { functions: { function: string; profile: { runMs: number; runMsPerMib: number } }[] };
    expect(functions.map(({ function: name }) => name)).toEqual(['f0', 'f1', 'f2', 'f3', 'f4', 'f5']);
    expect(functions[0]?.profile.runMs).toBeGreaterThan(20);
    // The folder of one recording is meant itself.
    expect((await run(['sim', 'calibrate', folder, '-o', 'json'], { cwd: dir })).out).toBe(out);
    const older = join(recordings, '20251125T190838123Z-1');
    await mkdir(older);
    await copyFile(join(folder, '000001.mrec'), join(older, '000001.mrec'));
    expect((await run(['sim', 'calibrate', 'recordings', '-o', 'json'], { cwd: dir })).err).toContain('(20261125T190838123Z-1, the newest of 2 recordings)');
    await mkdir(join(dir, 'observed'));
    await copyFile(join(dir, 'seen.jsonl'), join(dir, 'observed', 'observations.jsonl'));
    await copyFile(join(dir, 'seen.jsonl'), join(dir, 'observed', 'observations-1.jsonl'));
    expect((await run(['sim', 'calibrate', 'observed', '-o', 'json'], { cwd: dir })).err).toBe('observed: 1200 executions, 0 excluded (2 files of observations)\n');
  });

  it('says of a folder without a recording, and of a damaged one, what is wrong and where', async () => {
    await mkdir(join(dir, 'nothing'));
    expect(await run(['sim', 'calibrate', 'nothing'], { cwd: dir })).toMatchObject({ code: 2, err: expect.stringContaining('nothing holds no recording') as string });
    const damaged = join(dir, '20261125T190838123Z-2');
    await mkdir(damaged);
    await writeFile(join(damaged, '000001.mrec'), 'NOTAFILE and more than twenty bytes');
    expect(await run(['sim', 'calibrate', damaged], { cwd: dir })).toMatchObject({ code: 1, err: expect.stringContaining('000001.mrec, byte 0: this is no segment of a recording') as string });
    const short = recordSimulation({ durationMs: 60 });
    await mkdir(join(dir, 'few'));
    writeRecording(join(dir, 'few'), short.head, short.sink.blocks);
    expect(await run(['sim', 'calibrate', 'few'], { cwd: dir })).toMatchObject({ code: 2, err: expect.stringContaining('few: no function has 5 successful executions; nothing can be fitted.') as string });
  });
});

describe('metronome sim run', () => {
  const SMALL = 'nodes: 3\nduration: 4s\nwarmUp: 500ms\narrivals: { most: 20, least: 5 }\nfunctions:\n  - { name: a, copies: 3, input: 1MiB }\npolicies: [metronome, round-robin]\nseeds: 2\n';

  it('runs the example that it prints, labelled as simulation, with intervals over the seeds and progress beside', async () => {
    const example = await run(['sim', 'example'], { cwd: dir });
    await writeFile(join(dir, 'example.yaml'), example.out.replace('duration: 60s', 'duration: 12s'));
    const { code, out, err } = await run(['sim', 'run', 'example.yaml', '--seeds', '2', '--threads', '2'], { cwd: dir });
    expect(code).toBe(0);
    expect(out).toMatch(/^SIMULATED POLICY +MEAN ms .*\nround-robin +[\d.]+ ± [\d.]+ .*\nmetronome .*\nlookahead /);
    expect(err).toMatch(/^SIMULATION: 10 nodes, 20 functions, 12 s of virtual time, 3 × 2 replicas\n(?:\[\d\/6\] \S+, seed [12]: \d+ invocations, mean [\d.]+ ms\n){6}$/);
  }, 60_000);

  it('gives the same as JSON, as CSV, with any number of threads', async () => {
    await writeFile(join(dir, 'small.yaml'), SMALL);
    const json = await run(['sim', 'run', 'small.yaml', '--threads', '1', '-o', 'json', '-q'], { cwd: dir });
    const { simulation, policies, replicas } = JSON.parse(json.out) as { simulation: boolean; policies: { policy: string; replicas: number; meanMs: { low: number; mean: number; high: number } }[]; replicas: { policy: string; seed: number; digest: string }[] };
    expect([simulation, json.err]).toEqual([true, '']);
    expect(policies.map(({ policy, replicas: count }) => [policy, count])).toEqual([['metronome', 2], ['round-robin', 2]]);
    for (const { meanMs: { low, mean, high } } of policies) expect(low <= mean && mean <= high).toBe(true);
    const csv = await run(['sim', 'run', 'small.yaml', '--threads', '2', '--csv', '-q'], { cwd: dir });
    const [header, ...lines] = csv.out.trimEnd().split('\n').map((line) => line.split(','));
    expect(lines.map((line) => [line[0], line[1], Number(line[2]), line[header!.indexOf('digest')]])).toEqual(replicas.map(({ policy, seed, digest }) => ['true', policy, seed, digest]));
    const one = await run(['sim', 'run', 'small.yaml', '--policy', 'round-robin', '--seed', '2', '--seeds', '1', '--csv', '-q'], { cwd: dir });
    expect(one.out.trimEnd().split('\n')[1]).toBe(csv.out.trimEnd().split('\n')[4]);
  }, 60_000);

  it('uses fitted profiles', async () => {
    await run(['sim', 'calibrate', 'seen.jsonl', '--profiles', 'fitted.json', '-q'], { cwd: dir });
    await writeFile(join(dir, 'fitted.yaml'), `${SMALL.replace('{ name: a, copies: 3, input: 1MiB }', '{ name: p, copies: 3, input: 1MiB, profile: ml-process }')}profiles: fitted.json\n`);
    const { out } = await run(['sim', 'run', 'fitted.yaml', '--policy', 'metronome', '-o', 'json', '-q'], { cwd: dir });
    const small = await run(['sim', 'run', 'small.yaml', '--policy', 'metronome', '-o', 'json', '-q'], { cwd: dir });
    const mean = (text: string): number => (JSON.parse(text) as { policies: { meanMs: { mean: number } }[] }).policies[0]!.meanMs.mean;
    expect(mean(out)).not.toBe(mean(small.out));
  }, 60_000);

  it.each([
    ['nodes: ten\nnod: {}\nfunctions:\n  - name: A\n    inpt: 3\n', ['bad.yaml:1:8 nodes must be a whole number from 1 to 10000, not "ten"', 'bad.yaml:2:1 nod is no key here; did you mean "node"?', 'bad.yaml:4:11 functions[0].name must be lower-case letters', 'bad.yaml:5:5 functions[0].inpt is no key here; did you mean "input"?']],
    ['nodes: 3\nfaults: { kil: 1, kill: -1 }\nfunctions:\n  - { name: a, profile: x }\npolicies: [metronom]\n', ['bad.yaml:2:16 faults.kil is no kind of fault; did you mean "kill"?', 'faults.kill must be a number per minute from 0 to 100000, not -1', 'functions[0].profile needs a file of profiles', 'policies[0] "metronom" is no policy; did you mean "metronome"?']],
    ['nodes: 3\nwarmUp: 2m\nfunctions: [{ name: a }, { name: a }]\nscheduler: { delay.localityGains: 1 }\n', ['warmUp must be shorter than the duration', '"a" is there twice', 'bad.yaml:4:35 scheduler.delay.localityGains there is no configuration key "delay.localityGains"']],
    ['functions: []\n', ['nodes is missing; it must be a whole number from 1 to 10000', 'functions must have at least one function']],
    ['a: [\n', ['is not valid YAML']],
    ['', ['has no scenario']],
  ])('says where a scenario is wrong: %j', async (content, messages) => {
    await writeFile(join(dir, 'bad.yaml'), content);
    const { code, err } = await run(['sim', 'run', 'bad.yaml'], { cwd: dir });
    expect(code).toBe(2);
    for (const message of messages) expect(err).toContain(message);
  });

  it('runs the calls of a public trace, and says where one is wrong', async () => {
    const minutes = Array.from({ length: 1_440 }, (_, i) => i + 1);
    const row = (name: string, perMinute: number): string => `o,a,${name},http,${minutes.map((minute) => (minute <= 6 ? perMinute : 0)).join(',')}`;
    await writeFile(join(dir, 'd01.csv'), [`HashOwner,HashApp,HashFunction,Trigger,${minutes.join(',')}`, row('x', 30), row('y', 60), row('z', 5)].join('\n'));
    const scenario = SMALL.replace('duration: 4s', 'duration: 2m').replace('{ most: 20, least: 5 }', '{ trace: d01.csv, from: 1m }').replace('copies: 3', 'copies: 2');
    await writeFile(join(dir, 'traced.yaml'), scenario);
    const { code, out } = await run(['sim', 'run', 'traced.yaml', '--csv', '-q'], { cwd: dir });
    expect(code).toBe(0);
    const [header, ...lines] = out.trimEnd().split('\n').map((line) => line.split(','));
    // Two minutes with 95 calls each, under either policy and with any seed.
    expect(lines.map((line) => line[header!.indexOf('submitted')])).toEqual(['190', '190', '190', '190']);
    await writeFile(join(dir, 'traced.yaml'), scenario.replace('d01.csv', 'd01.csv, format: azure-2021'));
    expect(await run(['sim', 'run', 'traced.yaml'], { cwd: dir })).toMatchObject({ code: 2, err: expect.stringContaining('arrivals.trace d01.csv:1 has no column "app", "func"') as string });
  }, 60_000);

  it('shrinks what breaks, and prints the one command that shows it again', async () => {
    // No sandbox ever fits, and nobody gives up before the simulation does: what was accepted never ends.
    await writeFile(join(dir, 'hopeless.yaml'), `${SMALL.replace('nodes: 3', 'nodes: 3\nnode: { memory: 16MiB }')}faults: { slow: 6, drain: 3 }\nscheduler: { limits.maxWait: 1h }\n`);
    const broken = await run(['sim', 'run', 'hopeless.yaml', '--policy', 'metronome', '--seed', '3', '--seeds', '1', '--shrink'], { cwd: dir });
    expect(broken.code).toBe(1);
    expect(broken.err).toMatch(/metronome, seed 3: at .* live on: .*Again: metronome sim run hopeless\.yaml --policy metronome --seed 3 --seeds 1\n/);
    const [, command = ''] = /The smallest that still breaks: metronome (sim run .*)\n/.exec(broken.err) ?? [];
    expect(command).toMatch(/ --part nodes=1,functions=1,duration=\d+,faults=none$/);
    expect(await run(command.split(' '), { cwd: dir })).toMatchObject({ code: 1, err: expect.stringContaining(`Again: metronome ${command}\n`) as string });
    expect(await run(['sim', 'run', 'hopeless.yaml', '--part', 'nodes=4'], { cwd: dir })).toMatchObject({ code: 2, err: expect.stringContaining('nodes must be from 1 to 3, not "4"') as string });
  }, 120_000);

  it('refuses policies that are none, and files that are not there', async () => {
    await writeFile(join(dir, 'small.yaml'), SMALL);
    expect(await run(['sim', 'run', 'small.yaml', '--policy', 'lookahed'], { cwd: dir })).toMatchObject({ code: 2, err: expect.stringContaining('Did you mean "lookahead"?') as string });
    expect(await run(['sim', 'run', 'none.yaml'], { cwd: dir })).toMatchObject({ code: 2, err: expect.stringContaining('The scenario "none.yaml" cannot be read') as string });
  });
});
