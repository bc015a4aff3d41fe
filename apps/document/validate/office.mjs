/** Office documents of the Open XML kind: reads the directory of the zip archive, no more, and decides by the parts that are in it. */

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const MAX_COMMENT = 0xffff;
const MAX_PARTS = 10_000;
/** What all parts together may have unpacked; far more is an archive made to fill memory. */
const MAX_UNPACKED_BYTES = 256 * 1024 * 1024;
const MAIN_PARTS = [['docx', 'word/document.xml'], ['xlsx', 'xl/workbook.xml'], ['pptx', 'ppt/presentation.xml']];

/** { kind, parts, unpackedBytes } of an archive; TypeError if it is damaged, encrypted or none of ours, RangeError if it is too large unpacked. */
export function officeKind(bytes, name) {
  const parts = readDirectory(bytes, name);
  const unpackedBytes = parts.reduce((sum, part) => sum + part.size, 0);
  if (unpackedBytes > MAX_UNPACKED_BYTES) throw new RangeError(`"${name}" would have ${unpackedBytes} bytes unpacked, more than ${MAX_UNPACKED_BYTES}`);
  const names = new Set(parts.map((part) => part.name));
  if (!names.has('[Content_Types].xml')) throw new TypeError(`"${name}" is a zip archive, but no Office document: it has no [Content_Types].xml`);
  const found = MAIN_PARTS.find(([, part]) => names.has(part));
  if (found === undefined) throw new TypeError(`"${name}" is an Office document, but neither text, table nor slides: it has none of ${MAIN_PARTS.map(([, part]) => part).join(', ')}`);
  return { kind: found[0], parts: parts.length, unpackedBytes };
}

function readDirectory(bytes, name) {
  const end = findEnd(bytes);
  if (end < 0) throw new TypeError(`"${name}" begins like a zip archive, but has no directory: the file is truncated`);
  const count = bytes.readUInt16LE(end + 10);
  if (count > MAX_PARTS) throw new RangeError(`"${name}" has ${count} parts, more than ${MAX_PARTS}`);
  const parts = [];
  let at = bytes.readUInt32LE(end + 16);
  for (let i = 0; i < count; i++) {
    if (at + 46 > end || bytes.readUInt32LE(at) !== ENTRY) throw new TypeError(`"${name}" has a damaged directory: entry ${i + 1} of ${count} is not where it should be`);
    const nameLength = bytes.readUInt16LE(at + 28);
    const part = bytes.toString('utf8', at + 46, at + 46 + nameLength);
    if ((bytes.readUInt16LE(at + 8) & 1) !== 0) throw new TypeError(`"${name}" is encrypted (part ${part}); remove the protection first`);
    const packed = bytes.readUInt32LE(at + 20);
    const offset = bytes.readUInt32LE(at + 42);
    if (offset + 30 + packed > bytes.length || bytes.readUInt32LE(offset) !== LOCAL) throw new TypeError(`"${name}" is damaged: part ${part} is not where the directory says`);
    parts.push({ name: part, size: bytes.readUInt32LE(at + 24) });
    at += 46 + nameLength + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
  return parts;
}

/** Where the end record begins: the last place that looks like one and whose comment reaches to the end of the file; -1 without any. */
function findEnd(bytes) {
  for (let at = bytes.length - 22; at >= Math.max(0, bytes.length - 22 - MAX_COMMENT); at--) {
    if (bytes.readUInt32LE(at) === END && at + 22 + bytes.readUInt16LE(at + 20) === bytes.length) return at;
  }
  return -1;
}
