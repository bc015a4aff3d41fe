/** ffmpeg as the makers and checks of the video application find it, and why there is none. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { APPS } from './unpacked.ts';

interface FfmpegModule {
  findFfmpeg(): string;
  /** Runs it to its end; rejects if it fails. */
  ffmpeg(args: readonly string[]): Promise<unknown>;
}

/** Plain JavaScript. */
export const { findFfmpeg, ffmpeg } = (await import(pathToFileURL(join(APPS, 'video', 'ffmpeg-of-project.mjs')).href)) as FfmpegModule;

/** Why videos cannot be made here; undefined: they can. */
export const ffmpegMissing: string | undefined = (() => {
  try {
    findFfmpeg();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
})();
if (ffmpegMissing !== undefined) console.warn(`Tests of videos are skipped: ${ffmpegMissing}`);
