// Chromium: a browser without a window whose tabs hold the pages in pages/. Commands come as lines on stdin
// (`open TAB URL`, `reload TAB`, `close TAB`, `offline TAB`, `online TAB`); what the pages' code sees goes out as JSON
// lines with the name of the tab.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const say = (saw) => process.stdout.write(`${JSON.stringify(saw)}\n`);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  chromiumSandbox: false,
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
  ],
});
const context = await browser.newContext();
const tabs = new Map();

const commands = {
  async open(tab, url) {
    const page = await context.newPage();
    tabs.set(tab, page);
    await page.exposeFunction('say', (saw) => say({ tab, ...saw }));
    page.on('pageerror', (error) => say({ tab, saw: 'page-error', text: String(error) }));
    await page.goto(url, { waitUntil: 'commit' });
  },
  reload: (tab) => tabs.get(tab).reload({ waitUntil: 'commit' }),
  close: (tab) => tabs.get(tab).close(),
  offline: () => context.setOffline(true),
  online: () => context.setOffline(false),
};

say({ saw: 'ready' });
for await (const line of createInterface({ input: process.stdin })) {
  const [command, tab, url] = line.split(' ');
  // One after the other: what a command begins may be in flight, but not the command itself.
  await commands[command](tab, url);
  say({ saw: 'obeyed', command, tab });
}
await browser.close();
