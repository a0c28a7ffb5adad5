// The dashboard in a real Chromium, on the real program: whether its figures are those of /metrics, whether it outlives
// the program, whether everybody can read it, whether it tells nothing it should not, and whether it stays usable under
// thousands of streams and topics. What takes how long is printed and not judged.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { ROOT, Sidestream, eventually } from '../churn/parts.mjs';
import { figuresAreThoseOfTheMetrics } from './figures.mjs';
import { manyRoutesCanBeRead } from './layout.mjs';
import { itRemembersRightly } from './memory.mjs';
import { checkPalette } from './palette.mjs';
import { Scripted, each, figure, openDashboard, updates, watch } from './stage.mjs';
import { itJudgesRightly } from './verdict.mjs';

const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE 127.0.0.9'
];
const PROGRESS = '/api/progress/{id}';
// Polls are far apart, so that the figures come to rest.
const ROUTE = `path=${PROGRESS},poll=/api/videos/{id},interval=60s,linger=10m`;
const PLACES = 12;
// A port that is to be taken twice: among the thousands of connections to 127.0.0.1 one may get it in between.
const APART = '127.0.0.9:0';
/** What must not be seen stands in everything a client says. */
const SECRET = 'secret';
const AXE_RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const AXE = readFileSync(join(ROOT, 'tests/browser/node_modules/axe-core/axe.min.js'), 'utf8');

const credentials = (n) => ({ cookie: `session=${SECRET}-cookie-${n}`, authorization: `Bearer ${SECRET}-token-${n}` });
const job = (name) => `/api/progress/${SECRET}-job-${name}?token=${SECRET}-query`;

/** Something of everything that is counted: streams that stay, leave, end, are cut, and are turned away. */
async function makeFigures(app, side) {
  app.end(`${SECRET}-job-done`);
  app.puzzle(`${SECRET}-job-odd`);
  for (let n = 0; n < 3; n += 1) (await watch(side.origin, job('left'), credentials(n))).destroy();
  await watch(side.origin, job('done'), credentials(0));
  await watch(side.origin, '/cut', credentials(0));
  await eventually('these streams to be over', async () => (await side.metric('connections_active')) === 0);
  const staying = await each(PLACES, 4, (n) => watch(side.origin, job(n % 5 ? 'kept' : 'odd'), credentials(n % 3)));
  for (let n = 0; n < 2; n += 1) {
    await assert.rejects(watch(side.origin, job('kept'), credentials(n)), 'over the limit nobody gets in');
  }
  return staying;
}

async function itCountsWhatHappened(tab) {
  const seen = { active: PLACES, rejected: 2, invalid: 1 };
  for (const [name, value] of Object.entries(seen)) assert.equal(await figure(tab, name), value, name);
  assert.ok((await figure(tab, 'violations')) >= 1, 'an unknown status was answered');
  assert.equal(await tab.locator('#ends tbody tr').filter({ hasText: PROGRESS }).locator('td').nth(1).textContent(), '3');
}

/** The charts are about the route that is picked, and about nothing else. */
async function chartsShowOneRoute(tab) {
  const lanes = () => tab.locator('#chart-flow .lane').evaluateAll((all) => all
    .filter((lane) => lane.querySelector('.bars').getAttribute('d'))
    .map((lane) => lane.querySelector('.name').textContent.replace('▲ ', '')));
  const active = () => tab.locator('#chart-active .legend b').textContent();
  const expected = {
    '': [String(PLACES), ['opened', 'closed: client', 'closed: done', 'closed: upstream']],
    [PROGRESS]: [String(PLACES), ['opened', 'closed: client', 'closed: done']],
    '(forwarded)': ['0', ['opened', 'closed: upstream']]
  };
  for (const [route, [streams, happened]] of Object.entries(expected)) {
    await tab.locator('#chart-route').selectOption(route);
    assert.equal(await active(), streams, route);
    assert.deepEqual((await lanes()).sort(), happened.sort(), route);
  }
  await tab.locator('#chart-route').selectOption('');
}

const number = (text) => Number(text.replaceAll(',', ''));

async function nothingSecretIsShown(tab, side) {
  const answers = [await (await fetch(`${side.admin}/api/stats`)).text(), await (await fetch(`${side.admin}/metrics`)).text()];
  const page = await tab.evaluate(() => document.documentElement.outerHTML);
  assert.ok(page.includes('127.0.0.1'), 'the addresses of clients are there');
  for (const text of [page, ...answers]) assert.ok(!text.includes(SECRET), 'a credential, a query or an id is on the page');
}

/** Nothing may be wrong by axe's rules for WCAG 2.2 AA, in either theme and at any width. */
async function everybodyCanReadIt(browser, side) {
  const tab = await openDashboard(browser, side.admin, { reducedMotion: 'reduce' });
  await tab.locator('#topics tbody tr').first().waitFor();
  await tab.evaluate(AXE);
  for (const [colorScheme, width] of [['light', 1280], ['dark', 1280], ['dark', 360]]) {
    const view = `${colorScheme}, ${width} wide`;
    await tab.emulateMedia({ colorScheme });
    await tab.setViewportSize({ width, height: 780 });
    const wide = await tab.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${view}: the page is ${wide} wide`);
    const { violations, passes } = await tab.evaluate((runOnly) => globalThis.axe.run(document, { runOnly }), AXE_RULES);
    const told = violations.map(({ id, impact, nodes }) => [impact, id, ...nodes.map((node) => node.html)].join(' '));
    assert.ok(passes.some(({ id }) => id === 'color-contrast'), `${view}: axe looked at nothing`);
    assert.deepEqual(told, [], `${view}: axe found something`);
    if (width > 360) {
      const { text, line, apart } = checkPalette(colorScheme, await tab.evaluate(coloursOfThePage));
      console.log(`${colorScheme}: contrast of text ${text.toFixed(1)}, of lines ${line.toFixed(1)}; hues ${apart.toFixed(0)} apart`);
    }
  }
  await tab.context().close();
}

/** The colours of the style sheet as they hold now, as `#rrggbb`. */
function coloursOfThePage() {
  const style = getComputedStyle(document.documentElement);
  const names = [...style].filter((name) => name.startsWith('--'));
  const context = document.createElement('canvas').getContext('2d');
  const colours = {};
  for (const name of names) {
    context.fillStyle = '#010203';
    context.fillStyle = style.getPropertyValue(name).trim();
    if (context.fillStyle !== '#010203') colours[name.slice(2)] = context.fillStyle;
  }
  return colours;
}

async function theKeyboardIsEnough(tab) {
  await tab.keyboard.press('Tab');
  assert.equal(await tab.evaluate(() => document.activeElement.textContent), 'Skip to the content');
  await tab.keyboard.press('Enter');
  assert.equal(await tab.evaluate(() => document.activeElement.id), 'main');

  const plot = tab.locator('#chart-active .plot');
  await plot.focus();
  await updates(tab, 1);
  await tab.keyboard.press('ArrowLeft');
  const read = await plot.getAttribute('aria-valuetext');
  assert.match(read, new RegExp(`^\\d\\d:\\d\\d:\\d\\d, active ${PLACES}$`), 'the chart says what it shows there');
  assert.equal(await tab.locator('#chart-flow .when').textContent(), read.split(',')[0], 'all charts show the same moment');
  await tab.keyboard.press('Escape');
  await tab.locator('#chart-flow .when', { hasText: 'now' }).waitFor();

  await tab.locator('#topics button[data-sort=subscribers]').focus();
  assert.deepEqual(await subscribers(tab), [...(await subscribers(tab))].sort((a, b) => b - a));
  await tab.keyboard.press('Enter');
  await tab.locator('#topics th[aria-sort=ascending][data-by=subscribers]').waitFor();
  assert.deepEqual(await subscribers(tab), [...(await subscribers(tab))].sort((a, b) => a - b));

  await tab.locator('#topics input').fill('pondering');
  const rows = await tab.locator('#topics tbody tr').count();
  assert.ok(rows >= 1 && (await tab.locator('#topics tbody tr', { hasText: 'pondering' }).count()) === rows, `${rows} rows`);
  await tab.locator('#topics input').fill('');

  await tab.locator('#pause').focus();
  await tab.keyboard.press('Space');
  assert.equal(await tab.locator('#pause').getAttribute('aria-pressed'), 'true');
}

const subscribers = async (tab) => (await tab.locator('#topics tbody td.number:nth-child(4)').allTextContents()).map(number);

/** While the page is paused, what is said of the program as a whole goes on, and the rest stands. */
async function aPauseHoldsTheFigures(tab, staying) {
  staying.pop().destroy();
  await updates(tab, 2);
  assert.equal(await figure(tab, 'active'), PLACES, 'the figures stand');
  await tab.locator('#pause').click();
  await eventually('the figures to go on', async () => (await figure(tab, 'active')) === PLACES - 1);
}

async function itOutlivesTheProgram(tab, app, side) {
  const title = tab.locator('#verdict-title');
  side.child.kill('SIGTERM');
  await eventually('the drain to be shown', async () => (await title.textContent()) === 'Draining');
  // The second signal ends it at once.
  await side.stop();
  await eventually('the loss to be shown', async () => (await title.textContent()) === 'Connection to sidestream lost');
  assert.match(await tab.locator('#verdict-findings').textContent(), /^Last figures from \d\d:\d\d:\d\d\./);
  assert.notEqual(await figure(tab, 'rejected'), 0, 'the last figures stay');

  const again = await Sidestream.start(app, ['--route', ROUTE], new URL(side.admin).host);
  await eventually('the page to come back', async () => (await title.textContent()) === 'All is well');
  for (const name of ['active', 'rejected', 'asked']) assert.equal(await figure(tab, name), 0, `${name} of the new process`);
  await tab.locator('#chart-active .restart').waitFor({ state: 'attached' });
  await updates(tab, 1);
  // What the browser says of a server that isn't there is no fault of the page.
  const faults = tab.faults.filter((text) => !/^Failed to load resource: net::ERR_/.test(text));
  assert.deepEqual(faults, [], 'the page should see no error');
  await again.stop();
}

async function theRulesHold(tab) {
  assert.deepEqual(await tab.evaluate(() => globalThis.broken), [], 'no rule of the page is broken by itself');
  // The proof that a broken one would have been seen.
  await tab.evaluate(() => document.body.setAttribute('style', 'margin: 1px'));
  await eventually('the break of a rule to be seen', () => tab.evaluate(() => globalThis.broken.includes('style-src-attr')));
}

const TOPICS = 5_000;
const STREAMS = 2_000;
const LISTED = 100;

/** Topics that linger, streams that stay, and a reader who wants something meanwhile. */
async function itStaysUsableUnderLoad(browser, app) {
  const side = await Sidestream.start(app, ['--route', ROUTE]);
  const tab = await openDashboard(browser, side.admin);
  const start = performance.now();
  const streams = [];
  const busy = each(TOPICS, 64, async (n) => {
    const stream = await watch(side.origin, `/api/progress/many-${n}`);
    // A topic lingers without its stream; that of the last ones stays.
    if (n < TOPICS - STREAMS) stream.destroy();
    else streams.push(stream);
  });
  // Amid all that: what is clicked has its effect, and the page goes on.
  await tab.locator('#topics button[data-sort=topic]').click();
  await tab.locator('#topics th[data-by=topic][aria-sort=ascending]').waitFor();
  await updates(tab, 1);
  await busy;
  // As many as are listed have a second one, so that it is no matter of chance which these are.
  streams.push(...await each(LISTED, 32, (n) => watch(side.origin, `/api/progress/many-${TOPICS - 1 - n}`)));
  const took = Math.round(performance.now() - start);
  await eventually('all to be counted', async () => {
    const [topics, active] = [await figure(tab, 'topics'), await figure(tab, 'active')];
    return topics === TOPICS && active === STREAMS + LISTED;
  });
  // The walk over the topics is older than the counts beside it by some streams; the next one has them all.
  await updates(tab, 1);

  await tab.locator('#topics button[data-sort=route]').click();
  await tab.locator('#topics th[data-by=route][aria-sort=ascending]').waitFor();
  assert.equal(await tab.locator('#topics tbody tr').count(), LISTED);
  // At rest no row of the topics comes, goes or moves, however often they are told.
  await tab.evaluate(() => {
    globalThis.moved = 0;
    new MutationObserver((list) => (globalThis.moved += list.length))
      .observe(document.querySelector('#topics tbody'), { childList: true });
  });
  await updates(tab, 2);
  assert.equal(await tab.evaluate(() => globalThis.moved), 0, 'rows keep their places');
  const tasks = await tab.evaluate(() => globalThis.longTasks);
  console.log(`${TOPICS} topics and ${STREAMS} streams came in ${took} ms`);
  console.log(`tasks over 50 ms in the page meanwhile: ${tasks.join(', ') || 'none'}`);
  assert.deepEqual(tab.faults, [], 'the page should see no error');
  for (const stream of streams) stream.destroy();
  await tab.context().close();
  side.child.kill('SIGTERM');
  await side.stop();
}

const known = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = process.env.CHROMIUM || known.find(existsSync);
assert.ok(executablePath, 'chromium is missing: apt-get install chromium, or name it in CHROMIUM');
const began = performance.now();
setTimeout(() => {
  console.error('tests/browser: not done after 300 s');
  process.exit(1);
}, 300_000).unref();

async function itIsRight(browser, app) {
  const side = await Sidestream.start(app, ['--route', ROUTE, '--max-connections', String(PLACES)], APART);
  const tab = await openDashboard(browser, side.admin);
  const staying = await makeFigures(app, side);
  await figuresAreThoseOfTheMetrics(tab, side);
  await itCountsWhatHappened(tab);
  await chartsShowOneRoute(tab);
  await nothingSecretIsShown(tab, side);
  console.log('the figures are those of /metrics, and nothing secret is there');
  await everybodyCanReadIt(browser, side);
  console.log('everybody can read it, in light, dark and on a phone');
  await theKeyboardIsEnough(tab);
  await aPauseHoldsTheFigures(tab, staying);
  await nothingSecretIsShown(tab, side);
  console.log('the keyboard is enough, and a pause holds');
  await itRemembersRightly(tab);
  console.log('gaps and clocks do it no harm');
  await itJudgesRightly(tab);
  console.log('it says of the app what is so');
  await itOutlivesTheProgram(tab, app, side);
  await theRulesHold(tab);
  console.log('it outlives the program, and the rules hold');
}

const app = await Scripted.start();
const browser = await chromium.launch({ executablePath, args: FLAGS });
try {
  // Side by side: each waits more than it works.
  await Promise.all([itIsRight(browser, app), itStaysUsableUnderLoad(browser, app), manyRoutesCanBeRead(browser, app)]);
} finally {
  await browser.close();
  app.stop();
}
console.log(`${((performance.now() - began) / 1000).toFixed(0)} s`);
process.exit(0);
