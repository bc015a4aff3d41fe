/** The parts of an Office document, unpacked by fflate within bounds: an archive that would fill the memory is refused before anything is unpacked. */
import { strFromU8, unzipSync } from 'fflate';

const MAX_PARTS = 10_000;
const MAX_PART_BYTES = 32 * 1024 * 1024;
const MAX_UNPACKED_BYTES = 96 * 1024 * 1024;

/** The wanted parts by name. TypeError if the archive is damaged, RangeError if it is too large unpacked. */
export function unpack(bytes, name, isWanted) {
  let count = 0;
  let total = 0;
  const declared = new Map();
  let parts;
  try {
    parts = unzipSync(bytes, {
      filter({ name: part, originalSize }) {
        if (++count > MAX_PARTS) throw new RangeError(`"${name}" has more than ${MAX_PARTS} parts`);
        if (!isWanted(part)) return false;
        total += originalSize;
        if (originalSize > MAX_PART_BYTES || total > MAX_UNPACKED_BYTES) throw new RangeError(`"${name}" is too large unpacked: part ${part} has ${originalSize} bytes (at most ${MAX_PART_BYTES}, all together ${MAX_UNPACKED_BYTES})`);
        declared.set(part, originalSize);
        return true;
      },
    });
  } catch (error) {
    if (error instanceof RangeError) throw error;
    throw new TypeError(`"${name}" cannot be unpacked: ${error.message}`, { cause: error });
  }
  // fflate never writes more than the directory promises; less is a lie as well.
  for (const [part, size] of declared) if (parts[part]?.length !== size) throw new TypeError(`"${name}" is damaged: part ${part} is not as long as the directory says`);
  return parts;
}

/** The text of a part; undefined if it is missing. TypeError for a document type, which Office never writes and which only serves to blow text up. */
export function partText(parts, part, name) {
  const bytes = parts[part];
  if (bytes === undefined) return undefined;
  const text = strFromU8(bytes);
  if (/<!DOCTYPE/i.test(text.slice(0, 4096))) throw new TypeError(`"${name}" has a document type in ${part}, which no Office document has`);
  return text;
}

/** Like partText; TypeError if the part is missing. */
export function neededText(parts, part, name) {
  const text = partText(parts, part, name);
  if (text === undefined) throw new TypeError(`"${name}" has no part ${part}`);
  return text;
}
