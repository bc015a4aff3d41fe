/** The page in a real browser against the real thing: scheduler and agents as processes, real functions, real decisions. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { builtPage } from '../../bench/built-page.ts';
import { CHROMIUM_MISSING, findChromium, openBrowser, type Browser } from '../../bench/page-browser.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { TOOL, openProcessCluster, type ProcessCluster } from '../integration/harness.ts';

const HAS_CHROMIUM = findChromium() !== undefined;
const PATIENCE = { timeout: 60_000, interval: 100 } as const;

describe.skipIf(!HAS_CHROMIUM)(HAS_CHROMIUM ? 'the page of a real daemon' : `the page of a real daemon (${CHROMIUM_MISSING})`, { timeout: 180_000 }, () => {
  let cluster: ProcessCluster;
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];
  let isWorking = true;
  let working: Promise<void>;

  beforeAll(async () => {
    await builtPage();
    cluster = await openProcessCluster(2, 2);
    await cluster.deploy('tool', TOOL, { idempotent: true, retries: 3 });
    browser = await openBrowser();
    page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE.timeout);
    page.on('pageerror', ({ message }) => problems.push(message));
    // More at once than there are slots, so that some wait. Calls fail while the scheduler is away: that is a test below.
    working = (async () => {
      while (isWorking) await Promise.allSettled(Array.from({ length: 6 }, (_, i) => cluster.call('tool', { op: 'sleep', value: 20 + 10 * i }, {}, { timeoutMs: 10_000 })));
    })();
  }, 240_000);
  afterAll(async () => {
    isWorking = false;
    await working;
    await browser?.close();
    await cluster?.close();
  }, 120_000);

  const open = async (hash: string): Promise<void> => {
    await page.goto(`${cluster.httpUrl}/inspect/${hash}`);
    await page.getByRole('status').filter({ hasText: /^live/ }).waitFor();
  };
  const completed = async (): Promise<number> => Number(/ ([\d.]+)(k?),/.exec((await page.getByRole('link', { name: /^completed / }).getAttribute('aria-label')) ?? '')?.[1]);

  it('shows live machines, who is in a state, and the path of one that ended', async () => {
    await open('#/machines');
    await vi.waitFor(async () => expect(await completed()).toBeGreaterThan(5), PATIENCE);
    await page.getByRole('link', { name: 'node 2', exact: true }).waitFor();
    await page.getByRole('link', { name: /^completed \d/ }).click();
    await page.getByRole('table', { name: 'In completed' }).getByRole('link').first().click();
    await page.getByRole('heading', { name: 'Its path' }).waitFor();
    await vi.waitFor(async () => expect(await page.locator('.edge.is-lit').count()).toBeGreaterThanOrEqual(3), PATIENCE);
    const steps = await page.locator('.steps li').allTextContents();
    expect(steps.at(0)).toContain('PREDICTED');
    expect(steps.at(-1)).toMatch(/completed.*RESULT.*The handler returned\./);
  });

  it('explains a real decision with its real candidates', async () => {
    await page.getByRole('link', { name: 'explain it' }).click();
    await page.getByRole('heading', { name: /^Decision 1 of \d+$/ }).waitFor();
    expect(await page.locator('.prose').textContent()).toMatch(/metronome (chose|let it wait for) .*because .+\./);
    const rows = await page.locator('.candidates tbody tr').allTextContents();
    expect(rows).toHaveLength(2);
    expect(rows.join(' ')).toMatch(/node-1/);
    expect(rows.join(' ')).toMatch(/node-2/);
    expect(await page.locator('main').textContent()).not.toMatch(/NaN|undefined|Infinity/);
    expect(await page.getByRole('img', { name: /^Life of an invocation of tool: .*dispatched for / }).count()).toBe(1);
  });

  it('drains a real node and gives it work again', async () => {
    await open('#/cluster/node-2');
    await page.getByRole('button', { name: 'Drain …' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).click();
    await vi.waitFor(async () => expect((await cluster.nodes())['node-2']?.status).toBe(NodeStatus.DRAINING), PATIENCE);
    await page.getByRole('table', { name: 'Nodes' }).getByText('draining').waitFor();
    await page.getByRole('button', { name: 'Undrain …' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Undrain' }).click();
    await vi.waitFor(async () => expect((await cluster.nodes())['node-2']?.status).toBe(NodeStatus.READY), PATIENCE);
  });

  it('shows real traffic and compares the policy with another one in its shadow', async () => {
    await open('#/traffic');
    await page.getByRole('group', { name: 'By function and policy, scrolls' }).getByRole('link', { name: 'tool' }).waitFor();
    await page.getByLabel('in its shadow').selectOption('round-robin');
    await page.locator('.pill', { hasText: 'shadow round-robin' }).waitFor();
    await page.getByRole('img', { name: /^Expected completion of their choices, mean: metronome [\d.]+ m?s, round-robin [\d.]+ m?s$/ }).waitFor();
    expect(await page.locator('main').textContent()).not.toMatch(/NaN|undefined|Infinity/);
  });

  it('runs a real simulation and plays it', async () => {
    await open('#/simulation?policies=metronome,lookahead&rate=0.2');
    await page.getByRole('button', { name: 'Simulate' }).click();
    await page.getByRole('region', { name: 'Run under metronome' }).waitFor();
    await page.getByRole('region', { name: 'Run under lookahead' }).waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    const slider = page.getByRole('slider', { name: 'Simulated time' });
    await slider.fill(String(Number(await slider.getAttribute('max'))));
    const tallies = page.getByRole('region', { name: 'Run under metronome' }).locator('.tallies li', { hasText: 'completed' });
    await vi.waitFor(async () => expect(Number.parseFloat((await tallies.textContent()) ?? '')).toBeGreaterThan(10), PATIENCE);
  });

  it('runs a scenario from a file, and says what is wrong with one', async () => {
    const give = async (content: string): Promise<void> => {
      await page.getByLabel(/recorded run/).setInputFiles({ name: 'mine.yaml', mimeType: 'application/yaml', buffer: Buffer.from(content) });
      await page.getByText('Scenario of mine.yaml.').waitFor();
      await page.getByRole('button', { name: 'Simulate' }).click();
    };
    await open('#/simulation?policies=round-robin&seed=7');
    await give('nodes: 3\nfunctions:\n  - name: mine\n    slaa: 1s\n');
    await page.getByRole('alert').filter({ hasText: 'file:4:5 functions[0].slaa is no key here; did you mean "sla"?' }).waitFor();
    await give('nodes: 3\nprofiles: secret.json\nfunctions: [{ name: mine }]\n');
    await page.getByRole('alert').filter({ hasText: 'names a file, and no files are read here' }).waitFor();
    await give('nodes: 3\nduration: 20s\nfunctions: [{ name: mine, copies: 4 }]\n');
    await page.getByText('mine.yaml, seed 7').waitFor();
    await page.getByRole('img', { name: /^3 nodes, / }).waitFor();
  });

  it('comes back by itself when the scheduler was killed, and its numbers begin anew', async () => {
    await open('#/machines');
    await page.evaluate("window.isTheSame = 'yes'");
    await cluster.killScheduler(async () => {
      await page.getByRole('status').filter({ hasText: 'connection lost, trying again' }).waitFor();
    });
    await page.getByRole('status').filter({ hasText: 'started anew: all numbers begin again' }).waitFor();
    expect(await page.evaluate('window.isTheSame')).toBe('yes');
    const before = await completed();
    await vi.waitFor(async () => expect(await completed()).toBeGreaterThan(before), PATIENCE);
    expect(problems).toEqual([]);
  });
});
