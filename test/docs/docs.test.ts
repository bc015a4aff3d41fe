/** What the documents show must be so: commands, manifests, configuration, names, links, and the outputs that are printed. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { CliContext } from '../../src/cli/context.ts';
import { createProgram } from '../../src/cli/program.ts';
import { loadConfig } from '../../src/config/load.ts';
import { parseManifest } from '../../src/config/manifest.ts';
import { configFields, sections } from '../../src/config/schema.ts';
import { ERRORS } from '../../src/core/errors.ts';
import { playScene } from './decision-scene.ts';
import { ROOT, anchorsOf, handWrittenPages, words, type Block } from './markdown.ts';

const pages = handWrittenPages();
const blocks = (...languages: string[]): Block[] => pages.flatMap((page) => page.blocks.filter(({ language }) => languages.includes(language)));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const packageJson = JSON.parse(read('package.json')) as { version: string; scripts: Record<string, string> };
/** The file that a reader of the guide is about to write. */
const TO_BE_WRITTEN = new Set(['src/policy/least-loaded.ts']);

let folder = '';
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'metronome-docs-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the documents', () => {
  it('are there, with code in every language that is checked', () => {
    expect(pages.length).toBeGreaterThan(10);
    expect(new Set(pages.flatMap((page) => page.blocks.map(({ language }) => language)))).toEqual(new Set(['sh', 'yaml', 'js', 'python', 'ts', 'text', 'mermaid']));
  });

  it('link only to what exists', () => {
    const broken = pages.flatMap(({ path, links }) => links.filter((link) => !/^https?:/.test(link)).filter((link) => {
      const [file = '', anchor] = link.split('#');
      const target = file === '' ? path : normalize(join(dirname(path), file));
      return !existsSync(join(ROOT, target)) || (anchor !== undefined && !anchorsOf(target).has(anchor));
    }).map((link) => `${path}: ${link}`));
    expect(broken).toEqual([]);
  });

  it('name only files of the project', () => {
    const missing = pages.flatMap(({ path, codes }) => codes.filter((code) => /^(src|test|machines|proto|docs|bench|apps)\/[\w./-]*$/.test(code) && !TO_BE_WRITTEN.has(code) && !existsSync(join(ROOT, code))).map((code) => `${path}: ${code}`));
    expect(missing).toEqual([]);
  });

  it('name only keys of the configuration', () => {
    const keys = new Set(configFields.map(({ key }) => key));
    const pattern = new RegExp(`^(${Object.keys(sections).join('|')})\\.([a-z]\\w*)`);
    const unknown = pages.flatMap(({ path, codes }) => codes.flatMap((code) => {
      const key = pattern.exec(code)?.[0];
      return key === undefined || keys.has(key) ? [] : [`${path}: ${key}`];
    }));
    expect(unknown).toEqual([]);
  });

  it('name only codes of the error table', () => {
    const others = new Set(['MAX_ALSO', 'METRONOME_CONFIG', 'METRONOME_FUNCTION', 'METRONOME_SANDBOX']);
    const unknown = pages.flatMap(({ path, codes }) => codes.filter((code) => /^[A-Z]+(_[A-Z]+)+$/.test(code) && !others.has(code) && !Object.hasOwn(ERRORS, code)).map((code) => `${path}: ${code}`));
    expect(unknown).toEqual([]);
  });

  it('name only metrics that the gateway has', () => {
    const sources = readdirSync(join(ROOT, 'src/gateway')).map((name) => read(`src/gateway/${name}`)).join('\n');
    const unknown = pages.flatMap(({ path, codes }) => codes.filter((code) => /^metronome_[a-z_]+$/.test(code) && !sources.includes(`'${code}'`)).map((code) => `${path}: ${code}`));
    expect(unknown).toEqual([]);
  });

  it('carry the version and the licence of the package', () => {
    const citation = parse(read('CITATION.cff')) as Record<string, unknown>;
    expect(citation).toMatchObject({ 'cff-version': '1.2.0', version: packageJson.version, license: 'Apache-2.0' });
    expect(read('LICENSE')).toMatch(/Apache License\s+Version 2\.0, January 2004/);
    expect(read('CHANGELOG.md')).toContain(packageJson.version);
  });

  it('show the decision of the README as the scheduler makes it (npx node test/docs/decision-scene.ts prints it)', () => {
    expect(blocks('text').map(({ text }) => text)).toContain(playScene());
  });
});

describe('commands in the documents', () => {
  const context: CliContext = {
    io: { out() {}, err() {}, env: {}, cwd: ROOT, columns: undefined, outColor: false, errColor: false, readStdin: async () => new Uint8Array() },
    signal: new AbortController().signal,
    takeSignals() {},
  };
  const program = createProgram(context);
  const lines = [
    ...blocks('sh').flatMap(({ place, text }) => text.split('\n').map((line) => ({ place, line, isWhole: true }))),
    // In prose a command may be named without its arguments.
    ...pages.flatMap(({ path, codes }) => codes.filter((code) => /^(metronome|npm|npx) /.test(code)).map((line) => ({ place: path, line, isWhole: false }))),
  ].filter(({ line }) => line.trim() !== '' && !line.includes('…') && !line.trimEnd().endsWith('--'));

  it('exist in the program, with these arguments and options', () => {
    const problems: string[] = [];
    let checked = 0;
    for (const { place, line, isWhole } of lines) {
      const called = words(line.replace(/^(\w+=\S+ )+/, '').replace(/^npm run -s metronome -- /, 'metronome '));
      if (called.shift() !== 'metronome') continue;
      checked++;
      const problem = commandProblem(program, called, isWhole);
      if (problem !== undefined) problems.push(`${place}: ${line}: ${problem}`);
    }
    expect(problems).toEqual([]);
    expect(checked).toBeGreaterThan(30);
  });

  it('call only scripts of package.json and benches that exist', () => {
    const unknown = lines.filter(({ line }) => {
      const script = /\bnpm (?:run (?:-s )?)(\S+)/.exec(line)?.[1];
      const short = /\bnpm (start|test)\b/.exec(line)?.[1];
      const bench = /\bbench -- ([\w-]+)/.exec(line)?.[1];
      return [script, short].some((name) => name !== undefined && !Object.hasOwn(packageJson.scripts, name)) || (bench !== undefined && !existsSync(join(ROOT, `bench/${bench}.ts`)));
    });
    expect(unknown).toEqual([]);
  });
});

describe('YAML in the documents', () => {
  it('is a valid manifest or a valid configuration', () => {
    const found = { manifests: 0, configurations: 0 };
    for (const { place, text } of blocks('yaml')) {
      if (text.includes('apiVersion:')) {
        const { violations, functions, workflows } = parseManifest(text, place);
        expect(violations).toEqual([]);
        expect(functions.length + workflows.length).toBeGreaterThan(0);
        found.manifests++;
      } else {
        const filePath = join(folder, 'metronome.config.yaml');
        writeFileSync(filePath, text);
        const { origins } = loadConfig({ filePath, env: {}, cwd: folder });
        expect(Object.values(origins).some((origin) => origin.startsWith('file'))).toBe(true);
        found.configurations++;
      }
    }
    expect(found.manifests).toBeGreaterThanOrEqual(3);
    expect(found.configurations).toBeGreaterThanOrEqual(1);
  });
});

/** What is wrong with a command line, or undefined. */
function commandProblem(root: Command, called: readonly string[], isWhole: boolean): string | undefined {
  let command = root;
  let at = 0;
  const positional: string[] = [];
  const options = (): Command['options'] => [...command.options, ...root.options] as Command['options'];
  for (; at < called.length; at++) {
    const word = called[at] as string;
    if (word.startsWith('-') && word !== '-') {
      const [flag = ''] = word.split('=');
      const option = options().find(({ long, short }) => long === flag || short === flag);
      if (option === undefined) return flag === '--help' || flag === '-h' ? undefined : `${command.name()} has no option ${flag}`;
      if (option.required && !word.includes('=')) at++;
      continue;
    }
    const child = positional.length === 0 ? command.commands.find((each) => each.name() === word || each.aliases().includes(word)) : undefined;
    if (child !== undefined) command = child;
    else positional.push(word);
  }
  if (command.commands.length > 0) return positional.length === 0 && !isWhole ? undefined : positional.length === 0 ? `${command.name()} needs a command` : `${command.name()} has no command ${positional[0]}`;
  const wanted = command.registeredArguments;
  const least = wanted.filter(({ required }) => required).length;
  if (isWhole && positional.length < least) return `${command.name()} needs ${least} arguments`;
  if (positional.length > wanted.length && wanted.at(-1)?.variadic !== true) return `${command.name()} takes ${wanted.length} arguments, not ${positional.length}`;
  return undefined;
}
