/** What the makers of inputs share: seeded numbers, sizes as people write them, and a command line. The same seed and size give the same bytes. */
import { argv, exit } from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const UNITS = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function createRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A standard normal number (sum of four uniform ones, which is near enough and fast). */
export function normal(random) {
  return (random() + random() + random() + random() - 2) * Math.sqrt(3);
}

/** "20MiB", "5MB" or a number of bytes; undefined if it is none of these. */
export function parseSize(text) {
  const match = /^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?$/.exec(text);
  return match === null ? undefined : Math.round(Number(match[1]) * UNITS[match[2] ?? 'B']);
}

/**
 * Runs a maker as a program, `node make-input.mjs PATH [SIZE] [SEED] [--name value …]`, if it is the program that was started:
 * the truth about the input goes to stdout as JSON. `options` are further ones: { name: { doc, choices? } }. Bad arguments end with code 2, failures with 1.
 */
export async function runAsProgram(url, { does, size: defaultSize, options = {}, make }) {
  if (argv[1] === undefined || fileURLToPath(url) !== argv[1]) return;
  const rows = [['PATH', 'file to write'], ['--size SIZE', `such as 200KiB or 8MB; ${defaultSize} by default; also the second argument`], ['--seed NUMBER', 'the same seed and size give the same bytes; 1 by default; also the third argument'], ...Object.entries(options).map(([name, { doc, choices }]) => [`--${name} ${choices?.join('|') ?? 'VALUE'}`, doc]), ['--help', 'this text']];
  const usage = `${does}\n\nUsage: node make-input.mjs PATH [SIZE] [SEED] [options]\n${rows.map(([name, doc]) => `  ${name.padEnd(26)} ${doc}`).join('\n')}`;
  const refuse = (problem) => {
    console.error(`${problem}\n\n${usage}`);
    exit(2);
  };
  let parsed;
  try {
    parsed = parseArgs({ args: argv.slice(2), allowPositionals: true, options: { size: { type: 'string' }, seed: { type: 'string' }, help: { type: 'boolean' }, ...Object.fromEntries(Object.keys(options).map((name) => [name, { type: 'string' }])) } });
  } catch (error) {
    refuse(error.message);
  }
  const { values: { help, ...values }, positionals: [path, ...more] } = parsed;
  if (help === true) {
    console.log(usage);
    exit(0);
  }
  if (path === undefined) refuse('The path of the file to write is missing.');
  if (more.length > 2) refuse(`There are too many arguments: ${more.slice(2).join(' ')}.`);
  const sizeText = values.size ?? more[0] ?? defaultSize;
  const seedText = values.seed ?? more[1] ?? '1';
  const bytes = parseSize(sizeText);
  if (bytes === undefined || !(bytes > 0)) refuse(`A size is a positive number with or without a unit, such as 200KiB or 8MB, not "${sizeText}".`);
  if (!/^\d{1,10}$/.test(seedText)) refuse(`A seed is a whole number from 0, not "${seedText}".`);
  for (const [name, { choices }] of Object.entries(options)) {
    if (values[name] !== undefined && choices !== undefined && !choices.includes(values[name])) refuse(`--${name} is one of ${choices.join(', ')}, not "${values[name]}".`);
  }
  try {
    console.log(JSON.stringify(await make({ ...values, path, bytes, seed: Number(seedText) }), undefined, 2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    exit(1);
  }
}
