/**
 * Bench `page`: the inspector's page in Chromium under 2 000 transitions per second with 10 000 invocations that wait, all invented by
 * bench/fake-daemon.ts. Without a screen there is no GPU: frames are drawn by the CPU, beside the load generator, and counted by
 * requestAnimationFrame, which Chromium calls 60 times a second at most. Loads are cold: a new page each, with the cache of the browser off.
 */
import type { Page } from 'playwright-core';
import { startFakeDaemon } from './fake-daemon.ts';
import { overRounds, quantile, type Bench } from './harness.ts';

const LOAD = { delaying: 10_000, transitionsPerS: 2_000, nodes: 64, slots: 8 } as const;

/** Times between the frames of so many seconds, ms. `between` runs in every frame. */
function frames(page: Page, seconds: number, between = ''): Promise<number[]> {
  return page.evaluate(`new Promise((done) => {
    const gaps = [];
    let before = performance.now();
    const end = before + ${seconds * 1_000};
    const turn = () => {
      const now = performance.now();
      gaps.push(now - before);
      before = now;
      ${between}
      if (now < end) requestAnimationFrame(turn); else done(gaps);
    };
    requestAnimationFrame(turn);
  })`);
}

/** Goes down the long list and up again, about 3 000 px a second. */
const SCROLL = "{ const body = document.querySelector('.table-body'); body.scrollTop = Math.abs(((now * 3) % 24000) - 12000); }";

/** The page's bench. */
export const pageBench: Bench = {
  description: 'the page in Chromium: time until it can be used, size of its script, frames per second at 2 000 transitions/s',
  async run({ quick, progress }) {
    // Vite and a browser driver: only for this bench, and only where they are installed.
    const { builtPage, scriptBytes } = await import('./built-page.ts');
    const { openBrowser } = await import('./page-browser.ts');
    const dir = await builtPage();
    const daemon = await startFakeDaemon(LOAD);
    const browser = await openBrowser();
    const loads = quick ? 3 : 9, rounds = quick ? 1 : 3, seconds = quick ? 2 : 5;
    const interactive: number[] = [], rates: number[] = [], scrolling: number[] = [], busy: number[] = [], gaps: number[] = [];
    try {
      for (let i = 0; i <= loads; i++) {
        const page = await browser.newPage();
        const session = await browser.context.newCDPSession(page);
        await session.send('Network.setCacheDisabled', { cacheDisabled: true });
        await page.goto(daemon.url);
        await page.waitForFunction(() => performance.getEntriesByName('metronome.interactive').length > 0, undefined, { polling: 20, timeout: 60_000 });
        // The first load also wakes the browser up.
        if (i > 0) interactive.push((await page.evaluate("performance.getEntriesByName('metronome.interactive')[0].startTime")) as number);
        await page.close();
      }
      progress(`page: ${loads} loads`);
      const page = await browser.newPage();
      await page.goto(`${daemon.url}#/machines/invocation?state=delaying`);
      await page.getByRole('table', { name: 'In delaying' }).getByRole('link').first().waitFor({ timeout: 60_000 });
      await frames(page, 2);
      const session = await browser.context.newCDPSession(page);
      await session.send('Performance.enable');
      const busyS = async (): Promise<number> => (await session.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'TaskDuration')?.value ?? Number.NaN;
      for (let round = 0; round < rounds; round++) {
        const before = await busyS();
        const still = await frames(page, seconds);
        busy.push(((await busyS()) - before) / (still.reduce((sum, gap) => sum + gap, 0) / 1_000) * 100);
        rates.push((still.length * 1_000) / still.reduce((sum, gap) => sum + gap, 0));
        gaps.push(...still);
        const moving = await frames(page, seconds, SCROLL);
        scrolling.push((moving.length * 1_000) / moving.reduce((sum, gap) => sum + gap, 0));
        progress(`page: round ${round + 1} of ${rounds}`);
      }
    } finally {
      await browser.close();
      await daemon.close();
    }
    gaps.sort((a, b) => a - b);
    const kb = scriptBytes(dir) / 1_000;
    return {
      mode: 'real',
      params: { ...LOAD, gpu: 'none: drawn by the CPU', browser: 'Chromium, headless, 1440 × 900', frames: 'requestAnimationFrame, at most 60 per second', load: 'bench/fake-daemon.ts in the process of the bench' },
      figures: [
        overRounds('interactive_ms', 'ms', interactive, interactive.length), overRounds('script_gzip_kb', 'kB', [kb], 1), overRounds('fps_2000', '1/s', rates, gaps.length),
        overRounds('fps_2000_scrolling', '1/s', scrolling, gaps.length), overRounds('main_thread_busy', '%', busy, busy.length), overRounds('frame_gap_p99_ms', 'ms', [quantile(gaps, 0.99)], gaps.length),
      ],
    };
  },
};
