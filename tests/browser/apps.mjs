// The pages of the legacy apps in a real Chromium, as they are: first on the app itself, then through sidestream. They
// were written against the app's own streams and know nothing of a sidecar. The screenshots of the second go to
// docs/img when it has none or --write is given, else to tests/.cache/img: fonts differ from machine to machine.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { App, ROOT, Sidestream, eventually } from '../churn/parts.mjs';

const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'
];
const TABS = 3;
const VIDEO_MS = 4_000;

/** Opens one tab of a signed-in user and collects what goes wrong in it. */
async function openTab(context, origin) {
  const tab = await context.newPage();
  tab.faults = [];
  tab.on('pageerror', (error) => tab.faults.push(String(error)));
  tab.on('console', (message) => message.type() === 'error' && tab.faults.push(message.text()));
  await tab.goto(origin);
  await tab.getByText('Signed in as ada').waitFor();
  return tab;
}

/** Makes a video in a tab and gives what the tab has shown of it at the end. */
async function makeVideo(tab) {
  await tab.locator('#start').click();
  const state = tab.locator('#state', { hasText: 'completed: /videos/' });
  await state.waitFor();
  assert.match(await state.textContent(), /^completed: \/videos\/v\d+-\d+\.mp4$/);
  assert.equal(await tab.locator('#bar').evaluate((bar) => bar.value), 100);
  return Number(await tab.locator('#messages').textContent());
}

/** The page of one app at one origin: all tabs say who they are, one makes a video, all get the notifications. */
async function usePage(browser, origin, screenshot) {
  const context = await browser.newContext({ viewport: { width: 640, height: 480 } });
  await context.addCookies([{ name: 'session', value: 'ada', url: origin }]);
  const tabs = [];
  for (let i = 0; i < TABS; i += 1) tabs.push(await openTab(context, origin));
  const messages = await makeVideo(tabs[0]);
  assert.ok(messages >= 3, `the page should see its video grow, not only ${messages} messages`);
  // Which one is the first for a tab depends on when it came: those before it were for the tabs that were there.
  for (const tab of tabs) await tab.getByText(/^notification \d+ for ada$/).first().waitFor();
  if (screenshot) await tabs[0].screenshot({ path: screenshot });
  return { context, tabs };
}

async function unchangedThroughSidestream(kind, browser) {
  const app = await App.start(kind, { VIDEO_MS: String(VIDEO_MS), POLL_MS: '200', NOTIFY_MS: '2000' });

  // The control: the page works on the app itself. Its tabs stay open, because closing them is what hurts the app.
  const alone = await usePage(browser, app.origin);
  const before = await app.counters();
  assert.equal(before.streams, TABS + 1, 'on the app itself, each tab holds its own notifications');

  const side = await Sidestream.start(app, [
    ...['--route', `path=/api/progress/{id},poll=/api/videos/{id},interval=200ms,template=${app.template}`],
    ...['--route', 'path=/api/notifications/sse,subscribe,greeting=1,linger=1h']
  ]);
  const image = imagePath(`${kind}.png`);
  const through = await usePage(browser, side.origin, image);
  const after = await app.counters();
  assert.equal(after.streams - before.streams, 1, 'through sidestream, the app holds one stream for all tabs of ada');
  assert.ok(statSync(image).size < 150 * 1024, `${image} is too large for the docs`);

  // The tabs through sidestream leave, and the app doesn't notice: its one stream lingers.
  for (const tab of through.tabs) {
    assert.deepEqual(tab.faults, [], 'the page should see no error');
    await tab.close();
  }
  await eventually('the tabs to be gone', async () => (await side.metric('connections_active')) === 0);
  assert.equal(app.errors + app.deaths, 0, app.output.join('\n'));
  assert.equal((await app.counters()).openControllers, after.openControllers);

  await app.stop();
  await side.stop();
  await alone.context.close();
  await through.context.close();
  console.log(`${App.titleOf(kind)}: the page works unchanged (${image.slice(ROOT.length)})`);
}

function imagePath(name) {
  const inDocs = join(ROOT, 'docs/img', name);
  if (process.argv.includes('--write') || !existsSync(inDocs)) {
    mkdirSync(join(ROOT, 'docs/img'), { recursive: true });
    return inDocs;
  }
  mkdirSync(join(ROOT, 'tests/.cache/img'), { recursive: true });
  return join(ROOT, 'tests/.cache/img', name);
}

const known = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = process.env.CHROMIUM || known.find(existsSync);
assert.ok(executablePath, 'chromium is missing: apt-get install chromium, or name it in CHROMIUM');
setTimeout(() => {
  console.error('tests/browser: not done after 100 s');
  process.exit(1);
}, 100_000).unref();
const browser = await chromium.launch({ executablePath, args: FLAGS });
try {
  for (const kind of ['sveltekit', 'next']) await unchangedThroughSidestream(kind, browser);
} finally {
  await browser.close();
}
process.exit(0);
