/** The house rules as a test: which way imports point, where time and chance may come from, and what no file may contain. */
import { readFileSync, readdirSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
/** Rooms from the ground up; a room may import from its own row and from those before it, and never in a circle. */
const ROWS: readonly (readonly string[])[] = [
  ['core'],
  ['machines', 'policy', 'predictor'],
  ['scheduler'],
  ['rpc', 'store', 'workflow', 'config', 'workload', 'report', 'inspect', 'agent', 'gateway', 'sim', 'evaluation', 'recording', 'what-if', 'daemon', 'workers'],
  ['cli', 'bench'],
];
/** Constants that machines need of the scheduler; the file itself stands on core alone. */
const SHARED_CONSTANTS = 'src/scheduler/cluster-view.ts';
/** Rooms that know neither Node nor the network, with the packages that they may use. */
const PURE: ReadonlyMap<string, readonly string[]> = new Map([['core', ['pure-rand']], ['machines', ['xstate']], ['policy', ['ml-matrix']], ['scheduler', []]]);
const OWN_TIME = /\b(?:Date\.now|new Date\(\)|performance\.now|Math\.random|setTimeout|setInterval|setImmediate)/;
/** Adapters to the operating system: they may read clocks and set timers of their own. */
const ADAPTERS = ['agent', 'gateway', 'rpc', 'store', 'cli', 'daemon', 'bench', 'workers'];

interface SourceFile {
  readonly path: string;
  readonly text: string;
}

function filesIn(folder: string, ending: RegExp): SourceFile[] {
  let entries;
  try {
    entries = readdirSync(posix.join(ROOT, folder), { recursive: true, withFileTypes: true });
  } catch {
    return []; // a room that is not built yet
  }
  return entries
    .filter((entry) => entry.isFile() && ending.test(entry.name))
    .map((entry) => posix.join(entry.parentPath, entry.name).slice(ROOT.length))
    .filter((path) => !/(^|\/)(node_modules|dist|gen)\//.test(path))
    .sort()
    .map((path) => ({ path, text: readFileSync(posix.join(ROOT, path), 'utf8') }));
}

const CODE = /\.(ts|mts|mjs)$/;
const product = ['src', 'machines', 'workers'].flatMap((folder) => filesIn(folder, CODE));
const bench = filesIn('bench', CODE);
const page = filesIn('web', /\.(ts|tsx)$/);
/** What the page may take of the product: types and words, nothing that needs Node. */
const SHARED_WITH_PAGE = ['src/inspect/page-api.ts', 'src/core/reasons.ts', 'src/core/units.ts'];
const tests = filesIn('test', CODE);
const written = [...product, ...bench, ...page, ...tests, ...filesIn('apps', /\.(mjs|py|md|yaml)$/), ...filesIn('docs', /\.md$/), ...filesIn('proto', /\.proto$/), ...readdirSync(ROOT).filter((name) => /\.(md|json|yaml|ts)$/.test(name) && name !== 'package-lock.json').map((path) => ({ path, text: readFileSync(posix.join(ROOT, path), 'utf8') }))];

/** "src/policy/x.ts" → "policy"; "machines/x.ts" → "machines". */
const roomOf = (path: string): string => path.split('/')[path.startsWith('src/') ? 1 : 0] ?? '';
const rowOf = (room: string): number => ROWS.findIndex((row) => row.includes(room));

/** Specifiers of all static and dynamic imports. */
function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
}

/** The text without comments and without what stands in quotes, line by line. */
function codeOf(text: string): string {
  return text
    .replaceAll(/\/\*[\s\S]*?\*\//g, '')
    .replaceAll(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\$]|\\.|\$(?!\{))*`/g, "''")
    .replaceAll(/(^|\s)\/\/.*$/gm, '$1');
}

/** "path:line: what" for each match in the code of the files. */
function findings(files: readonly SourceFile[], pattern: RegExp, read: (text: string) => string = codeOf): string[] {
  return files.flatMap(({ path, text }) => [...read(text).matchAll(new RegExp(pattern, 'gm'))].map((match) => `${path}: ${match[0].trim()}`));
}

describe('imports', () => {
  const edges = [...product, ...bench].flatMap(({ path, text }) => importsOf(text).filter((specifier) => specifier.startsWith('.')).map((specifier) => ({ from: path, to: posix.normalize(posix.join(posix.dirname(path), specifier)) })));

  it('are found at all', () => {
    expect(edges.length).toBeGreaterThan(100);
    expect(importsOf("import { a } from './a.ts';\nimport './b.ts';\nexport * from './c.ts';\nconst d = await import('./d.ts');\nimport type {\n  E,\n} from './e.ts';")).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts']);
  });

  it('come from rooms that have a row', () => {
    const rooms = new Set([...product, ...bench].map(({ path }) => roomOf(path)));
    expect([...rooms].filter((room) => rowOf(room) < 0)).toEqual([]);
  });

  it('point one way', () => {
    const wrong = edges.filter(({ from, to }) => {
      if (roomOf(from) === 'machines' && to === SHARED_CONSTANTS) return false;
      return rowOf(roomOf(to)) < 0 || rowOf(roomOf(to)) > rowOf(roomOf(from));
    });
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
    expect(edges.filter(({ from, to }) => from === SHARED_CONSTANTS && roomOf(to) !== 'core')).toEqual([]);
  });

  it('make no circle of rooms', () => {
    const next = new Map<string, Set<string>>();
    for (const { from, to } of edges) {
      const [a, b] = [roomOf(from), roomOf(to)];
      if (a !== b && to !== SHARED_CONSTANTS) next.set(a, (next.get(a) ?? new Set()).add(b));
    }
    for (const room of next.keys()) {
      const seen = new Set(next.get(room));
      for (const other of seen) for (const further of next.get(other) ?? []) seen.add(further);
      expect(seen.has(room), `a circle goes through ${room}`).toBe(false);
    }
  });

  it('bring no Node modules and no strange packages into core, machines, policy and scheduler', () => {
    const strange = product.flatMap(({ path, text }) => {
      const allowed = PURE.get(roomOf(path));
      if (allowed === undefined) return [];
      return importsOf(text).filter((specifier) => !specifier.startsWith('.') && !allowed.some((name) => specifier === name || specifier.startsWith(`${name}/`))).map((specifier) => `${path} -> ${specifier}`);
    });
    expect(strange).toEqual([]);
  });

  it('bring into the page only what it shares with the daemon', () => {
    const taken = page.filter(({ path }) => path.startsWith('web/src/')).flatMap(({ path, text }) => importsOf(text).filter((specifier) => specifier.startsWith('.')).map((specifier) => posix.normalize(posix.join(posix.dirname(path), specifier))));
    expect(taken.length).toBeGreaterThan(50);
    expect([...new Set(taken.filter((path) => !path.startsWith('web/src/')))].filter((path) => !path.startsWith('node_modules/') && !SHARED_WITH_PAGE.includes(path))).toEqual([]);
  });

  it('never lead from the product into tests, benches or applications', () => {
    expect(product.flatMap(({ path, text }) => importsOf(text).filter((specifier) => /(^|\/)(test|bench|apps)\//.test(specifier)).map((specifier) => `${path} -> ${specifier}`))).toEqual([]);
  });
});

describe('time and chance', () => {
  it('come from the injected clock and from seeds, outside the adapters', () => {
    const inner = product.filter(({ path }) => path !== 'src/core/clock.ts' && !ADAPTERS.includes(roomOf(path)));
    expect(inner.length).toBeGreaterThan(30);
    expect(findings([{ path: 'x.ts', text: '/** Date.now */ f("Date.now"); // Date.now\nconst t = `${Date.now()}` + setTimeout(f);' }], OWN_TIME)).toHaveLength(2);
    expect(findings(inner, OWN_TIME)).toEqual([]);
  });
});

describe('no file', () => {
  it('runs a test alone', () => {
    expect(findings(tests, /\b(?:it|test|describe|bench)(?:\.\w+)*\.only\b/)).toEqual([]);
  });

  it('has an enum', () => {
    expect(findings([...product, ...bench, ...page], /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?enum\s+\w+/)).toEqual([]);
  });

  it('gives up on types', () => {
    const untyped = /(?::\s*|\bas\s+|<|<[^<>\n]*,\s*)any\s*(?=[,;)=\]}>|&[]|$)/;
    expect(findings([...product, ...bench, ...page, ...tests], untyped)).toEqual([]);
    expect(findings([{ path: 'x.ts', text: 'const a: any = b as any;\nf<any>(new Map<string, any>()); // x: any\nreturn a ? b : any < 3;' }], untyped)).toHaveLength(4);
  });

  it('of the product or its benches begins without saying what it is for', () => {
    expect([...product, ...bench, ...page].filter(({ text }) => !/^(#!.*\n)?(\/\*\*|\/\/)/.test(text)).map(({ path }) => path)).toEqual([]);
  });

  it('names a place of the machine it was written on', () => {
    // Put together here, so that this file does not find itself.
    expect(findings(written, new RegExp(`(?<![\\w.~-])/(?:${['work', 'root'].join('|')})(?:/\\w|\\b(?![\\w/-]))`), (text) => text)).toEqual([]);
  });

  it('leaves work for later', () => {
    expect(findings(written, new RegExp(`\\b(?:${['TO', 'FIX'].map((word) => word + (word === 'TO' ? 'DO' : 'ME')).join('|')})\\b`), (text) => text)).toEqual([]);
  });
});
