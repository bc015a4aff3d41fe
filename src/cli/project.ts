/** Where the program's own files are: the package's folder, its version, its applications, the way people call it. */
import { existsSync, readFileSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Whether this runs from the TypeScript sources; otherwise from what tsc built. */
export const IS_SOURCE = import.meta.url.endsWith('.ts');

/** The entry of the command line, for child processes. */
export const MAIN_FILE = fileURLToPath(new URL(`./main${IS_SOURCE ? '.ts' : '.js'}`, import.meta.url));

/** The folder of the package, wherever it was built to. */
export const PROJECT_ROOT = findRoot();

/** The version of package.json. */
export function programVersion(): string {
  // package.json is ours: it has a version.
  return (JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string }).version;
}

/** How a person calls the program here, without arguments. From the sources it is npm that brings the right Node. */
export function calledAs(): string {
  return IS_SOURCE ? 'npm run -s metronome --' : 'metronome';
}

/**
 * Where installed packages of functions are kept from one deployment to the next: with the sources in the place where tools keep their
 * caches; undefined: the default of packFunction.
 */
export async function packageCacheDir(): Promise<string | undefined> {
  const modules = join(PROJECT_ROOT, 'node_modules');
  const usable = IS_SOURCE && (await access(modules, constants.W_OK).then(() => true, () => false));
  return usable ? join(modules, '.cache', 'metronome', 'packages') : undefined;
}

function findRoot(): string {
  let folder = dirname(MAIN_FILE);
  while (!existsSync(join(folder, 'package.json'))) {
    const above = dirname(folder);
    if (above === folder) return process.cwd();
    folder = above;
  }
  return folder;
}
