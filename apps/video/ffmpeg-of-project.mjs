/** The ffmpeg that makes and checks videos on this machine: the optional package of the project, else the one on the PATH. FFMPEG_PATH names another. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';

const KEPT_CHARACTERS = 8_000;

/** Path of ffmpeg. An Error with the line that installs it if there is none. */
export function findFfmpeg() {
  const { FFMPEG_PATH, PATH = '' } = process.env;
  if (FFMPEG_PATH !== undefined && FFMPEG_PATH !== '') return FFMPEG_PATH;
  const installed = packaged();
  if (installed !== undefined && isExecutable(installed)) return installed;
  const found = PATH.split(delimiter).map((folder) => join(folder, 'ffmpeg')).find(isExecutable);
  if (found === undefined) throw new Error('ffmpeg was found neither as the optional package @ffmpeg-installer/ffmpeg nor on the PATH. "npm ci" installs the package; on Debian also: apt-get install -y ffmpeg');
  return found;
}

/**
 * Runs it to its end; returns { stdout, stderr }, stdout as bytes, stderr as text from the end. An Error with the last line of stderr if it fails,
 * except with `mayFail`.
 */
export async function ffmpeg(args, { mayFail = false } = {}) {
  const child = spawn(findFfmpeg(), ['-hide_banner', '-nostdin', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const stdout = [];
  let stderr = '';
  child.stdout.on('data', (chunk) => stdout.push(chunk));
  child.stderr.on('data', (chunk) => {
    stderr = (stderr + chunk).slice(-KEPT_CHARACTERS);
  });
  const [exitCode] = await once(child, 'close');
  if (exitCode !== 0 && !mayFail) throw new Error(`ffmpeg ended with ${exitCode}: ${stderr.trim().split('\n').at(-1)}`);
  return { stdout: Buffer.concat(stdout), stderr };
}

function packaged() {
  try {
    return createRequire(import.meta.url)('@ffmpeg-installer/ffmpeg').path;
  } catch {
    return undefined; // not installed, or not for this platform
  }
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
