/**
 * Runs ffmpeg, which comes with the function as a package (a static binary for the platform) or lies on the PATH. Files are given to it as files and
 * nothing else: a playlist that names other files or addresses is no input. The functions of this application have the same copy of this file.
 */
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { x } from 'tinyexec';
import which from 'which';

/** Containers that are read; lists and playlists are not among them. */
const FORMATS = 'mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,wav';
/** Lines that are kept of what ffmpeg says, from the end. */
const KEPT_LINES = 100;

const ffmpeg = findFfmpeg();

/** The options before an input file: read it in one thread, as what it is. */
export function input(path) {
  return ['-threads', '1', '-protocol_whitelist', 'file', '-format_whitelist', FORMATS, '-i', `file:${path}`];
}

/** The options before a list of files that are read as one. */
export function concat(list) {
  return ['-f', 'concat', '-safe', '0', '-protocol_whitelist', 'file', '-format_whitelist', `concat,${FORMATS}`, '-i', list];
}

/**
 * Runs ffmpeg with these arguments until its end or that of the invocation. Returns { frames, answers }: how many frames it wrote, and the
 * lines of its output. An Error with its last words if it fails.
 */
export async function run(args, context, what) {
  const { exitCode, said, answers, progress } = await execute(['-v', 'error', '-nostats', '-progress', 'pipe:1', '-y', ...args], context);
  if (exitCode !== 0) throw new Error(`ffmpeg could not ${what}: ${lastWords(said) || `it ended with ${exitCode}`}`);
  return { frames: Number(progress.get('frame') ?? 0), answers };
}

/** What is in a file: { seconds, video?: { codec, width, height, fps }, audio?: { codec } }. TypeError if it is no video or sound. */
export async function probe(path, name, context) {
  const { said } = await execute(input(path), context);
  const duration = said.map((line) => /^\s*Duration: (\S+),/.exec(line)?.[1]).find((text) => text !== undefined);
  const streams = said.filter((line) => /^\s*Stream #0:\d+/.test(line) && !line.includes('(attached pic)'));
  if (streams.length === 0) throw new TypeError(`"${name}" is no video that can be read: ${lastWords(said.filter((line) => !/At least one output file/.test(line)))}`);
  const video = streams.map((line) => /: Video: (\w+).*?, (\d{1,5})x(\d{1,5})/.exec(line)).find((match) => match !== null);
  const audio = streams.map((line) => /: Audio: (\w+)/.exec(line)).find((match) => match !== null);
  const fps = streams.map((line) => /([\d.]+)k? fps/.exec(line)?.[1]).find((text) => text !== undefined);
  return {
    seconds: secondsOf(duration ?? ''),
    ...(video === undefined ? {} : { video: { codec: video[1], width: Number(video[2]), height: Number(video[3]), fps: Number(fps ?? 25) } }),
    ...(audio === undefined ? {} : { audio: { codec: audio[1] } }),
  };
}

/** Both streams line by line; neither is kept whole. stdout: "key=value" is progress, the rest is what was asked for. */
async function execute(args, context) {
  const { process: child } = x(ffmpeg, ['-hide_banner', '-nostdin', ...args], { nodePath: false, timeout: Math.max(1, Math.floor(context.remainingMs())) });
  const said = [];
  const answers = [];
  const progress = new Map();
  createInterface({ input: child.stderr }).on('line', (line) => said.push(line) > KEPT_LINES && said.shift());
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined) progress.set(key, value.trim());
    else if (answers.push(line) > KEPT_LINES) answers.shift();
  });
  const [exitCode, signal] = await once(child, 'close');
  return { exitCode: exitCode ?? signal, said, answers, progress };
}

/** "01:02:03.5" → 3723.5; NaN for anything else. */
function secondsOf(time) {
  const [, hours, minutes, seconds] = /^(\d+):(\d\d):(\d\d(?:\.\d+)?)$/.exec(time) ?? [];
  return hours === undefined ? Number.NaN : Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
}

/** The end of what it said, without the addresses and paths of this machine. */
function lastWords(lines) {
  return lines.slice(-3).map((line) => line.replaceAll(/@ 0x[0-9a-f]+/g, '').replaceAll(/file:\/\S+?(?=: |$)/g, 'the file').trim()).filter((line) => line !== '').join(' · ').slice(0, 400);
}

function findFfmpeg() {
  const name = `@ffmpeg-installer/linux-${process.arch}`;
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'ffmpeg');
  } catch {
    // No such package for this platform: perhaps the node has one of its own.
  }
  const found = which.sync('ffmpeg', { nothrow: true });
  if (found === null) throw new Error(`ffmpeg was found neither as the package ${name} nor on the PATH (${process.env.PATH}); on Debian: apt-get install -y ffmpeg`);
  return found;
}
