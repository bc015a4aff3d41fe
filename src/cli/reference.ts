/**
 * Writes docs/reference: pages made from the schema, the error table, the reasons, the commands and the proto files, so that they
 * cannot be wrong. As a program: `node src/cli/reference.ts --write | --check`; a test fails when a page is not what it would be.
 */
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { argv, exit, stderr } from 'node:process';
import { fileURLToPath } from 'node:url';
import { PROJECT_ROOT } from './project.ts';
import { apiPage } from './reference/api-page.ts';
import { cliPage } from './reference/cli-page.ts';
import { configPage } from './reference/config-page.ts';
import { errorsPage } from './reference/errors-page.ts';
import { featuresPage } from './reference/features-page.ts';
import { reasonsPage } from './reference/reasons-page.ts';

/** Where the pages are. */
export const REFERENCE_DIR = join(PROJECT_ROOT, 'docs', 'reference');

/** All pages by file name. */
export async function referencePages(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ['config.md', configPage()],
    ['errors.md', errorsPage()],
    ['reasons.md', reasonsPage()],
    ['features.md', featuresPage()],
    ['cli.md', cliPage()],
    ['api.md', await apiPage(join(PROJECT_ROOT, 'proto', 'metronome', 'v1'))],
  ]);
}

/**
 * Writes the pages, or with `check` only compares. Returns the names of those that were not up to date, and of pages that
 * nothing makes any more.
 */
export async function writeReference(options: { readonly check: boolean; readonly dir?: string }): Promise<string[]> {
  const { check, dir = REFERENCE_DIR } = options;
  const pages = await referencePages();
  const outdated: string[] = [];
  if (!check) await mkdir(dir, { recursive: true });
  for (const [name, text] of pages) {
    const path = join(dir, name);
    const present = await readFile(path, 'utf8').catch(() => undefined); // not there yet
    if (present === text) continue;
    outdated.push(name);
    if (!check) await writeFile(path, text);
  }
  for (const name of await readdir(dir).catch(() => [])) {
    if (pages.has(name) || !name.endsWith('.md')) continue;
    outdated.push(name);
    if (!check) await rm(join(dir, name));
  }
  return outdated;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [, , mode] = argv;
  if (mode !== '--write' && mode !== '--check') {
    stderr.write('Usage: node src/cli/reference.ts --write | --check\n');
    exit(2);
  }
  const outdated = await writeReference({ check: mode === '--check' });
  for (const name of outdated) stderr.write(`docs/reference/${name} ${mode === '--check' ? 'is not up to date; run: npx node src/cli/reference.ts --write' : 'written'}\n`);
  exit(mode === '--check' && outdated.length > 0 ? 1 : 0);
}
