/** What a function's package-lock.json says about its dependencies. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

/** Name of the lockfile in a code folder. */
export const LOCKFILE = 'package-lock.json';

const entrySchema = z.object({ dev: z.boolean().optional(), optional: z.boolean().optional(), os: z.array(z.string()).optional(), cpu: z.array(z.string()).optional() });
const lockfileSchema = z.object({ lockfileVersion: z.number().min(2), packages: z.record(z.string(), entrySchema) });

/** Packages with all that they depend on, without development ones and without optional ones for other platforms; `count` is undefined where there is no lockfile. */
export async function countDependencies(codeDir: string): Promise<{ readonly count: number | undefined; readonly problem: string | undefined }> {
  let text: string;
  try {
    text = await readFile(join(codeDir, LOCKFILE), 'utf8');
  } catch {
    // No lockfile, or no such folder, which is reported elsewhere.
    return { count: undefined, problem: undefined };
  }
  try {
    const { packages } = lockfileSchema.parse(JSON.parse(text));
    return { count: Object.entries(packages).filter(([path, entry]) => path !== '' && entry.dev !== true && !isForOthers(entry)).length, problem: undefined };
  } catch {
    return { count: undefined, problem: `${LOCKFILE} in the code folder is not a lockfile of npm 7 or later; make it again with "npm install --package-lock-only"` };
  }
}

/** Whether npm leaves a package out on this platform. */
function isForOthers({ optional, os, cpu }: z.infer<typeof entrySchema>): boolean {
  return optional === true && ((os !== undefined && !os.includes(process.platform)) || (cpu !== undefined && !cpu.includes(process.arch)));
}
