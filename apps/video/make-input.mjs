/**
 * Makes a video with sound (H.264 and AAC in MP4) and the truth about it. A strip at the top of every frame shows the frame's number in black and
 * white, sixteen bits; noise keeps the bits of the picture busy, so that size is length times rate; the sound is one tone, whose pitch depends on the seed.
 * The same seed and size give the same bytes with the same ffmpeg. As a program: `node make-input.mjs PATH [SIZE] [SEED] [--resolution 640x360] [--bits-per-point 2]`; the truth goes to stdout as JSON.
 */
import { stat } from 'node:fs/promises';
import { runAsProgram } from '../input-maker.mjs';
import { ffmpeg } from './ffmpeg-of-project.mjs';

/** Frames per second; there is a key frame every second, where a video can be cut. */
const FPS = 25;
/** Bits of the picture per point and frame: what films are delivered with (cameras write 1 to 3). And of the sound per second. */
const BITS_PER_POINT = 0.345;
const MOST_BITS_PER_POINT = 4;
const SOUND_BITS = 96_000;
/** Frames that sixteen bits can count. */
const MAX_FRAMES = 65_536;
/** Bytes that one transcode step should get, and the most steps for pictures. */
const SEGMENT_BYTES = 1_500_000;
const MAX_SEGMENTS = 6;
const RESOLUTIONS = ['160x90', '320x180', '640x360', '1280x720', '1920x1080'];

/**
 * Writes a video of about `bytes` bytes to `path`. Returns the truth: { path, bytes, payload, seconds, frames, fps, width, height, toneHz }.
 * @param {{ path: string, bytes: number, seed?: number, bitsPerPoint?: number | string, resolution?: string }} options
 */
export async function makeInput({ path, bytes, seed = 1, bitsPerPoint = BITS_PER_POINT, resolution = resolutionFor((bytes * BITS_PER_POINT) / bitsPerPoint) }) {
  if (!(bitsPerPoint > 0 && bitsPerPoint <= MOST_BITS_PER_POINT)) throw new RangeError(`bits per point are more than 0 and at most ${MOST_BITS_PER_POINT}, not ${bitsPerPoint}`);
  const [width, height] = resolution.split('x').map(Number);
  const videoBits = width * height * FPS * bitsPerPoint;
  const seconds = Math.max(1, Math.round((bytes * 8) / (videoBits + SOUND_BITS)));
  const frames = seconds * FPS;
  if (frames > MAX_FRAMES) throw new RangeError(`a video of ${bytes} bytes with ${resolution} points would have ${frames} frames, more than can be numbered (${MAX_FRAMES}); say a higher --resolution`);
  const toneHz = 300 + (seed % 16) * 50;
  const rate = String(Math.round(videoBits));
  await ffmpeg([
    '-v', 'error', '-y', '-filter_threads', '1', '-f', 'lavfi', '-i', `testsrc2=size=${resolution}:rate=${FPS}`, '-f', 'lavfi', '-i', `sine=frequency=${toneHz}:sample_rate=44100`, '-t', String(seconds),
    '-vf', `noise=alls=20:allf=t:all_seed=${seed % 2 ** 31},${numberStrip()}`,
    '-c:v', 'libx264', '-preset', 'ultrafast', '-b:v', rate, '-maxrate', rate, '-bufsize', rate, '-g', String(FPS), '-keyint_min', String(FPS), '-sc_threshold', '0', '-pix_fmt', 'yuv420p', '-threads', '1',
    '-c:a', 'aac', '-b:a', String(SOUND_BITS), '-movflags', '+faststart', '-fflags', '+bitexact', '-f', 'mp4', path,
  ]);
  const made = (await stat(path)).size;
  const segments = Math.min(MAX_SEGMENTS, Math.max(2, Math.round(made / SEGMENT_BYTES)));
  return { path, bytes: made, payload: { segment: `${Math.ceil(seconds / segments)}s` }, seconds, frames, fps: FPS, width, height, toneHz };
}

/** Small files get small pictures, so that they are not over at once, large ones large pictures, so that they end. */
function resolutionFor(bytes) {
  if (bytes < 1e6) return bytes < 250e3 ? '160x90' : '320x180';
  return bytes < 48e6 ? '640x360' : '1280x720';
}

/** Filters that draw the number of the frame: bit i is the i-th field from the left, white for 1. */
function numberStrip() {
  const bit = (i) => `drawbox=x=iw/16*${i}:y=0:w=iw/16:h=ih/9:color=white:t=fill:enable='mod(floor(n/${2 ** i})\\,2)'`;
  return ['drawbox=x=0:y=0:w=iw:h=ih/9:color=black:t=fill', ...Array.from({ length: 16 }, (_, i) => bit(i))].join(',');
}

await runAsProgram(import.meta.url, {
  does: 'Makes a video with sound whose frames are numbered; what is in it goes to stdout as JSON.',
  size: '8MB',
  options: { resolution: { doc: 'points of the picture; by default what suits the size', choices: RESOLUTIONS }, 'bits-per-point': { doc: `of each frame; ${BITS_PER_POINT} by default, 2 as from a camera` } },
  make: ({ 'bits-per-point': bitsPerPoint, ...options }) => makeInput({ ...options, ...(bitsPerPoint === undefined ? {} : { bitsPerPoint: Number(bitsPerPoint) }) }),
});
