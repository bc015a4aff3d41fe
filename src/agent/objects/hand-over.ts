/** An object of the store as a file for a function: the same bytes under another name where the file system can do that, else a copy. */
import { constants, copyFile, link } from 'node:fs/promises';

/** How files were handed over since the agent started, to functions and from them. */
export interface HandOvers {
  /** To functions: the same file. */
  linked: number;
  /** Another file system, or too many links: reflinked where the file system can, else copied. */
  copied: number;
}

/** Makes `path` another name of the object's file, or a copy of it; counts which. */
export async function handOver(file: string, path: string, counts: HandOvers): Promise<void> {
  try {
    await link(file, path);
    counts.linked++;
  } catch {
    await copyFile(file, path, constants.COPYFILE_FICLONE);
    counts.copied++;
  }
}
