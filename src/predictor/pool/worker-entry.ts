/** Where the entry files of the pool's threads lie: `workers/*.ts` in the sources, `workers/*.js` in a build. */

/** File URL of a Piscina entry point, as text. */
export function workerEntry(name: 'infer' | 'train'): string {
  // tsc rewrites imports, not URLs: the entry has the extension that this file has.
  return new URL(`../../../workers/${name}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href;
}
