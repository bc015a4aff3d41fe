/**
 * video-transcode: makes a smaller segment of one segment (H.264, half as wide by default), or AAC of the sound, on one thread. Event: what video-split
 * returned; { "target": { "width": 320 } } names another width.
 */
import { stat } from 'node:fs/promises';
import { parse } from 'node:path';
import { input, probe, run } from './ffmpeg.mjs';

const WIDTH = { least: 16, most: 4096 };

export async function handler(event, context) {
  const width = event?.target?.width;
  if (width !== undefined && !(Number.isInteger(width) && width % 2 === 0 && width >= WIDTH.least && width <= WIDTH.most)) throw new RangeError(`the width must be an even number from ${WIDTH.least} to ${WIDTH.most}, not ${JSON.stringify(width)}`);
  const [segment, ...more] = context.inputs;
  if (segment === undefined || more.length > 0) throw new TypeError(`video-transcode needs exactly one input object, a segment, not ${context.inputs.length}`);
  const before = await probe(segment.path, segment.name, context);
  const base = parse(segment.name).name;
  const done = async (kind, name, facts) => ({ kind, name, ...facts, bytes: (await stat(context.output(name))).size, bytesBefore: segment.sizeBytes });

  if (before.video === undefined) {
    const name = `${base}.m4a`;
    await run([...input(segment.path), '-map', '0:a:0', '-c:a', 'aac', '-b:a', '96k', '-threads', '1', context.output(name)], context, `encode the sound "${segment.name}"`);
    return done('sound', name, { seconds: (await probe(context.output(name), name, context)).seconds });
  }
  const name = `${base}.mp4`;
  const scale = width === undefined ? 'scale=trunc(iw/4)*2:-2' : `scale=${width}:-2`;
  const { frames } = await run([...input(segment.path), '-map', '0:V:0', '-vf', scale, '-filter_threads', '1', '-c:v', 'libx264', '-preset', 'superfast', '-crf', '28', '-pix_fmt', 'yuv420p', '-threads', '1', '-movflags', '+faststart', context.output(name)], context, `encode "${segment.name}"`);
  if (frames === 0) throw new TypeError(`"${segment.name}" has no pictures that can be decoded`);
  const after = await probe(context.output(name), name, context);
  return done('video', name, { frames, seconds: after.seconds, width: after.video.width, height: after.video.height });
}
