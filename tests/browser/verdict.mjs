// What the page says of the app when it dies, errs, or is left alone. The page's own modules are asked, where they are
// served: the moments that matter are over too soon to be caught on the page itself.
import assert from 'node:assert/strict';

const SECOND = 1_000;

/** What the page says after each of these moments: `[seconds up, requests so far by outcome, topics by phase]`. */
const said = (tab, moments) => tab.evaluate(async ({ moments, second }) => {
  const [{ History }, { Samples }, { Lately }, { appInWords, verdict }] = await Promise.all(
    ['history', 'samples', 'lately', 'verdict'].map((name) => import(`/page/${name}.js`))
  );
  const [history, samples] = [new History(), new Samples()];
  const lately = new Lately(history);
  return moments.map(([uptime_seconds, forward, topics = {}]) => {
    const upstream_requests = { poll: {}, forward };
    const stats = { state: 'ready', uptime_seconds, upstream_requests, routes: [{ route: '/a', active: 0, stale: 0, topics }] };
    const { values, isRestart, elapsed } = samples.take(stats, uptime_seconds * second, false);
    history.push(uptime_seconds * second, values, isRestart, elapsed);
    return [appInWords(stats, lately, 0.002), verdict(stats, lately).title];
  });
}, { moments, second: SECOND });

const last = async (tab, moments) => (await said(tab, moments)).at(-1);

const DOES_NOT = ['does not answer', 'The app does not answer'];
const SOMETIMES = ['fails sometimes', 'Some requests to the app fail'];

/** The answers of the seconds before say nothing of an app whose every topic is degraded, or that nobody listens for. */
async function aDeathIsSeenAtOnce(tab) {
  const before = [[100, { ok: 0 }], [101, { ok: 40 }, { live: 20 }]];
  const dying = [...before, [102, { ok: 60, refused: 4 }, { live: 16, degraded: 4 }]];
  assert.deepEqual(await last(tab, dying), ['fails sometimes', 'The app is in trouble']);
  const dead = [...dying, [103, { ok: 60, refused: 20 }, { degraded: 20 }]];
  assert.deepEqual(await last(tab, dead), DOES_NOT);
  assert.deepEqual(await last(tab, [...dead, [104, { ok: 60, refused: 20 }, { degraded: 20 }]]), DOES_NOT, 'nor a pause');
  assert.deepEqual(await last(tab, [...dead, [104, { ok: 61, refused: 20 }, { degraded: 19, live: 1 }]]),
    ['fails sometimes', 'The app is in trouble'], 'it is back');
  // Without topics, where only pages are asked for.
  assert.deepEqual(await last(tab, [...before.map(([at, asked]) => [at, asked]), [102, { ok: 40, refused: 1 }]]), DOES_NOT);
}

/** One job that hangs or fails, beside others that don't, is no death. */
async function aFailureIsNoDeath(tab) {
  const begun = [[100, {}], [101, { ok: 9 }, { live: 9 }]];
  assert.deepEqual(await last(tab, [...begun, [103, { ok: 9, timeout: 1 }, { live: 9 }]]), SOMETIMES);
  assert.deepEqual(await last(tab, [...begun, [103, { ok: 9, refused: 1 }, { live: 9 }]]), SOMETIMES);
  assert.deepEqual(await last(tab, [...begun, [112, { ok: 9, timeout: 1 }, { live: 9 }]]), DOES_NOT, 'in the end it is');
}

async function anErrorIsAnAnswer(tab) {
  const errors = [[100, {}], [101, { server_error: 3 }, { degraded: 3 }]];
  assert.deepEqual(await last(tab, errors), ['answers with errors', 'The app answers with errors']);
}

/** Nobody can have been left alone for longer than he is there, or than somebody has looked. */
async function whoWasNotAskedIsSaidSo(tab) {
  const words = async (moments) => (await said(tab, moments)).map(([word]) => word);
  assert.deepEqual(await words([[1, {}], [2, {}], [3, { ok: 1 }]]), ['not asked yet', 'not asked yet', 'answers in 2.0 ms']);
  const quiet = await words(Array.from({ length: 40 }, (_, n) => [100 + n, { ok: 5 }]));
  assert.deepEqual([quiet[0], quiet[1], quiet[39]], ['–', 'not asked for 1 s', 'not asked for 30 s']);
}

export async function itJudgesRightly(tab) {
  await aDeathIsSeenAtOnce(tab);
  await aFailureIsNoDeath(tab);
  await anErrorIsAnAnswer(tab);
  await whoWasNotAskedIsSaidSo(tab);
}
