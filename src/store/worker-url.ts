/** Where the worker's entry file lies: `.ts` beside this file in the sources, `.js` in a build. */

/** URL of sqlite-worker. */
export function sqliteWorkerUrl(): URL {
  return new URL(`./sqlite-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
}
