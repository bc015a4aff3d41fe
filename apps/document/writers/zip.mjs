/** Writes zip archives: names, bytes, sizes and checksums in the form that every reader understands. No dates, so that the same parts give the same bytes. */
import { crc32, deflateRawSync } from 'node:zlib';

/** 1980-01-01, the first day that the format knows. */
const DATE = 0x21;

/** An archive of [name, text or bytes, { stored }] in their order; `stored` parts are not packed. */
export function zip(parts) {
  const chunks = [];
  const directory = [];
  let offset = 0;
  for (const [name, content, { stored = false } = {}] of parts) {
    const bytes = Buffer.from(content);
    const packed = stored ? bytes : deflateRawSync(bytes);
    const path = Buffer.from(name);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800, 2); // names are UTF-8
    common.writeUInt16LE(stored ? 0 : 8, 4);
    common.writeUInt16LE(DATE, 8);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(path.length, 22);
    const local = Buffer.from('PK\x03\x04', 'latin1');
    const entry = Buffer.alloc(14);
    entry.writeUInt32LE(offset, 10);
    chunks.push(local, common, path, packed);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, entry, path);
    offset += 4 + common.length + path.length + packed.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(parts.length, 8);
  end.writeUInt16LE(parts.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...chunks, listed, end]);
}

/** The bytes of an archive once so many have been added to it by a picture of noise; the archive as it is if it is large enough. */
export function zipOfSize(parts, picture, { random, bytes }) {
  const without = zip([...parts, [picture, '', { stored: true }]]);
  const room = bytes - without.length;
  return room < 200 ? zip([...parts, [picture, png(random, 0), { stored: true }]]) : zip([...parts, [picture, png(random, room), { stored: true }]]);
}

/** A picture of noise in grey, of about so many bytes and at least one pixel. */
function png(random, bytes) {
  const width = 256;
  const height = Math.max(1, Math.floor((bytes - 120) / (width + 1.1)));
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8; // bits, grey
  const raw = noise(random, height * (width + 1));
  for (let row = 0; row < height; row++) raw[row * (width + 1)] = 0; // no filter
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), chunk('IHDR', header), chunk('IDAT', storedZlib(raw)), chunk('IEND', Buffer.alloc(0))]);
}

/** Random bytes. */
export function noise(random, bytes) {
  const made = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) made[i] = random() * 256;
  return made;
}

/** A zlib stream of blocks that are not packed, so that the size is known before. */
function storedZlib(raw) {
  const chunks = [Buffer.from([0x78, 0x01])];
  for (let at = 0; at < raw.length; at += 0xffff) {
    const block = raw.subarray(at, at + 0xffff);
    const head = Buffer.alloc(5);
    head[0] = at + 0xffff >= raw.length ? 1 : 0;
    head.writeUInt16LE(block.length, 1);
    head.writeUInt16LE(~block.length & 0xffff, 3);
    chunks.push(head, block);
  }
  let a = 1;
  let b = 0;
  for (const byte of raw) {
    a = (a + byte) % 65_521;
    b = (b + a) % 65_521;
  }
  const check = Buffer.alloc(4);
  check.writeUInt32BE(b * 65_536 + a);
  return Buffer.concat([...chunks, check]);
}

function chunk(type, data) {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(data.length, 0);
  head.write(type, 4, 'latin1');
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(data, crc32(type)));
  return Buffer.concat([head, data, check]);
}
