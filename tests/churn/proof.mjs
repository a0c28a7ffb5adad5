// The proof: each legacy app alone, behind sidestream without a route, and behind sidestream with the recommended
// routes, under the same churn of tabs. What it did to the app stands in a table. Exit status 1 when the apps alone
// don't show their fault, or when the routes don't remove it.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { App, Nginx, ROOT, Sidestream, sleep } from './parts.mjs';
import { Tab, newTally } from './tab.mjs';

// Clocks run faster than in life, in proportion: nginx cuts after 2 s instead of 60 s, the app's notifications say
// something every 3 s instead of every 90 s, and heartbeats come after 500 ms instead of 15 s.
const NGINX_TIMEOUT = '2s';
const NOTIFY_MS = 3_000;
const HEARTBEAT = '500ms';
const VIDEO_MS = 200_000;

const TABS = 10;
const ROUNDS = 8;
const ROUND_MS = 700;
const WINDOW_MS = 4_000;

// The recommended routes, but for two keys: the pace stays that of the app's own poll, so that the reads compare, and
// polling ends soon enough after the last tab to be seen.
const routes = (template) => [
  `path=/api/progress/{id},poll=/api/videos/{id},template=${template},max-interval=1s,linger=1s`,
  'path=/api/notifications/sse,subscribe,greeting=1,linger=1h'
];

const SETUPS = {
  alone: { title: 'alone', args: null },
  guard: { title: 'guard only', args: () => ['--heartbeat-interval', HEARTBEAT] },
  behind: {
    title: 'behind routes',
    args: (app) => [
      ...['--heartbeat-interval', HEARTBEAT, '--drain', '1s'],
      ...routes(app.template).flatMap((route) => ['--route', route])
    ]
  }
};

/** One app in one setup: a steady phase, the churn, and what is left when everybody has gone. */
async function run(kind, setup) {
  const app = await App.start(kind, { NOTIFY_MS: String(NOTIFY_MS), VIDEO_MS: String(VIDEO_MS) });
  const side = setup.args && (await Sidestream.start(app, setup.args(app)));
  const origin = (side ?? app).origin;
  const nginx = await Nginx.start(origin, NGINX_TIMEOUT);

  const video = await (await fetch(`${origin}/api/videos`, { method: 'POST' })).json();
  const paths = { progress: `/api/progress/${video.id}`, notifications: '/api/notifications/sse' };
  const tally = newTally();
  const behindNginx = newTally();
  const staying = [];
  const stay = (path, session) => staying.push(new Tab(tally, origin, path, session, { stays: true }));

  // Steady: nobody comes or goes, so what the app reads is what the tabs cost.
  stay(paths.progress, 'grace');
  await staying[0].firstMessage;
  const readsOfOne = await readsPerSecond(app);
  for (let i = 1; i < TABS; i += 1) stay(paths.progress, 'grace');
  await Promise.all(staying.map((tab) => tab.firstMessage));
  const readsOfAll = await readsPerSecond(app);

  // Churn: tabs that stay, tabs behind an impatient nginx, and tabs of two more users that come and go.
  for (let i = 0; i < 5; i += 1) stay(paths.notifications, 'grace');
  for (const path of Object.values(paths)) {
    staying.push(new Tab(behindNginx, nginx.origin, path, 'linus', { stays: true }));
  }
  for (let i = 0; i < ROUNDS; i += 1) {
    for (const session of ['ada', 'bob']) {
      for (const path of Object.values(paths)) comeAndGo(tally, origin, path, session);
    }
    await sleep(ROUND_MS);
  }

  // The end of the day: everybody leaves, and each timer gets its chance to notice. No tab opens a stream any more, so
  // from here on nothing the app does is anybody's wish, but for the streams that sidestream keeps for returning users.
  staying.forEach((tab) => tab.leave());
  await sleep(NOTIFY_MS + 1_500);
  const readsOfNone = await readsPerSecond(app);
  const left = await app.countersOnceUp();
  const held = setup === SETUPS.behind ? await heldStreams(side) : 0;
  const result = {
    errors: app.errors,
    deaths: app.deaths,
    cut: tally.cut + behindNginx.cut,
    refused: tally.refused + behindNginx.refused,
    behindNginx,
    lateWrites: setup === SETUPS.behind ? await side.metric('invalid_state_errors_total', 'side="client"') : 0,
    cutUpstream: setup === SETUPS.behind ? await side.metric('invalid_state_errors_total', 'side="upstream"') : 0,
    readsOfOne,
    readsOfAll,
    readsOfNone,
    timers: left.timers - held,
    controllers: left.openControllers - held,
    held,
    connectionsLeft: setup === SETUPS.behind ? await side.metric('connections_active') : 0
  };

  // The streams that sidestream has kept must close once, when it stops itself: then the app's own fault is due.
  await nginx.stop();
  if (setup === SETUPS.behind) {
    await side.stop();
    await sleep(NOTIFY_MS + 1_500);
    result.errorsAtTheEnd = app.errors - result.errors;
    result.deathsAtTheEnd = app.deaths - result.deaths;
  }
  await side?.stop();
  await app.stop();
  return result;
}

/** One user's round: open and close, reload, leave before the first byte, and crash. */
async function comeAndGo(tally, origin, path, session) {
  const open = () => new Tab(tally, origin, path, session);
  Tab.leaveBeforeTheFirstByte(tally, origin, path, session);
  const [closed, crashed, reloaded] = [open(), open(), open()];
  await Promise.all([closed, crashed, reloaded].map((tab) => tab.firstMessage));
  closed.leave();
  crashed.reset();
  reloaded.leave();
  const again = open();
  await again.firstMessage;
  again.leave();
}

/** How often the app reads a job's status, over a window in which it does not die. */
async function readsPerSecond(app) {
  const started = Date.now();
  const before = (await app.countersOnceUp()).statusReads;
  await sleep(WINDOW_MS);
  const reads = (await app.countersOnceUp()).statusReads - before;
  return reads / ((Date.now() - started) / 1000);
}

/** The app's streams that sidestream keeps open although no tab is there: one per user, until their linger is over. */
const heldStreams = (side) => side.metric('topics', 'phase="live"');

// === The table ===

const ROWS = [
  ['invalid-state errors', (it) => it.errors],
  ['process deaths', (it) => it.deaths],
  ['streams cut that no tab had closed', (it) => it.cut],
  ['attempts that found no app, or a 5xx', (it) => it.refused],
  [
    'streams behind nginx on which a message arrived',
    ({ behindNginx }) => `${behindNginx.spoke} of ${behindNginx.opened}`
  ],
  ['status reads per second, 1 tab', (it) => it.readsOfOne.toFixed(1)],
  [`status reads per second, ${TABS} tabs`, (it) => it.readsOfAll.toFixed(1)],
  ['status reads per second, when all tabs are gone', (it) => it.readsOfNone.toFixed(1)],
  ['leaked timers', (it) => it.timers],
  ['open controllers left', (it) => it.controllers],
  [
    'writes by sidestream to a tab that had just left (counted, harmless)',
    (it, setup) => (setup === 'behind' ? it.lateWrites : '')
  ],
  ['streams kept for users who may return (`linger=1h`)', (it, setup) => (setup === 'behind' ? it.held : '')],
  [
    'errors, deaths when sidestream itself stops',
    (it, setup) => (setup === 'behind' ? `${it.errorsAtTheEnd}, ${it.deathsAtTheEnd}` : '')
  ]
];

function table(results) {
  const head = results.map(({ kind, setup }) => `${App.titleOf(kind)}, ${SETUPS[setup].title}`);
  const lines = [['', ...head], ['---', ...head.map(() => '---:')]];
  for (const [title, cell] of ROWS) lines.push([title, ...results.map(({ setup, result }) => cell(result, setup))]);
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

const NOTES = `Each column is one run of the same script. ${TABS} tabs stay on one video and 5 on the notifications; 2 more come through a
stock nginx (HTTP/1.0 to its upstream, buffering on) whose read timeout is shorter than the app's silence; and ${ROUNDS} times
over, the tabs of two other users open and close, reload, leave before the first byte, and reset their connections. Then
all leave. Clocks run 30 times as fast as in life (nginx cuts after ${NGINX_TIMEOUT}, heartbeats come after ${HEARTBEAT}); the app's own
status poll does not (1 s). The apps are in \`tests/apps\`, the script is in \`tests/churn\`.

- **SvelteKit dies of the first error** and takes everybody's streams along; nginx hands out what it had held back when
  that happens. A supervisor starts the app anew at once, so there is one error per death, and the leaked timers are
  gone with the process.
- **Next.js catches the error and lives on**: a leaked timer throws and reads for ever. Where a tab left before the
  first byte, Next.js doesn't cancel the stream (the open controllers): such a timer reads on, and no error shows it.
- **Guard only** is sidestream without a route. It keeps quiet streams alive through nginx, and events pass nginx. A tab
  that finds no app gets a stream which ends at once and says when to come back; such ends count as streams cut. The
  guard can't prevent the app's own fault: each tab that leaves still closes a stream of the app, and the app's timer
  enqueues on it. Only a route takes the streams away from the app.
- **Behind routes** has the two routes below. The poll route has no edge left: the app answers short requests. The
  subscribe route keeps one stream per user (not counted as leaked), and the app sees it close once, when its linger is
  over or sidestream stops. The naive timer then does what it always did; the last row shows it.

\`\`\`sh
sidestream --upstream http://127.0.0.1:3000 --heartbeat-interval ${HEARTBEAT} \\
${routes('progress-template.json').map((route) => `  --route '${route}'`).join(' \\\n')}
\`\`\``;

const PICTURES = `## The pages, unchanged

The pages of both apps were written against the apps' own streams. Here they run in Chromium through sidestream with the
same two routes, three tabs of one user each; the app holds one stream for them. The pictures are made by
\`node tests/browser/apps.mjs --write\`, which fails when a page sees an error.

![The page of the SvelteKit app](img/sveltekit.png)

![The page of the Next.js app](img/next.png)
`;

/** Puts the table between its marks in the README. */
function intoReadme(table) {
  const file = join(ROOT, 'README.md');
  const text = readFileSync(file, 'utf8');
  const marked = /(<!-- proof: [^\n]*-->\n\n)[^]*?(\n\n<!-- \/proof -->)/;
  if (!marked.test(text)) throw new Error('README.md has no marks for the table of the proof');
  writeFileSync(file, text.replace(marked, (_, before, after) => before + table + after));
}

// === What must hold ===

function* complaints({ kind, setup, result: it }) {
  const must = (holds, what) => (holds ? [] : [`${App.titleOf(kind)}, ${SETUPS[setup].title}: ${what}`]);
  if (setup !== 'behind') {
    yield* must(it.errors > 0, 'the naive app should show invalid-state errors');
    yield* must(it.deaths > 0 || it.timers > 0, 'the naive app should die or leak timers');
    yield* must(it.readsOfAll > TABS / 3, `${TABS} tabs should cost the naive app many reads`);
  }
  if (setup === 'alone') yield* must(it.cut + it.refused > 0, 'the impatient nginx should cut streams or refuse them');
  // The next ones only where the app itself stays up: the deaths of the other flush and cut what is under way.
  if (setup === 'alone' && kind === 'next') {
    yield* must(it.behindNginx.spoke === 0, 'a stock nginx should hold the messages back');
  }
  if (setup === 'guard' && kind === 'next') {
    const { opened, refused, spoke } = it.behindNginx;
    yield* must(it.cut === 0, `heartbeats should keep nginx from cutting, but ${it.cut} streams were cut`);
    // An app that is too slow to begin for nginx's taste is none of the guard's business.
    yield* must(refused > 0 || spoke === opened, 'messages should reach both tabs behind nginx');
  }
  if (setup === 'behind') {
    const zeros = ['errors', 'deaths', 'cut', 'refused', 'cutUpstream', 'readsOfNone', 'timers', 'controllers'];
    for (const what of [...zeros, 'connectionsLeft']) {
      yield* must(it[what] === 0, `${what} should be 0, not ${it[what]}`);
    }
    yield* must(it.readsOfAll < 2, `${TABS} tabs should cost what one does, not ${it.readsOfAll} reads per second`);
    yield* must(it.behindNginx.spoke === 2, 'messages should reach both tabs behind nginx');
    yield* must(it.held === 4, `one stream per user should be kept, 4 in all, not ${it.held}`);
  }
}

// === Main ===

const flags = process.argv.slice(2);
if (flags.some((flag) => flag !== '--write')) {
  console.error('usage: tests/proof [--write]   (--write puts the table into docs/proof.md and README.md)');
  process.exit(2);
}
setTimeout(() => {
  console.error('tests/proof: not done after 90 s');
  process.exit(1);
}, 90_000).unref();

// All at once: the runs mostly wait, and they share nothing but the machine.
const columns = ['sveltekit', 'next'].flatMap((kind) => Object.keys(SETUPS).map((setup) => ({ kind, setup })));
const results = await Promise.all(
  columns.map(async ({ kind, setup }) => ({ kind, setup, result: await run(kind, SETUPS[setup]) }))
);

const text = `${table(results)}

${NOTES}
`;
console.log(text);
if (flags.includes('--write')) {
  const versions = ['sveltekit', 'next'].map(App.versionsOf).join(', ');
  const tools = `Node ${process.version.slice(1)}, nginx ${Nginx.version()}`;
  const made = `Made by \`tests/proof --write\`, not by hand: ${versions},\n${tools}.`;
  writeFileSync(join(ROOT, 'docs/proof.md'), `# The proof\n\n${made}\n\n${text}\n${PICTURES}`);
  intoReadme(table(results));
}
const failures = results.flatMap((column) => [...complaints(column)]);
failures.forEach((failure) => console.error(`tests/proof: ${failure}`));
process.exit(failures.length ? 1 : 0);
