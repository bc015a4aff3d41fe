/** metronome.yaml: what it means, and a golden table of what is wrong with bad ones. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadManifest, manifestJsonSchema, parseManifest } from '../../src/config/manifest.ts';
import { validateFunctionSpec, validateWorkflowSpec } from '../../src/config/spec.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { FunctionSpec } from '../../src/rpc/gen/metronome/v1/function.ts';
import { WorkflowSpec } from '../../src/rpc/gen/metronome/v1/workflow.ts';

const FUNCTION = (spec: string, name = 'f') => `apiVersion: metronome/v1\nkind: Function\nmetadata: { name: ${name} }\nspec:\n  runtime: node\n  handler: h.mjs\n${spec}`;
const WORKFLOW = (steps: string, name = 'w') => `apiVersion: metronome/v1\nkind: Workflow\nmetadata: { name: ${name} }\nspec:\n  steps:\n${steps}`;

const problemsOf = (content: string): string[] => parseManifest(content, 'm.yaml').violations.map(({ field, description }) => `${field} ${description}`);

describe('a valid manifest', () => {
  it('fills in the defaults', () => {
    const { functions, violations } = parseManifest(FUNCTION(''), 'm.yaml');
    expect(violations).toEqual([]);
    expect(functions[0]?.spec).toEqual({
      name: 'f', runtime: 'node', handler: 'h.mjs', memoryMb: 256, cpu: 1, timeoutMs: 60_000, slaMs: 10_000, concurrency: 0, packages: {}, env: {},
      retries: 0, idempotent: false, critical: false, localityKey: '', keepAliveMs: 0, policy: '', reuse: true, isolation: '', network: false, dependencyCount: 0, labels: {},
    });
    expect(functions[0]).toMatchObject({ code: '.', place: { file: 'm.yaml', line: 1, column: 1 } });
  });

  it('takes every field over', () => {
    const { functions, violations } = parseManifest(
      [
        'apiVersion: metronome/v1', 'kind: Function', 'metadata:', '  name: full-1', '  labels: { app: log, team/owner: a }', 'spec:', '  runtime: python3', '  handler: src/main.py#run',
        '  code: functions/full', '  memory: 1GiB', '  cpu: 0.5', '  timeout: 1m30s', '  sla: 250ms', '  concurrency: 7', '  env: { MODE: fast, PORT: "80" }', '  packages: ["requests>=2,<3", numpy]',
        '  retries: 2', '  idempotent: true', '  critical: true', '  localityKey: tenant', '  keepAlive: 5m', '  policy: round-robin', '  reuse: false', '  isolation: bubblewrap', '  network: true',
      ].join('\n'),
      'm.yaml',
    );
    expect(violations).toEqual([]);
    expect(functions[0]?.code).toBe('functions/full');
    expect(functions[0]?.spec).toEqual({
      name: 'full-1', runtime: 'python3', handler: 'src/main.py#run', memoryMb: 1_024, cpu: 0.5, timeoutMs: 90_000, slaMs: 250, concurrency: 7,
      packages: { requests: '>=2,<3', numpy: '*' }, env: { MODE: 'fast', PORT: '80' }, retries: 2, idempotent: true, critical: true, localityKey: 'tenant',
      keepAliveMs: 300_000, policy: 'round-robin', reuse: false, isolation: 'bubblewrap', network: true, dependencyCount: 0, labels: { app: 'log', 'team/owner': 'a' },
    });
  });

  it('reads packages as a map and as a list', () => {
    const map = parseManifest(FUNCTION('  packages: { d3-array: ^3.2.4, "@scope/x": "1" }\n'), 'm.yaml');
    const list = parseManifest(FUNCTION('  packages: [d3-array@^3.2.4, "@scope/x@1", plain]\n'), 'm.yaml');
    expect(map.functions[0]?.spec.packages).toEqual({ 'd3-array': '^3.2.4', '@scope/x': '1' });
    expect(list.functions[0]?.spec.packages).toEqual({ 'd3-array': '^3.2.4', '@scope/x': '1', plain: '*' });
  });

  it('reads workflows, with one name or a list behind `after`', () => {
    const { workflows, violations } = parseManifest(WORKFLOW('    - { name: a, function: f }\n    - { name: b, function: g, after: a, forEach: objects }\n    - { name: c, function: h, after: [a, b], critical: true }\n'), 'm.yaml');
    expect(violations).toEqual([]);
    expect(workflows[0]?.spec).toEqual({
      name: 'w', slaMs: 30_000, timeoutMs: 600_000, labels: {},
      steps: [
        { name: 'a', function: 'f', after: [], forEach: '', critical: false },
        { name: 'b', function: 'g', after: ['a'], forEach: 'objects', critical: false },
        { name: 'c', function: 'h', after: ['a', 'b'], forEach: '', critical: true },
      ],
    });
  });

  it('follows anchors and aliases, and finds places through them', () => {
    const { workflows, violations } = parseManifest(WORKFLOW('    - { name: &first a, function: f }\n    - { name: b, function: f, after: *first }\n'), 'm.yaml');
    expect(violations).toEqual([]);
    expect(workflows[0]?.spec.steps[1]?.after).toEqual(['a']);
    expect(problemsOf(WORKFLOW('    - { name: a, function: &bad F }\n    - { name: b, function: *bad }\n'))).toEqual([
      'm.yaml:6:33 spec.steps[0].function must be lower-case letters, digits and inner hyphens, at most 63 characters, not "F"',
      'm.yaml:7:28 spec.steps[1].function must be lower-case letters, digits and inner hyphens, at most 63 characters, not "F"',
    ]);
  });

  it('places the documents of a file', () => {
    const { functions, workflows } = parseManifest(`# about\n${FUNCTION('')}---\n${FUNCTION('', 'g')}---\n${WORKFLOW('    - { name: a, function: f }\n')}`, 'm.yaml');
    expect([...functions, ...workflows].map(({ spec, place }) => [spec.name, place.line])).toEqual([['f', 2], ['g', 9], ['w', 16]]);
  });

  it('yields specs that the checks for gRPC accept as well', () => {
    const { functions, workflows } = parseManifest(`${FUNCTION('  retries: 1\n  idempotent: true\n')}---\n${WORKFLOW('    - { name: a, function: f }\n')}`, 'm.yaml');
    expect(functions.flatMap(({ spec }) => validateFunctionSpec(spec))).toEqual([]);
    expect(workflows.flatMap(({ spec }) => validateWorkflowSpec(spec))).toEqual([]);
  });
});

describe('a bad manifest', () => {
  const cases: readonly (readonly [string, string, readonly string[]])[] = [
    ['nothing at all', '# empty\n', ['m.yaml has no document; expected a Function or a Workflow']],
    ['text instead of a map', 'hello\n', ['m.yaml:1:1 must be a map with apiVersion, kind, metadata and spec, not "hello"']],
    ['no kind', 'apiVersion: metronome/v1\n', ['m.yaml:1:1 kind is missing; it must be one of Function, Workflow']],
    ['a misspelt kind', 'apiVersion: metronome/v1\nkind: function\n', ['m.yaml:2:7 kind must be one of Function, Workflow, not "function"; did you mean "Function"?']],
    ['another apiVersion', FUNCTION('').replace('metronome/v1', 'v1'), ['m.yaml:1:13 apiVersion must be metronome/v1, not "v1"']],
    ['no metadata and no spec', 'apiVersion: metronome/v1\nkind: Function\n', ['m.yaml:1:1 metadata is missing; it must be a map with a name', 'm.yaml:1:1 spec is missing; it must be a map']],
    ['no runtime and no handler', 'apiVersion: metronome/v1\nkind: Function\nmetadata: { name: f }\nspec:\n  memory: 64MiB\n', ['m.yaml:4:1 spec.runtime is missing; it must be one of node, python3', 'm.yaml:4:1 spec.handler is missing; it must be text']],
    ['a bad name', FUNCTION('', 'Log_Split'), ['m.yaml:3:19 metadata.name must be lower-case letters, digits and inner hyphens, at most 63 characters, not "Log_Split"']],
    ['a number for a name', FUNCTION('', '12'), ['m.yaml:3:19 metadata.name must be text, not 12; write it in quotes: "12"']],
    ['another runtime', FUNCTION('').replace('runtime: node', 'runtime: nodejs'), ['m.yaml:5:12 spec.runtime must be one of node, python3, not "nodejs"']],
    ['a handler of another runtime', FUNCTION('').replace('h.mjs', 'h.py'), ['m.yaml:6:12 spec.handler must be a module for node such as "handler.mjs" or "handler.mjs#run", not "h.py"']],
    ['a handler outside the code', FUNCTION('').replace('h.mjs', '../h.mjs'), ['m.yaml:6:12 spec.handler must stay inside the code folder, not "../h.mjs"']],
    ['an unknown key', FUNCTION('  memroy: 1GiB\n'), ['m.yaml:7:3 spec.memroy is no key here; did you mean "memory"?']],
    ['a key at the wrong level', `timeout: 3s\n${FUNCTION('')}`, ['m.yaml:1:1 timeout is no key here; it belongs under "spec:"']],
    ['a key of another platform', FUNCTION('  image: x\n'), ['m.yaml:7:3 spec.image is no key here; known: runtime, handler, code, memory, cpu, timeout, sla, concurrency, env, retries, idempotent, critical, localityKey, keepAlive, policy, reuse, isolation, network, packages']],
    ['memory without unit', FUNCTION('  memory: 256\n'), ['m.yaml:7:11 spec.memory must be from 16MiB to 64GiB, not 256 (a number without a unit is bytes; did you mean "256MiB"?)']],
    ['a timeout that is none', FUNCTION('  timeout: soon\n'), ['m.yaml:7:12 spec.timeout must be a duration such as "150ms" or "30s", not "soon"']],
    ['an sla of nothing', FUNCTION('  sla: 0\n'), ['m.yaml:7:8 spec.sla must be from 1ms to 1d, not 0']],
    ['too much cpu', FUNCTION('  cpu: 65\n'), ['m.yaml:7:8 spec.cpu must be from 0.1 to 64, not 65']],
    ['retries of what may not run twice', FUNCTION('  retries: 2\n'), ['m.yaml:7:12 spec.retries above 0 needs idempotent: true, because a retried function may run twice']],
    ['too many retries', FUNCTION('  retries: 11\n  idempotent: true\n'), ['m.yaml:7:12 spec.retries must be from 0 to 10, not 11']],
    ['a number in env', FUNCTION('  env:\n    PORT: 80\n'), ['m.yaml:8:11 spec.env.PORT must be text, not 80; write it in quotes: "80"']],
    ['a reserved variable', FUNCTION('  env: { METRONOME_X: a }\n'), ['m.yaml:7:23 spec.env.METRONOME_X "METRONOME_X" is reserved: names with METRONOME_ belong to the platform']],
    ['a package from elsewhere', FUNCTION('  packages: { x: "file:../x" }\n'), ['m.yaml:7:18 spec.packages.x must be a version or range such as "^3.2.0", not "file:../x"']],
    ['a version that is a number', FUNCTION('  packages: { x: 1.5 }\n'), ['m.yaml:7:18 spec.packages.x must be a version in quotes, such as "1.5", not 1.5']],
    ['a package named twice', FUNCTION('  packages: [x@1, x@2]\n'), ['m.yaml:7:19 spec.packages[1] names "x" twice']],
    ['an absolute code folder', FUNCTION('  code: /srv\n'), ['m.yaml:7:9 spec.code must be a path relative to the manifest, not "/srv"']],
    ['a key given twice', FUNCTION('  cpu: 1\n  cpu: 2\n'), ['m.yaml:8:3 spec.cpu is given twice']],
    ['a name given twice', `${FUNCTION('')}---\n${WORKFLOW('    - { name: a, function: f }\n', 'f')}`, ['m.yaml:10:19 metadata.name "f" is already the name of another document (m.yaml:3:19)']],
    ['no steps', WORKFLOW('    []\n'), ['m.yaml:5:3 spec.steps must have at least 1 step']],
    ['steps that are no list', 'apiVersion: metronome/v1\nkind: Workflow\nmetadata: { name: w }\nspec: { steps: x }\n', ['m.yaml:4:16 spec.steps must be a list of steps, not "x"']],
    ['a step without function', WORKFLOW('    - name: a\n'), ['m.yaml:6:7 spec.steps[0].function is missing; it must be text']],
    ['an unknown key of a step', WORKFLOW('    - { name: a, function: f, foreach: objects }\n'), ['m.yaml:6:31 spec.steps[0].foreach is no key here; did you mean "forEach"?']],
    ['another fan-out', WORKFLOW('    - { name: a, function: f, forEach: object }\n'), ['m.yaml:6:40 spec.steps[0].forEach must be one of objects, payload, not "object"']],
    ['a step name given twice', WORKFLOW('    - { name: a, function: f }\n    - { name: a, function: f }\n'), ['m.yaml:7:15 spec.steps[1].name "a" is already the name of step 1']],
    ['an unknown step', WORKFLOW('    - { name: split, function: f }\n    - { name: b, function: f, after: [splits] }\n'), ['m.yaml:7:39 spec.steps[1].after[0] there is no step "splits"; did you mean "split"?']],
    ['a step after itself', WORKFLOW('    - { name: a, function: f, after: a }\n'), ['m.yaml:6:38 spec.steps[0].after makes a cycle: a → a']],
    ['a cycle', WORKFLOW('    - { name: a, function: f, after: c }\n    - { name: b, function: f, after: a }\n    - { name: c, function: f, after: [b] }\n'), ['m.yaml:6:38 spec.steps[0].after makes a cycle: a → b → c → a']],
    ['problems in several documents', `${FUNCTION('  cpu: x\n')}---\n${FUNCTION('  reuse: 1\n', 'g')}`, ['m.yaml:7:8 spec.cpu must be a number from 0.1 to 64, not "x"', 'm.yaml:15:10 spec.reuse must be true or false, not 1']],
  ];
  it.each(cases)('%s is told with place and reason', (_name, content, expected) => {
    expect(problemsOf(content)).toEqual(expected);
  });

  it.each([
    ['an open quote', FUNCTION('  policy: "x\n')],
    ['bad indentation', 'apiVersion: metronome/v1\nkind: Function\n spec: 1\n'],
    ['a tab', FUNCTION('  env:\n\t- a\n')],
    ['an unknown alias', FUNCTION('  env: *nowhere\n')],
  ])('%s is told with its place', (_name, content) => {
    const problems = problemsOf(content);
    expect(problems.length).toBeGreaterThan(0);
    for (const problem of problems) expect(problem).toMatch(/^m\.yaml:\d+:\d+ (is not valid YAML|has a bad alias): /);
  });

  it('is refused without delay when aliases multiply', () => {
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]', ...'bcdefgh'.split('').map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefg'[i]}`).join(',')}]`)].join('\n');
    expect(problemsOf(bomb)[0]).toMatch(/has a bad alias/);
  });
});

describe('loadManifest', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'metronome-manifest-'));
    await mkdir(join(folder, 'code'));
    await writeFile(join(folder, 'h.mjs'), 'export const handler = () => null;\n');
    await writeFile(join(folder, 'metronome.yaml'), FUNCTION(''));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const failure = async (content: string): Promise<MetronomeError> => {
    try {
      await loadManifest('-', { text: content, cwd: folder });
    } catch (error) {
      return MetronomeError.from(error);
    }
    throw new Error('it was accepted');
  };

  it('reads a folder, a file and given text', async () => {
    expect((await loadManifest(folder)).functions[0]).toMatchObject({ codeDir: folder, spec: { name: 'f' } });
    expect((await loadManifest('metronome.yaml', { cwd: folder })).file).toBe('metronome.yaml');
    expect(await loadManifest('-', { text: FUNCTION('', 'g'), cwd: folder })).toMatchObject({ file: '<stdin>', functions: [{ codeDir: folder, spec: { name: 'g' } }] });
  });

  it('says what is missing on disk, and where the manifest names it', async () => {
    const error = await failure(`${FUNCTION('').replace('h.mjs', 'x.mjs')}---\n${FUNCTION('  code: nowhere\n', 'g')}`);
    expect(error.code).toBe('MANIFEST_INVALID');
    expect(error.extras.violations?.map(({ field }) => field).sort()).toEqual(['<stdin>:14:9 spec.code', '<stdin>:6:12 spec.handler']);
    expect(error.message).toContain('there is no file "x.mjs" in the folder of the manifest');
  });

  const LOCKED = { version: '1.0.0', integrity: `sha512-${Buffer.alloc(64).toString('base64')}` };

  it('counts dependencies from the lockfile, without development ones, or else from packages', async () => {
    await writeFile(join(folder, 'code', 'h.mjs'), '');
    await writeFile(join(folder, 'code', 'package-lock.json'), JSON.stringify({ lockfileVersion: 3, packages: { '': {}, 'node_modules/a': LOCKED, 'node_modules/b': { ...LOCKED, dev: true }, 'node_modules/a/node_modules/c': LOCKED } }));
    const { functions } = await loadManifest('-', { text: `${FUNCTION('  code: code\n')}---\n${FUNCTION('  packages: [x, y]\n', 'g')}`, cwd: folder });
    expect(functions.map(({ spec }) => spec.dependencyCount)).toEqual([2, 2]);
  });

  it('refuses a lockfile that it cannot read', async () => {
    await writeFile(join(folder, 'code', 'package-lock.json'), '{"lockfileVersion": 1, "dependencies": {}}');
    expect((await failure(FUNCTION('  code: code\n'))).message).toContain('is not a lockfile of npm 7 or later');
  });

  it('names a manifest that is not there', async () => {
    await expect(loadManifest('none', { cwd: folder })).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringContaining('"none"') });
  });
});

describe('specs over gRPC', () => {
  const good = (): FunctionSpec => FunctionSpec.fromPartial({ name: 'f', runtime: 'node', handler: 'h.mjs', memoryMb: 256, cpu: 1, timeoutMs: 1_000, slaMs: 1_000, reuse: true });

  it.each<[string, Partial<FunctionSpec>, string]>([
    ['an empty name', { name: '' }, 'spec.name'],
    ['a name of 64 characters', { name: 'a'.repeat(64) }, 'spec.name'],
    ['a trailing hyphen', { name: 'a-' }, 'spec.name'],
    ['another runtime', { runtime: 'ruby' }, 'spec.runtime'],
    ['a handler above the bundle', { handler: 'a/../../h.mjs' }, 'spec.handler'],
    ['too little memory', { memoryMb: 15 }, 'spec.memory_mb'],
    ['half a MiB', { memoryMb: 16.5 }, 'spec.memory_mb'],
    ['no cpu', { cpu: 0 }, 'spec.cpu'],
    ['a timeout that is not a number', { timeoutMs: Number.NaN }, 'spec.timeout_ms'],
    ['an endless timeout', { timeoutMs: Number.POSITIVE_INFINITY }, 'spec.timeout_ms'],
    ['no sla', { slaMs: 0 }, 'spec.sla_ms'],
    ['negative keep-alive', { keepAliveMs: -1 }, 'spec.keep_alive_ms'],
    ['too many retries', { retries: 11, idempotent: true }, 'spec.retries'],
    ['retries without idempotent', { retries: 1 }, 'spec.retries'],
    ['a bad package', { packages: { '../x': '1' } }, 'spec.packages.../x'],
    ['a bad variable', { env: { 'A-B': '1' } }, 'spec.env.A-B'],
    ['a long locality key', { localityKey: 'x'.repeat(256) }, 'spec.locality_key'],
    ['a policy that is no name', { policy: 'A B' }, 'spec.policy'],
  ])('%s is refused', (_name, change, field) => {
    expect(validateFunctionSpec({ ...good(), ...change }).map((violation) => violation.field)).toEqual([field]);
  });

  it('a good function passes', () => expect(validateFunctionSpec(good())).toEqual([]));

  it('workflows are checked step by step and as a whole', () => {
    const spec = (steps: readonly Partial<WorkflowSpec['steps'][number]>[]): WorkflowSpec => WorkflowSpec.fromPartial({ name: 'w', slaMs: 1, timeoutMs: 1, steps: [...steps] });
    expect(validateWorkflowSpec(spec([{ name: 'a', function: 'f' }]))).toEqual([]);
    expect(validateWorkflowSpec(spec([]))).toEqual([{ field: 'spec.steps', description: 'must be 1 to 64 steps, not 0' }]);
    expect(validateWorkflowSpec(spec(Array.from({ length: 65 }, (_, i) => ({ name: `s${i}`, function: 'f' }))))).toHaveLength(1);
    expect(validateWorkflowSpec(spec([{ name: 'a', function: 'F', after: ['b'], forEach: 'x' }, { name: 'b', function: 'f', after: ['a', 'a', 'z'] }])).map(({ field }) => field)).toEqual([
      'spec.steps[0].function', 'spec.steps[0].for_each', 'spec.steps[1].after[1]', 'spec.steps[1].after[2]', 'spec.steps[0].after',
    ]);
  });
});

it('has a JSON Schema for editors', () => {
  expect(JSON.stringify(manifestJsonSchema())).toContain('"localityKey"');
});
