// The dashboard: takes the figures as they come, keeps their history, and shows them in the order in which an operator
// asks. All of it works with what is there: a field that the program does not tell leaves its place empty or hidden.
import { Advice } from './page/advice.js';
import { Charts } from './page/charts.js';
import { showFigures } from './page/figures.js';
import { Head } from './page/head.js';
import { History } from './page/history.js';
import { Limits } from './page/limits.js';
import { follow } from './page/live.js';
import { Samples } from './page/samples.js';
import { markMore } from './page/scroll.js';
import { mark, write } from './page/table.js';
import { Tables } from './page/tables.js';
import { Topics } from './page/topics.js';
import { clock } from './page/words.js';

const byId = (id) => document.getElementById(id);
const history = new History();
const samples = new Samples();
const head = new Head(history);
const advice = new Advice(byId('advice'));
const charts = new Charts(history);
const tables = new Tables(history);
const topics = new Topics(byId('topics'));
const limits = new Limits(byId('limits'));

let latest = null;
let isPaused = false;
let isAsked = false;

function show() {
  isAsked = false;
  head.show(latest);
  mark(document.body, 'data-lost', history.isLost ? 'yes' : null);
  // Whether all is well is not to be paused.
  if (isPaused || !latest) return;
  byId('figures').hidden = false;
  advice.show(latest.recommendations);
  showFigures(latest, history);
  charts.show(latest, history.isLost ? Date.now() : history.last);
  tables.show(latest);
  topics.show(latest.topics);
  limits.show(latest);
}

/** Shows it once before the next frame, however much has come. A page that nobody sees does so when it is seen again. */
function ask() {
  if (isAsked || document.hidden) return;
  isAsked = true;
  requestAnimationFrame(show);
}

byId('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  mark(byId('pause'), 'aria-pressed', isPaused);
  write(byId('pause-note'), isPaused && latest ? `Standing at ${clock(history.last)}. Figures are still being kept.` : '');
  ask();
});
document.addEventListener('visibilitychange', ask);
// While nothing comes, the time on the charts goes on, and what is missing grows.
setInterval(() => history.isLost && ask(), 1_000);

function take(stats) {
  const now = Date.now();
  latest = { ...stats, routes: stats.routes ?? [] };
  const { values, isRestart, elapsed } = samples.take(latest, now, history.isLost);
  history.push(now, values, isRestart, elapsed);
  ask();
}

for (const region of document.querySelectorAll('.scroll')) markMore(region);
follow('api/stats/stream', take, () => {
  history.lose();
  ask();
});
