/**
 * video-merge: puts the encoded segments one behind the other and the sound beside them, without encoding again. Event: what the calls of video-transcode
 * returned, in the order of the input objects. The merged video is an output object; that every frame of every segment is in it is checked.
 */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concat, input, probe, run } from './ffmpeg.mjs';

const OUTPUT = 'merged.mp4';

export async function handler(event, context) {
  const parts = Array.isArray(event) ? event : undefined;
  if (parts === undefined || parts.length !== context.inputs.length) throw new TypeError(`video-merge needs what video-transcode returned about each of its ${context.inputs.length} input objects, not ${parts === undefined ? JSON.stringify(event)?.slice(0, 80) : `${parts.length} results`}`);
  const of = (kind) => parts.flatMap((part, i) => (part?.kind === kind ? [{ ...part, path: context.inputs[i].path }] : []));
  const segments = of('video');
  const [sound, ...otherSounds] = of('sound');
  if (segments.length === 0 || otherSounds.length > 0 || segments.length + (sound === undefined ? 0 : 1) !== parts.length) throw new TypeError(`video-merge needs at least one segment and at most one sound, not ${segments.length} and ${otherSounds.length + (sound === undefined ? 0 : 1)} of ${parts.length} inputs`);
  const [{ width, height }] = segments;
  const odd = segments.find((segment) => segment.width !== width || segment.height !== height);
  if (odd !== undefined) throw new TypeError(`segments of different sizes cannot be merged: "${odd.name}" has ${odd.width}x${odd.height}, the first ${width}x${height}`);

  const folder = await mkdtemp(join(tmpdir(), 'merge-'));
  let frames;
  try {
    const list = join(folder, 'list');
    await writeFile(list, `ffconcat version 1.0\n${segments.map(({ path }) => `file 'file:${path.replaceAll("'", String.raw`'\''`)}'`).join('\n')}\n`);
    ({ frames } = await run([...concat(list), ...(sound === undefined ? [] : input(sound.path)), '-map', '0:v', ...(sound === undefined ? [] : ['-map', '1:a']), '-c', 'copy', '-movflags', '+faststart', context.output(OUTPUT)], context, 'merge the segments'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const expected = segments.reduce((sum, segment) => sum + segment.frames, 0);
  if (frames !== expected) throw new Error(`the merged video has ${frames} frames, its segments have ${expected}`);
  const { seconds, video, audio } = await probe(context.output(OUTPUT), OUTPUT, context);
  return { name: OUTPUT, segments: segments.length, frames, seconds, ...video, audio: audio?.codec ?? null, bytes: (await stat(context.output(OUTPUT))).size };
}
