// What the page remembers when time is not as it should be: figures that came in a burst or not at all, a program that
// was started anew meanwhile, and a clock that was set. The page's own modules are asked, where they are served.
import assert from 'node:assert/strict';
import { eventually } from '../churn/parts.mjs';
import { updates } from './stage.mjs';

const ROUTE = '/api/progress/{id}';
const SECOND = 1_000;

/** Tells the figures of each moment, as `[ms, uptime, opened so far, was the connection lost before]`, to a history of its own. */
const remembered = (tab, moments) => tab.evaluate(async ({ moments, route }) => {
  const [{ History }, { Samples, named }] = await Promise.all([import('/page/history.js'), import('/page/samples.js')]);
  const [history, samples] = [new History(), new Samples()];
  for (const [at, uptime, opened, wasLost] of moments) {
    if (wasLost) history.lose();
    const stats = { uptime_seconds: uptime, routes: [{ route, active: 1, stale: 0, opened }] };
    const { values, isRestart, elapsed } = samples.take(stats, at, history.isLost);
    history.push(at, values, isRestart, elapsed);
  }
  const [rates, times, breaks] = [[], [], []];
  history.each(-Infinity, (time, place, broken) => {
    rates.push(history.ring(named('opened', route))?.[place] ?? null);
    times.push(time);
    breaks.push(broken ?? null);
  });
  return { rates, times, breaks, recent: history.recent(named('opened', route), 60) };
}, { moments: moments.map(([at, ...rest]) => [at * SECOND, ...rest]), route: ROUTE });

/** A minute in which nothing came: what happened in it is spread over it, and none of it is counted twice or forgotten. */
async function aGapIsAGap(tab) {
  const { rates, breaks, recent } = await remembered(tab, [[100, 10, 0], [101, 11, 4], [131, 41, 34, true], [132, 42, 36]]);
  assert.deepEqual(rates.slice(1), [4, 1, 2]);
  assert.deepEqual(breaks, [null, null, 'lost', null]);
  assert.equal(recent, 36);
}

/** A page that slept got nothing and lost nothing: its connection stood. */
async function aSleepIsAGapToo(tab) {
  const { rates, breaks } = await remembered(tab, [[100, 10, 0], [101, 11, 4], [121, 31, 44]]);
  assert.deepEqual(rates.slice(1), [4, 2]);
  assert.deepEqual(breaks, [null, null, 'lost']);
}

/** Counters of another process begin at nothing; what the first one counted is no rate of this one. */
async function aRestartBeginsAnew(tab) {
  const { breaks, recent } = await remembered(tab, [[100, 10, 0], [101, 11, 50], [104, 1, 3, true], [105, 2, 5]]);
  assert.deepEqual(breaks, [null, null, 'restart', null]);
  assert.equal(recent, 2);
  // One that has been up for longer than the first was: only when it began tells that it is another.
  const later = await remembered(tab, [[100, 10, 0], [101, 11, 50], [151, 30, 60, true]]);
  assert.deepEqual(later.breaks, [null, null, 'restart']);
}

/** What was before can't be told from what is to come, and is let go; no rate is divided by a time that ran backwards. */
async function aClockThatIsSetBackForgets(tab) {
  const { rates, times } = await remembered(tab, [[100, 10, 0], [101, 11, 4], [41, 12, 6], [42, 13, 9]]);
  assert.deepEqual(times, [41 * SECOND, 42 * SECOND]);
  assert.deepEqual(rates, [2, 3]);
}

/** The same on the page itself, an hour to and fro: it goes on, and its charts are drawn. */
async function thePageGoesOn(tab) {
  const line = tab.locator('#chart-active .plot path.line').first();
  for (const shift of [3_600_000, -3_600_000]) {
    await tab.evaluate((shift) => {
      const now = Date.now;
      Date.now = () => now() + shift;
    }, shift);
    await updates(tab, 3);
    await eventually('the chart to be drawn', async () => /L/.test(await line.getAttribute('d')));
    assert.doesNotMatch(await line.getAttribute('d'), /NaN|Infinity/);
    assert.equal(await tab.locator('#chart-active .when').textContent(), 'now');
  }
  assert.deepEqual(tab.faults, [], 'the page should see no error');
}

export async function itRemembersRightly(tab) {
  await aGapIsAGap(tab);
  await aSleepIsAGapToo(tab);
  await aRestartBeginsAnew(tab);
  await aClockThatIsSetBackForgets(tab);
  await thePageGoesOn(tab);
}
