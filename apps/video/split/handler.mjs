/**
 * video-split: cuts a video into segments at key frames, without encoding it again, and takes its sound out; each is an output object. The sound stays
 * whole: sound that is encoded in pieces has gaps. Event: { "segment"?: "4s", "width"?: 320 }: least length of a segment, 5 s by default, and what
 * video-transcode shall make of it.
 */
import { dirname, join } from 'node:path';
import ms from 'ms';
import { input, probe, run } from './ffmpeg.mjs';

const MAX_SEGMENTS = 64;
const DEFAULT_SEGMENT = '5s';
/** Codecs that an MP4 file holds; all others go into Matroska, which holds everything. */
const IN_MP4 = /^(h264|hevc|mpeg4|aac|mp3|ac3)$/;
/** The length that a file claims and the one that it has may differ this much, in seconds or in parts. */
const TOLERANCE_SECONDS = 0.5;
const TOLERANCE = 0.02;

export async function handler(event, context) {
  const segmentSeconds = readSegment(event?.segment ?? DEFAULT_SEGMENT);
  const [file, ...more] = context.inputs;
  if (file === undefined || more.length > 0) throw new TypeError(`video-split needs exactly one input object, the video, not ${context.inputs.length}`);
  const { seconds, video, audio } = await probe(file.path, file.name, context);
  if (video === undefined) throw new TypeError(`"${file.name}" has no picture, only sound`);
  if (!(seconds > 0)) throw new TypeError(`"${file.name}" does not say how long it is; streams cannot be split`);
  const count = Math.ceil(seconds / segmentSeconds);
  if (count > MAX_SEGMENTS) throw new RangeError(`segments of ${segmentSeconds} s would make ${count} of "${file.name}", more than ${MAX_SEGMENTS}; it has ${seconds} s`);

  const ending = IN_MP4.test(video.codec) ? 'mp4' : 'mkv';
  const pattern = join(dirname(context.output(`segment-0000.${ending}`)), `segment-%04d.${ending}`);
  const cut = await run([...input(file.path), '-map', '0:V:0', '-c', 'copy', '-f', 'segment', '-segment_time', String(segmentSeconds), '-reset_timestamps', '1', '-segment_list', 'pipe:1', '-segment_list_type', 'csv', pattern], context, `split "${file.name}"`);
  const segments = cut.answers.map((line) => /^(segment-\d{4}\.\w+),([\d.]+),([\d.]+)$/.exec(line)).filter((match) => match !== null).map(([, name, start, end]) => ({ name, seconds: Number((end - start).toFixed(3)) }));
  const copied = segments.reduce((sum, each) => sum + each.seconds, 0);
  if (copied + Math.max(TOLERANCE_SECONDS, seconds * TOLERANCE) < seconds) throw new TypeError(`"${file.name}" is truncated: it should have ${seconds} s, but its picture ends after ${copied.toFixed(2)} s`);

  const sound = audio === undefined ? null : `sound.${IN_MP4.test(audio.codec) ? 'm4a' : 'mka'}`;
  if (sound !== null) await run([...input(file.path), '-map', '0:a:0', '-c', 'copy', context.output(sound)], context, `take the sound out of "${file.name}"`);
  return { segments, sound, seconds, frames: cut.frames, ...video, ...(event?.width === undefined ? {} : { target: { width: event.width } }) };
}

/** "4s", "1m" or a number of seconds. */
function readSegment(segment) {
  const seconds = typeof segment === 'number' ? segment : typeof segment === 'string' && segment.length <= 20 ? (ms(segment) ?? Number.NaN) / 1000 : Number.NaN;
  if (!(seconds >= 0.5 && seconds <= 3600)) throw new RangeError(`segment must be a length from 0.5 s to 1 h such as "4s", not ${JSON.stringify(segment)}`);
  return seconds;
}
