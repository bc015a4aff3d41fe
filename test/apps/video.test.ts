/** The video application with its real packages, ffmpeg among them: every frame of a merged video is looked at; and files that are no videos. */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ffmpeg, ffmpegMissing } from './ffmpeg.ts';
import { APPS, inputOf, unpackApp, type Input, type Ran, type UnpackedApp } from './unpacked.ts';

interface Truth {
  readonly bytes: number;
  readonly payload: { readonly segment: string };
  readonly seconds: number;
  readonly frames: number;
  readonly width: number;
  readonly height: number;
}
interface Encoded {
  readonly kind: string;
  readonly name: string;
  readonly frames: number;
  readonly width: number;
}

// Plain JavaScript, both.
const appModule = async (path: string): Promise<unknown> => import(pathToFileURL(join(APPS, 'video', path)).href);
const { makeInput } = (await appModule('make-input.mjs')) as { makeInput: (options: { path: string; bytes: number; seed?: number; resolution?: string }) => Promise<Truth> };
const { checkOutput, frameNumbers } = (await appModule('check-output.mjs')) as { checkOutput: (run: { truth: Truth; result: unknown; outputs: readonly Input[] }) => Promise<readonly string[]>; frameNumbers: (path: string) => Promise<number[]> };

let folder = '';
let call: UnpackedApp['call'];
let given: UnpackedApp['given'];
let video: Input;
let truth: Truth;
beforeAll(async () => {
  if (ffmpegMissing !== undefined) return;
  ({ folder, call, given } = await unpackApp('video'));
  const path = join(folder, 'made.mp4');
  truth = await makeInput({ path, bytes: 500_000, seed: 4 });
  video = await inputOf(path);
}, 180_000);
afterAll(() => (folder === '' ? undefined : rm(folder, { recursive: true, force: true })));

/** A file that ffmpeg makes. */
async function filmed(name: string, ...args: string[]): Promise<Input> {
  const path = join(folder, name);
  await ffmpeg(['-v', 'error', '-y', ...args, path]);
  return inputOf(path);
}

/** What the workflow does, step by step; parts are encoded one after the other. */
async function transcode(event: unknown, input: Input): Promise<{ readonly split: Ran; readonly parts: readonly Ran[]; readonly merged: Ran }> {
  const split = await call('video-split', event, [input]);
  const parts: Ran[] = [];
  for (const part of split.outputs) parts.push(await call('video-transcode', split.result, [part]));
  return { split, parts, merged: await merge(parts) };
}

const merge = (parts: readonly Ran[]): Promise<Ran> => call('video-merge', parts.map(({ result }) => result), parts.flatMap(({ outputs }) => outputs));

it('has the same runner of ffmpeg in both of its bundles', async () => {
  const [a, b] = await Promise.all(['split', 'encode'].map((code) => readFile(join(APPS, 'video', code, 'ffmpeg.mjs'), 'utf8')));
  expect(a).toBe(b);
});

describe.skipIf(ffmpegMissing !== undefined)('the maker', () => {
  it('makes the same video for the same seed, of about the size that is asked for, with numbered frames', async () => {
    const digest = async (seed: number): Promise<string> => {
      await makeInput({ path: join(folder, 'd.mp4'), bytes: 150_000, seed });
      return createHash('sha256').update(await readFile(join(folder, 'd.mp4'))).digest('hex');
    };
    expect(await digest(1)).toBe(await digest(1));
    expect(await digest(1)).not.toBe(await digest(2));
    expect(Math.abs(truth.bytes / 500_000 - 1)).toBeLessThan(0.2);
    expect(await frameNumbers(video.path)).toEqual(Array.from({ length: truth.frames }, (_, i) => i));
  }, 60_000);

  it('refuses more frames than it can number', async () => {
    await expect(makeInput({ path: join(folder, 'x.mp4'), bytes: 1e9, resolution: '160x90' })).rejects.toThrow(/more than can be numbered \(65536\); say a higher --resolution/);
  });
});

describe.skipIf(ffmpegMissing !== undefined)('the workflow video-transcoding', () => {
  it('gives back every frame, in order, half as wide, with its sound', async () => {
    const { split, parts, merged } = await transcode({ segment: '2s' }, video);
    const segments = Math.ceil(truth.seconds / 2);
    expect(split.outputs.map(({ name }) => name)).toEqual([...Array.from({ length: segments }, (_, i) => `segment-000${i}.mp4`), 'sound.m4a']);
    expect(split.result).toMatchObject({ frames: truth.frames, width: truth.width, height: truth.height, fps: 25, sound: 'sound.m4a' });
    expect((split.result as { segments: { seconds: number }[] }).segments.reduce((sum, { seconds }) => sum + seconds, 0)).toBeCloseTo(truth.seconds, 1);
    for (const { result, outputs } of parts) expect(result).toMatchObject({ bytes: outputs[0]?.sizeBytes });
    expect(merged.result).toMatchObject({ segments, frames: truth.frames, width: truth.width / 2, audio: 'aac', codec: 'h264', bytes: merged.outputs[0]?.sizeBytes });
    expect(await checkOutput({ truth, ...merged })).toEqual([]);
  }, 60_000);

  it('has a check that finds a wrong order, a lost segment and lost sound', async () => {
    const split = await call('video-split', { segment: '2s' }, [video]);
    const [first, second, ...others] = await Promise.all(split.outputs.map((part) => call('video-transcode', split.result, [part])));
    const [a, b] = [first as Ran, second as Ran];
    const problems = async (parts: readonly Ran[]): Promise<string> => (await checkOutput({ truth, ...(await merge(parts)) })).join('\n');
    expect(await problems([b, a, ...others])).toMatch(/^the number in frame 0 is 50, not 0/);
    expect(await problems([a, ...others])).toContain(`the number of frames is ${truth.frames - 50}, not ${truth.frames}`);
    expect(await problems([a, b, ...others.slice(0, -1)])).toContain('there is no AAC sound');
  }, 60_000);

  it('takes videos without sound, and codecs that MP4 does not hold', async () => {
    const silent = await filmed('silent.mp4', '-i', video.path, '-an', '-c', 'copy');
    const { merged } = await transcode(null, silent);
    expect(merged.result).toMatchObject({ frames: truth.frames, audio: null });
    expect(await frameNumbers(merged.outputs[0]?.path ?? '')).toHaveLength(truth.frames);

    const web = await filmed('web.webm', '-t', '2', '-i', video.path, '-c:v', 'libvpx', '-deadline', 'realtime', '-g', '25', '-c:a', 'libvorbis');
    const converted = await transcode({ segment: 1, width: 64 }, web);
    expect(converted.split.outputs.map(({ name }) => name)).toEqual(['segment-0000.mkv', 'segment-0001.mkv', 'sound.mka']);
    expect(converted.merged.result).toMatchObject({ codec: 'h264', audio: 'aac', width: 64, frames: 50 });
    expect(await frameNumbers(converted.merged.outputs[0]?.path ?? '')).toEqual(Array.from({ length: 50 }, (_, i) => i));
  }, 60_000);
});

describe.skipIf(ffmpegMissing !== undefined)('video-split', () => {
  const split = (event: unknown, input: Input): Promise<Ran> => call('video-split', event, [input]);

  it.each(['x', '0.1s', 0, -1, '3h', {}, '9'.repeat(30)])('refuses segments of %j', async (segment) => {
    await expect(split({ segment }, video)).rejects.toThrow(/segment must be a length from 0\.5 s to 1 h such as "4s"/);
  });

  it('refuses more segments than are good for anybody', async () => {
    const long = await filmed('long.mp4', '-f', 'lavfi', '-i', 'color=size=32x32:rate=1', '-t', '200', '-g', '1', '-c:v', 'libx264', '-preset', 'ultrafast');
    await expect(split({ segment: '1s' }, long)).rejects.toThrow(/segments of 1 s would make 200 of "long\.mp4", more than 64; it has 200 s/);
  });

  it('refuses what is no video', async () => {
    await expect(split(null, await given('garbage.mp4', 'no video at all '.repeat(100)))).rejects.toThrow(/"garbage\.mp4" is no video that can be read: .*Invalid data found/);
    await expect(split(null, await given('empty.mp4', ''))).rejects.toThrow(/"empty\.mp4" is no video that can be read/);
    await expect(split(null, await filmed('song.m4a', '-f', 'lavfi', '-i', 'sine', '-t', '1'))).rejects.toThrow('"song.m4a" has no picture, only sound');
    await expect(call('video-split', null, [])).rejects.toThrow('video-split needs exactly one input object, the video, not 0');
  });

  it('refuses truncated videos, wherever they keep their index', async () => {
    const whole = await readFile(video.path);
    await expect(split(null, await given('half.mp4', whole.subarray(0, whole.length / 2)))).rejects.toThrow(/"half\.mp4" is truncated: it should have \d+(\.\d+)? s, but its picture ends after \d/);
    const indexLast = await filmed('last.mp4', '-i', video.path, '-c', 'copy');
    await expect(split(null, await given('headless.mp4', (await readFile(indexLast.path)).subarray(0, 200_000)))).rejects.toThrow(/"headless\.mp4" is no video that can be read: .*moov atom not found/);
  });

  it('reads no other files than the one it was given, whatever that one says', async () => {
    for (const [name, content] of [['a.m3u8', `#EXTM3U\n#EXTINF:1,\n${video.path}\n#EXT-X-ENDLIST\n`], ['b.ffconcat', `ffconcat version 1.0\nfile ${video.path}\n`]] as const) {
      await expect(split(null, await given(name, content))).rejects.toThrow(/is no video that can be read/);
    }
  });
});

describe.skipIf(ffmpegMissing !== undefined)('video-transcode', () => {
  it.each([15, 17, 5000, '320', 1.5])('refuses the width %j', async (width) => {
    await expect(call('video-transcode', { target: { width } }, [video])).rejects.toThrow(/the width must be an even number from 16 to 4096/);
  });

  it('says what it cannot read', async () => {
    await expect(call('video-transcode', null, [await given('s.mp4', 'x')])).rejects.toThrow(/"s\.mp4" is no video that can be read/);
    await expect(call('video-transcode', null, [])).rejects.toThrow('exactly one input object, a segment, not 0');
  });
});

describe.skipIf(ffmpegMissing !== undefined)('video-merge', () => {
  it('refuses parts that do not belong together', async () => {
    const encoded = async (width: number): Promise<Ran> => call('video-transcode', { target: { width } }, [video]);
    const [small, large] = [await encoded(32), await encoded(64)];
    const sound = await call('video-transcode', null, [await filmed('s.m4a', '-i', video.path, '-vn', '-c', 'copy')]);
    const result = (ran: Ran): Encoded => ran.result as Encoded;
    await expect(merge([small, large])).rejects.toThrow(/segments of different sizes cannot be merged: "made\.mp4" has 64x/);
    await expect(merge([sound])).rejects.toThrow('at least one segment and at most one sound, not 0 and 1 of 1');
    await expect(merge([small, sound, sound])).rejects.toThrow('not 1 and 2 of 3');
    await expect(call('video-merge', [result(small)], [])).rejects.toThrow('each of its 0 input objects, not 1 results');
    await expect(call('video-merge', { a: 1 }, small.outputs)).rejects.toThrow('each of its 1 input objects, not {"a":1}');
    await expect(call('video-merge', [{ ...result(small), frames: 1 }], small.outputs)).rejects.toThrow(`the merged video has ${truth.frames} frames, its segments have 1`);
  }, 60_000);
});
