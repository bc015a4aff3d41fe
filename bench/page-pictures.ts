/**
 * `node bench/page-pictures.ts`: takes the pictures of the page for the documentation (docs/images), of invented data from bench/fake-daemon.ts.
 * The page itself is built first where that is needed. Nothing else runs this; look at them before you commit them.
 */
import { mkdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { builtPage } from './built-page.ts';
import { startFakeDaemon } from './fake-daemon.ts';
import { openBrowser } from './page-browser.ts';

const DIR = fileURLToPath(new URL('../docs/images/', import.meta.url));
const MAX_BYTES = 150_000;
/** Long enough for the charts over time to have something to say, ms. */
const HISTORY_MS = 12_000;

await builtPage();
mkdirSync(DIR, { recursive: true });
const daemon = await startFakeDaemon({ delaying: 480, transitionsPerS: 400, nodes: 20, slots: 8 });
const browser = await openBrowser({ width: 1200, height: 780 });
const page = await browser.newPage();
page.setDefaultTimeout(60_000);

async function take(name: string): Promise<void> {
  const path = `${DIR}page-${name}.png`;
  await page.screenshot({ path });
  const { size } = statSync(path);
  process.stdout.write(`docs/images/page-${name}.png ${Math.round(size / 1_000)} kB\n`);
  if (size > MAX_BYTES) throw new Error(`docs/images/page-${name}.png has ${size} bytes; at most ${MAX_BYTES} are committed.`);
}

try {
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto(`${daemon.url}#/machines/invocation?state=delaying`);
  await page.getByRole('table', { name: 'In delaying' }).getByRole('link').first().waitFor();
  await page.waitForTimeout(HISTORY_MS);
  await take('machines');
  await page.goto(`${daemon.url}#/cluster/node-3`);
  await page.getByRole('heading', { name: 'Held' }).waitFor();
  await take('cluster');
  await page.goto(`${daemon.url}#/traffic`);
  await page.getByRole('group', { name: 'Accuracy by function, scrolls' }).getByText('parse-log').waitFor();
  await page.waitForTimeout(1_000);
  await take('traffic');
  const { invocations } = (await (await fetch(`${daemon.url}api/invocations?state=completed&limit=50`)).json()) as { invocations: { id: string }[] };
  for (const { id } of invocations) {
    const { decisions } = (await (await fetch(`${daemon.url}api/invocations/${id}`)).json()) as { decisions: unknown[] };
    if (decisions.length < 3) continue;
    await page.goto(`${daemon.url}#/invocation/${id}`);
    await page.getByRole('heading', { name: 'Decision 1 of 3' }).waitFor();
    await take('invocation');
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.goto(`${daemon.url}#/machines/invocation?state=completed&id=${id}`);
    await page.locator('.edge.is-lit').first().waitFor({ state: 'attached' });
    await take('path');
    await page.emulateMedia({ colorScheme: 'light' });
    break;
  }
  await page.goto(`${daemon.url}#/simulation`);
  await page.getByRole('button', { name: 'Simulate' }).click();
  await page.getByRole('region', { name: 'Run under metronome' }).waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('slider', { name: 'Simulated time' }).fill('14000');
  await page.waitForTimeout(500);
  await take('simulation');
} finally {
  await browser.close();
  await daemon.close();
}
