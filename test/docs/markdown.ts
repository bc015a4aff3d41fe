/** The documents of the project, taken apart: fenced blocks, inline code, links and the anchors of headings. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A fenced block. */
export interface Block {
  /** "README.md:42", its first line. */
  readonly place: string;
  readonly language: string;
  readonly text: string;
}

/** A document written by hand. */
export interface Page {
  /** Path from the root. */
  readonly path: string;
  readonly blocks: readonly Block[];
  /** Text in single backticks outside of blocks. */
  readonly codes: readonly string[];
  /** Targets of links outside of blocks. */
  readonly links: readonly string[];
}

/** Every hand-written page: the root's, the guides and the decision records. */
export function handWrittenPages(): Page[] {
  const folder = (path: string): string[] => readdirSync(join(ROOT, path)).filter((name) => name.endsWith('.md')).sort().map((name) => `${path}/${name}`);
  return ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', ...folder('docs/guide'), ...folder('docs/decisions')].map(readPage);
}

/** Takes a page apart. */
export function readPage(path: string): Page {
  const blocks: Block[] = [];
  const prose: string[] = [];
  let open: { place: string; language: string; lines: string[] } | undefined;
  for (const [i, line] of readFileSync(join(ROOT, path), 'utf8').split('\n').entries()) {
    const fence = /^```(\S*)\s*$/.exec(line);
    if (fence !== null && open === undefined) open = { place: `${path}:${i + 2}`, language: fence[1] ?? '', lines: [] };
    else if (fence !== null && open !== undefined) {
      blocks.push({ place: open.place, language: open.language, text: open.lines.join('\n') });
      open = undefined;
    } else (open?.lines ?? prose).push(line);
  }
  if (open !== undefined) throw new Error(`${open.place}: the block is not closed`);
  const text = prose.join('\n');
  return {
    path,
    blocks,
    codes: Array.from(text.matchAll(/`([^`\n]+)`/g), ([, code]) => (code ?? '').replaceAll('\\|', '|')),
    links: Array.from(text.matchAll(/\]\(([^)\s]+)\)/g), ([, target]) => target ?? ''),
  };
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(path: string): Set<string> {
  const headings = readFileSync(join(ROOT, path), 'utf8').replaceAll(/^```[\s\S]*?^```/gm, '').matchAll(/^#{1,6} (.+)$/gm);
  return new Set(Array.from(headings, ([, heading]) => (heading ?? '').toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, '').trim().replaceAll(' ', '-')));
}

/** A command line split as a shell would, without expansions. Comments and everything from a pipe on are left out. */
export function words(line: string): string[] {
  const found: string[] = [];
  for (const [, double, single, plain] of line.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"']+)/g)) {
    if (plain !== undefined && (plain.startsWith('#') || plain === '|' || plain === '>')) break;
    found.push(double ?? single ?? plain ?? '');
  }
  return found;
}
