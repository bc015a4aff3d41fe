/**
 * Makes the tree of a layer from packages of the store: folders of its own, hard links for files (copies where there can be none).
 * Each file is compared with its list on the way, so a layer is never made from damaged packages.
 */
import { copyFileSync, linkSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Damage, Linked, LinkOrder } from './install-protocol.ts';
import { fileProblem, readFileList } from './package-files.ts';

/** Makes it. When packages are damaged, they are told, and what was made is of no use. */
export function linkTree({ store, target, packages }: LinkOrder): Linked {
  const folders = new Set<string>();
  const folder = (path: string): void => {
    if (folders.has(path)) return;
    mkdirSync(path, { recursive: true });
    folders.add(path);
  };
  folder(target);
  const damaged: Damage[] = [];
  for (const { key, path } of packages) {
    const from = join(store, key);
    const to = join(target, path);
    try {
      for (const entry of readFileList(store, key)) {
        const problem = fileProblem(from, entry, false);
        if (problem !== undefined) {
          damaged.push({ key, problem });
          break;
        }
        const place = join(to, entry[0]);
        folder(dirname(place));
        linkOrCopy(join(from, entry[0]), place);
      }
    } catch (error) {
      // A full disk is no fault of the package.
      if ((error as NodeJS.ErrnoException).code !== undefined && (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      damaged.push({ key, problem: error instanceof Error ? error.message : String(error) });
    }
  }
  return { damaged, folders: folders.size };
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Two wheels may bring the same file; the first is as good.
    if (code === 'EEXIST') return;
    // Another file system, one without links, or too many of them.
    if (code === 'EXDEV' || code === 'EPERM' || code === 'EMLINK' || code === 'ENOTSUP') return copyFileSync(from, to);
    throw error;
  }
}
