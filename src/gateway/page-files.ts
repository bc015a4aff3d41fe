/** The built page (dist/web) as files to be served: only what a listing of the folder has, so that no path can lead out of it. */
import { readFile, readdir } from 'node:fs/promises';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A file with the headers that it is served with. */
export interface PageFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly headers: Readonly<Record<string, string>>;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.json': 'application/json', '.svg': 'image/svg+xml', '.png': 'image/png', '.ico': 'image/x-icon', '.woff2': 'font/woff2', '.map': 'application/json', '.txt': 'text/plain; charset=utf-8',
};
/** Nothing from elsewhere, no script in the document, in nobody's frame. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cross-origin-opener-policy': 'same-origin', 'cross-origin-resource-policy': 'same-origin',
};
const MAX_FILES = 500;

/** dist/web, from the source tree and from the build. */
export const PAGE_DIR = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../../dist/web/' : '../../web/', import.meta.url));

/** Reads one file of the page, '' for the page itself; undefined when there is none. */
export async function readPageFile(name: string, dir = PAGE_DIR): Promise<PageFile | undefined> {
  const wanted = name === '' ? 'index.html' : name;
  let listed: string[];
  try {
    listed = await readdir(dir, { recursive: true });
  } catch {
    return undefined; // not built
  }
  // A listing has no ".." and no absolute path; what is not in it does not exist.
  if (!listed.slice(0, MAX_FILES).includes(wanted)) return undefined;
  const type = TYPES[extname(wanted)];
  if (type === undefined) return undefined;
  try {
    // Vite puts a digest into the names below assets/.
    const isFixed = wanted.startsWith('assets/');
    return { bytes: new Uint8Array(await readFile(`${dir}/${wanted}`)), headers: { ...PAGE_HEADERS, 'content-type': type, 'cache-control': isFixed ? 'public, max-age=31536000, immutable' : 'no-cache' } };
  } catch {
    return undefined; // a folder, or gone since
  }
}

/** What stands in the place of a page that was not built. */
export const NOT_BUILT = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Metronome</title><h1>The page is not built</h1>
<p>Build it with <code>npm run web</code> and load this page again. The data is there already: <a href="api/machines">machines</a>, <a href="api/nodes">nodes</a>, <a href="api/invocations">invocations</a>.</p></html>
`;
