// The page of an app with many routes, whose long names begin alike: what is going on stands first, every name can be
// read, nothing below is out of reach, and where a table is cut it says so.
import assert from 'node:assert/strict';
import { Sidestream, eventually } from '../churn/parts.mjs';
import { openDashboard, watch } from './stage.mjs';

const ROUTES = 60;
const PREFIX = '/api/v2/organisations/of-this-installation/workspaces/the-first-one/projects';
const path = (n) => `${PREFIX}/${n}`;
/** The tables that have a row per route. */
const TABLES = ['routes', 'ends', 'faults'];

const named = (tab, table) => tab.locator(`#${table} tbody tr th`).allTextContents();
const more = async (region) => (await region.getAttribute('data-more') ?? '').split(' ');

/** Whoever has streams is what is looked for; the rest is in the order in which it was configured. */
async function whatGoesOnStandsFirst(tab) {
  await eventually('the busy route to stand first', async () => (await named(tab, 'routes'))[0] === path(ROUTES - 1));
  for (const table of TABLES) {
    const names = await named(tab, table);
    assert.deepEqual(names.slice(0, 3), [path(ROUTES - 1), path(0), path(1)], table);
    assert.equal(names.length, ROUTES + 1, table);
  }
}

async function noNameIsCut(tab) {
  const cut = await tab.evaluate(() => [...document.querySelectorAll('tbody th, h3')]
    .filter((it) => it.scrollWidth > it.clientWidth + 1 || getComputedStyle(it).textOverflow === 'ellipsis')
    .map((it) => it.textContent));
  assert.deepEqual(cut, []);
}

/** By the keyboard, as a page has no other way into it for some. */
async function whatIsBelowIsInReach(tab) {
  for (const table of TABLES) {
    const region = tab.locator('.scroll').filter({ has: tab.locator(`#${table}`) });
    const height = await region.evaluate((it) => it.clientHeight);
    assert.ok(height < 500, `${table} is ${height} high`);
    await eventually(`${table} to say that there is more`, async () => (await more(region)).includes('below'));
    await eventually(`${table} to be at its end`, async () => {
      // A key that comes while the browser still brings the region into view may be lost.
      await region.focus();
      await tab.keyboard.press('End');
      return !(await more(region)).includes('below');
    });
  }
}

async function aCutTableSaysSo(tab) {
  const region = tab.locator('.scroll').filter({ has: tab.locator('#ends') });
  await eventually('it to say that there is more', async () => (await more(region)).includes('right'));
  await region.evaluate((it) => it.scrollTo(it.scrollWidth, 0));
  await eventually('it to be at its edge', async () => !(await more(region)).includes('right'));
}

export async function manyRoutesCanBeRead(browser, app) {
  const routes = Array.from({ length: ROUTES }, (_, n) => ['--route', `path=${path(n)},subscribe=/cut`]).flat();
  const side = await Sidestream.start(app, routes);
  const tab = await openDashboard(browser, side.admin, { reducedMotion: 'reduce' });
  const stream = await watch(side.origin, path(ROUTES - 1));
  await whatGoesOnStandsFirst(tab);
  await noNameIsCut(tab);
  await whatIsBelowIsInReach(tab);
  // How old it is what a stream of the app said last is not known.
  assert.equal(await tab.locator('#routes tbody tr').first().locator('td').last().textContent(), '–');

  await tab.setViewportSize({ width: 360, height: 780 });
  await aCutTableSaysSo(tab);
  await noNameIsCut(tab);
  assert.deepEqual(tab.faults, [], 'the page should see no error');
  stream.destroy();
  await tab.context().close();
  side.child.kill('SIGTERM');
  await side.stop();
}
