/**
 * Compares a merged video with what the maker made: reads the number in every single frame, in order, and the pitch of the sound; and whether length,
 * size of the picture and streams are what they should be.
 */
import { ffmpeg } from './ffmpeg-of-project.mjs';

const BITS = 16;
const SOUND_RATE = 8_000;
const MAX_PROBLEMS = 5;

/** What differs, at most five lines; nothing if all is right. `result` is what video-merge returned, `outputs` its object as a file. */
export async function checkOutput({ truth, result, outputs }) {
  if (result === null || typeof result !== 'object') return [`the result is ${JSON.stringify(result)}`];
  if (outputs.length !== 1) return [`there are ${outputs.length} output objects, not one`];
  const [{ path }] = outputs;
  const problems = [];
  const differ = (what, is, expected, tolerance = 0) => {
    if (!(Math.abs(is - expected) <= tolerance)) problems.push(`${what} is ${is}, not ${expected}`);
  };
  const { stderr } = await ffmpeg(['-i', path], { mayFail: true });
  const [, hours, minutes, seconds] = /Duration: (\d+):(\d+):([\d.]+)/.exec(stderr) ?? [];
  const [, width, height] = /Video: h264.*?, (\d+)x(\d+)/.exec(stderr) ?? [];
  const hasSound = /Audio: aac/.test(stderr);
  if (!hasSound) problems.push('there is no AAC sound');
  // A picture lasts until the next would come; sound comes in packets of 23 ms.
  differ('the length in s', Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds), truth.seconds, 0.15);
  differ('the width', Number(width), Math.trunc(truth.width / 4) * 2);
  differ('the height', Number(height), truth.height / 2, 1);
  differ('the number of frames in the result', result.frames, truth.frames);

  const numbers = await frameNumbers(path);
  differ('the number of frames', numbers.length, truth.frames);
  for (let i = 0; i < numbers.length && problems.length < MAX_PROBLEMS; i++) differ(`the number in frame ${i}`, numbers[i], i);
  if (hasSound) {
    const { pitchHz, length } = await sound(path);
    differ('the pitch in Hz', pitchHz, truth.toneHz, truth.toneHz * 0.01);
    differ('the length of the sound in s', length, truth.seconds, 0.15);
  }
  return problems.slice(0, MAX_PROBLEMS);
}

/** The numbers in the strips at the top of all frames. */
export async function frameNumbers(path) {
  const { stdout } = await ffmpeg(['-v', 'error', '-threads', '1', '-i', path, '-map', '0:v:0', '-vf', `crop=iw:ih/9:0:0,scale=${BITS}:1:flags=area,format=gray`, '-vsync', 'passthrough', '-f', 'rawvideo', 'pipe:1']);
  return Array.from({ length: stdout.length / BITS }, (_, frame) => Array.from({ length: BITS }, (__, bit) => (stdout[frame * BITS + bit] > 127 ? 2 ** bit : 0)).reduce((a, b) => a + b, 0));
}

/** Length, and pitch from how often the sound goes through zero between the first and the last time: encoders put silence around it, which counts in a short one. */
async function sound(path) {
  const { stdout } = await ffmpeg(['-v', 'error', '-i', path, '-map', '0:a:0', '-ac', '1', '-ar', String(SOUND_RATE), '-f', 's16le', 'pipe:1']);
  const samples = stdout.length / 2;
  let crossings = 0;
  let isPositive = false;
  let first = 0, last = 0;
  for (let i = 0; i < samples; i++) {
    const value = stdout.readInt16LE(2 * i);
    if (value === 0 || value > 0 === isPositive) continue;
    isPositive = !isPositive;
    crossings++;
    if (crossings === 1) first = i;
    last = i;
  }
  return { pitchHz: last === first ? 0 : ((crossings - 1) / 2) * (SOUND_RATE / (last - first)), length: samples / SOUND_RATE };
}
