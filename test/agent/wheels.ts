/** Wheels that tests make themselves: a wheel is a zip with the files of a package and its metadata. */
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';

export interface TestWheel {
  readonly file: string;
  readonly path: string;
  readonly name: string;
  readonly version: string;
  /** SHA-256 in the form of a lock. */
  readonly integrity: string;
  readonly bytes: Buffer;
}

/** Writes a wheel for any platform into a folder. */
export async function makeWheel(folder: string, name: string, version: string, files: Readonly<Record<string, string | Buffer>>, options: { readonly requires?: readonly string[] } = {}): Promise<TestWheel> {
  const base = `${name.replaceAll(/[-_.]+/g, '_')}-${version}`;
  const info = `${base}.dist-info`;
  const all: Record<string, string | Buffer> = {
    ...files,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${(options.requires ?? []).map((requirement) => `Requires-Dist: ${requirement}\n`).join('')}`,
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
  };
  all[`${info}/RECORD`] = `${[...Object.keys(all), `${info}/RECORD`].map((path) => `${path},,`).join('\n')}\n`;
  const bytes = zip(all);
  const file = `${base}-py3-none-any.whl`;
  await writeFile(join(folder, file), bytes);
  return { file, path: join(folder, file), name, version, integrity: `sha256-${createHash('sha256').update(bytes).digest('base64')}`, bytes };
}

/** A zip archive; every second file is stored, the others are deflated. */
export function zip(files: Readonly<Record<string, string | Buffer>>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [i, [path, content]] of Object.entries(files).entries()) {
    const data = Buffer.from(content);
    const packed = i % 2 === 0 ? deflateRawSync(data) : data;
    const name = Buffer.from(path);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800, 2);
    common.writeUInt16LE(i % 2 === 0 ? 8 : 0, 4);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, name, packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((0o100644 << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x03', 'latin1'), common, tail, name]));
    parts.push(local);
    offset += local.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(directory.length, 8);
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, listed, end]);
}
