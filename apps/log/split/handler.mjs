/**
 * log-split: cuts the log file (the one input object) into parts at line ends and writes each as an output object.
 * Event: { "parts": N }, 1 to 1024, 4 by default. Streams: memory does not grow with the file.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';

const MAX_PARTS = 1024;
const NEWLINE = 0x0a;

export async function handler(event, context) {
  const parts = event?.parts ?? 4;
  if (!Number.isInteger(parts) || parts < 1 || parts > MAX_PARTS) throw new RangeError(`parts must be a whole number from 1 to ${MAX_PARTS}, not ${JSON.stringify(parts)}`);
  const [log, ...more] = context.inputs;
  if (log === undefined || more.length > 0) throw new TypeError(`log-split needs exactly one input object, the log file, not ${context.inputs.length}`);

  const bounds = await lineBounds(log.path, parts);
  const written = [];
  for (let i = 0; i + 1 < bounds.length; i++) {
    const name = `part-${String(i).padStart(4, '0')}.log`;
    const bytes = bounds[i + 1] - bounds[i];
    await pipeline(createReadStream(log.path, { start: bounds[i], end: bounds[i + 1] - 1, highWaterMark: 1 << 20 }), createWriteStream(context.output(name), { highWaterMark: 1 << 20 }));
    written.push({ name, bytes });
  }
  return { parts: written, bytes: bounds.at(-1) ?? 0 };
}

/** Offsets where parts begin, and the end; each right behind a newline. Parts that would be empty are left out. */
async function lineBounds(path, parts) {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const bounds = [0];
    for (let i = 1; i < parts; i++) {
      const wanted = Math.floor((size * i) / parts);
      const bound = await behindNewline(file, Math.max(wanted - 1, 0), size);
      if (bound > bounds.at(-1) && bound < size) bounds.push(bound);
    }
    if (size > 0) bounds.push(size);
    return bounds;
  } finally {
    await file.close();
  }
}

/** The offset behind the first newline at or after `from`; the size if there is none. */
async function behindNewline(file, from, size) {
  const buffer = Buffer.allocUnsafe(64 * 1024);
  for (let offset = from; offset < size; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    if (bytesRead === 0) break;
    const found = buffer.subarray(0, bytesRead).indexOf(NEWLINE);
    if (found >= 0) return offset + found + 1;
    offset += bytesRead;
  }
  return size;
}
