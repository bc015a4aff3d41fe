/** The epoch of an agent process: its start in ms since 1970-01-01 UTC, made strictly greater than that of every former one with the same directory. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The next epoch, written down before it is used. */
export async function nextEpoch(dataDir: string): Promise<number> {
  const file = join(dataDir, 'epoch');
  const last = Number(await readFile(file, 'utf8').catch(() => '0'));
  const epoch = Math.max(Date.now(), Number.isSafeInteger(last) ? last + 1 : 0);
  await writeFile(`${file}.new`, String(epoch));
  await rename(`${file}.new`, file);
  return epoch;
}
