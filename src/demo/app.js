// The front end of the demo's app. Each bar is fed the way a legacy front end does it: one EventSource per job, its
// messages are the job's status as JSON, and "done" closes it. All else here is about the browser's six connections.
'use strict';

const byId = (id) => document.getElementById(id);

// ----- the app's answers

async function ask(method, path, body) {
  const init = { method, signal: AbortSignal.timeout(8000) };
  if (body) {
    init.headers = { 'content-type': 'application/json' };
    init.body = JSON.stringify(body);
  }
  const response = await fetch(path, init);
  const answer = response.headers.get('content-type') === 'application/json' ? await response.json() : null;
  if (!response.ok) {
    throw Object.assign(new Error(answer?.error ?? 'the app does not answer'), { status: response.status });
  }
  return answer;
}

function tell(text) {
  const line = document.createElement('li');
  const time = document.createElement('time');
  time.textContent = new Date().toLocaleTimeString([], { hour12: false });
  line.append(time, text);
  byId('log').prepend(line);
  while (byId('log').children.length > 6) byId('log').lastChild.remove();
}

// ----- the places for progress streams
//
// A browser opens six connections to one address for all tabs together, and a seventh request waits in silence. So the
// tabs share four places, each a lock of the browser's, which it frees itself when a tab is closed or crashes. Pages on
// plain HTTP from another machine are given no locks; there, two places per tab are a fair guess.

const PLACES = ['place-1', 'place-2', 'place-3', 'place-4'];
const PLACES_WITHOUT_LOCKS = 2;
const mine = new Map(); // the places this tab holds, each with the function that gives it back

function take(place, options) {
  if (!navigator.locks) {
    if (mine.size >= PLACES_WITHOUT_LOCKS) return false;
    mine.set(place, () => {});
    return true;
  }
  return new Promise((answer) => {
    navigator.locks.request(place, options, (lock) => {
      if (!lock) return answer(false);
      return new Promise((giveBack) => {
        mine.set(place, giveBack);
        answer(true);
      });
    }).catch(() => {
      // Another tab, which has fewer, has taken it.
      mine.delete(place);
      while (watched().length > mine.size) stop(watched().at(-1), 'moved');
    });
  });
}

// Takes a place that is free, or else one of the tab that holds the most, if that holds at least `richest` of them.
async function takePlace(richest) {
  for (const place of PLACES) {
    if (!mine.has(place) && await take(place, { ifAvailable: true })) return true;
  }
  if (!navigator.locks || !richest) return false;
  const tabs = new Map();
  for (const lock of (await navigator.locks.query()).held) {
    if (PLACES.includes(lock.name)) tabs.set(lock.clientId, [...(tabs.get(lock.clientId) ?? []), lock.name]);
  }
  const [places] = [...tabs.values()].sort((a, b) => b.length - a.length);
  return places?.length >= richest && take(places.at(-1), { steal: true });
}

function giveBackSpare() {
  for (const [place, giveBack] of mine) {
    if (mine.size <= watched().length) return;
    mine.delete(place);
    giveBack();
  }
}

// ----- jobs

const STREAM = {
  off: 'Not watched in this tab',
  connecting: 'Connecting',
  live: 'Live',
  waiting: 'The app does not answer; the stream is held open',
  lost: 'Connection lost; the browser comes back by itself',
  moved: 'Not watched here: another tab needs the connection',
  newer: 'Not watched: newer jobs have the connections',
  full: 'Not watched: all connections are in use',
  over: 'Over, stream closed',
  refused: 'Stream refused: is this the sidecar’s address?',
};

const jobs = new Map();
let rank = 0; // the newest job has the highest, and a job for which "Watch" is pressed becomes the newest

const watched = () => [...jobs.values()].filter((job) => job.source).sort((a, b) => b.rank - a.rank);
const isOver = (job) => job.video.status === 'completed' || job.video.status === 'failed';

function know(video) {
  let job = jobs.get(video.id);
  if (job) return show(job, video);
  const card = byId('job').content.firstElementChild.cloneNode(true);
  job = { id: video.id, video, card, source: null, rank: ++rank, wanted: true, insists: false };
  jobs.set(video.id, job);
  card.querySelector('h3').textContent = video.title;
  card.querySelector('h3').id = `title-${video.id}`;
  card.querySelector('.kind').textContent = video.kind;
  card.querySelector('progress').setAttribute('aria-labelledby', `title-${video.id}`);
  card.querySelector('.watch').addEventListener('click', () => toggle(job));
  card.querySelector('.remove').addEventListener('click', () => remove(job));
  card.querySelector('.remove').setAttribute('aria-label', `Remove ${video.title}`);
  byId('jobs').prepend(card);
  byId('none').hidden = true;
  show(job, video);
  state(job, isOver(job) ? 'over' : 'off');
}

function show(job, video) {
  job.video = video;
  job.card.dataset.status = video.status;
  job.card.toggleAttribute('data-over', isOver(job));
  job.card.querySelector('progress').value = video.progress;
  job.card.querySelector('.percent').textContent = `${video.progress} %`;
  job.card.querySelector('.status').textContent = video.status;
  job.card.querySelector('.message').textContent = video.message;
  if (isOver(job) && !job.source) state(job, 'over');
}

function state(job, stream) {
  job.card.dataset.stream = stream;
  job.card.toggleAttribute('data-stale', !job.source && !isOver(job));
  job.card.querySelector('.stream').textContent = STREAM[stream];
  const button = job.card.querySelector('.watch');
  button.hidden = isOver(job) && !job.source;
  button.textContent = job.source ? 'Stop watching' : 'Watch';
  button.setAttribute('aria-label', `${button.textContent} ${job.video.title}`);
}

function start(job) {
  const source = new EventSource('/api/progress/' + encodeURIComponent(job.id));
  job.source = source;
  state(job, 'connecting');
  source.onopen = () => state(job, 'live');
  source.onmessage = (event) => {
    show(job, JSON.parse(event.data));
    if (job.card.dataset.stream !== 'live') state(job, 'live');
  };
  source.addEventListener('done', () => end(job, 'over'));
  source.addEventListener('gone', () => forget(job));
  source.addEventListener('upstream-error', () => state(job, 'waiting'));
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return state(job, 'lost');
    // A status but 200 closes an EventSource for good. 204 is how the server says that the job has been over before.
    job.wanted = false;
    end(job, isOver(job) ? 'over' : 'refused');
  };
}

function stop(job, why) {
  job.source?.close();
  job.source = null;
  state(job, isOver(job) ? 'over' : why);
}

function end(job, why) {
  stop(job, why);
  giveBackSpare();
  settle();
}

function forget(job) {
  stop(job, 'off');
  job.card.remove();
  jobs.delete(job.id);
  byId('none').hidden = jobs.size > 0;
  giveBackSpare();
  settle();
}

function toggle(job) {
  job.wanted = !job.source;
  if (job.source) return end(job, 'off');
  job.rank = ++rank;
  job.insists = true;
  settle();
}

async function remove(job) {
  try {
    await ask('DELETE', `/api/videos/${encodeURIComponent(job.id)}`);
  } catch (error) {
    if (error.status !== 404) return tell(`Not removed: ${error.message}.`);
  }
  // The button that had the focus goes; the keyboard's user stays at the same place in the list.
  const neighbour = job.card.nextElementSibling ?? job.card.previousElementSibling;
  const button = neighbour?.querySelector('.remove') ?? document.querySelector('[data-kind]');
  if (job.card.contains(document.activeElement)) button.focus();
  forget(job);
}

// Gives the newest unfinished jobs a stream each, as far as there are places. One call after the other, because taking
// a place takes time.
let settling = Promise.resolve();
function settle() {
  settling = settling.then(settleNow).catch((error) => console.error(error));
}

async function settleNow() {
  const candidates = [...jobs.values()].filter((job) => job.wanted && !isOver(job)).sort((a, b) => b.rank - a.rank);
  for (const job of candidates) {
    if (job.source) continue;
    // A tab with nothing to show may ask one that holds two or more; a person who presses "Watch" may ask any.
    const richest = mine.size > 0 ? 0 : job.insists ? 1 : 2;
    const has = await takePlace(richest);
    const oldest = watched().at(-1);
    if (!has && oldest && oldest.rank < job.rank) stop(oldest, 'newer');
    if (mine.size > watched().length && jobs.has(job.id)) start(job);
    else state(job, job.card.dataset.stream === 'off' ? 'full' : job.card.dataset.stream);
    job.insists = false;
  }
  giveBackSpare();
  command();
}

// ----- notifications: one tab of the browser holds the stream and passes it on to the others

const channel = new BroadcastChannel('sidestream-demo');
channel.onmessage = (event) => notified(event.data);

function notified({ type, video }) {
  const job = jobs.get(video.id);
  if (type === 'video-removed') {
    if (job) forget(job);
    return;
  }
  know(video);
  if (type === 'video-started') tell(`“${video.title}” has been started (${video.kind}).`);
  if (type === 'video-ended') tell(`“${video.title}” is over: ${video.status}.`);
  settle();
}

function listen() {
  const source = new EventSource('/api/notifications/sse');
  const state = (text) => { byId('log-state').textContent = text; };
  source.onopen = () => state('live');
  source.onerror = () => state(source.readyState === EventSource.CLOSED ? 'refused' : 'reconnecting');
  source.onmessage = (event) => {
    const notification = JSON.parse(event.data);
    notified(notification);
    if (navigator.locks) channel.postMessage(notification);
  };
}

if (navigator.locks) {
  byId('log-state').textContent = 'by way of another tab';
  navigator.locks.request('notifications', () => {
    listen();
    return new Promise(() => {});
  });
} else {
  listen();
}

// ----- the numbers, once a second

const history = []; // the last ten answers: rates are means over them
let away = false;

async function look() {
  if (document.hidden) return;
  try {
    const stats = await ask('GET', '/api/demo/stats');
    if (away) await back();
    count(stats);
    settle();
  } catch (error) {
    if (error.name === 'TimeoutError') return;
    away = true;
    banner(error.status
      ? 'The app does not answer. The sidecar holds all streams open meanwhile, and no tab has to reconnect.'
      : 'The sidecar does not answer: is the demo still running?');
  }
}

async function back() {
  away = false;
  banner('');
  // What has happened meanwhile was told to nobody.
  await refresh();
  for (const job of watched()) if (job.card.dataset.stream === 'waiting') state(job, 'live');
}

function banner(text) {
  // The same text again would be read out again.
  if (byId('banner').textContent !== text) byId('banner').textContent = text;
}

function count(stats) {
  history.push({ at: performance.now(), got: stats.statusReads, would: stats.statusReadsWithoutSidecar });
  if (history.length > 11) history.shift();
  const [first, last] = [history[0], history.at(-1)];
  const seconds = (last.at - first.at) / 1000;
  const rate = (key) => seconds > 1 ? `${((last[key] - first[key]) / seconds).toFixed(1)} a second now` : '';
  byId('got').textContent = last.got.toLocaleString();
  byId('would').textContent = last.would.toLocaleString();
  byId('got-rate').textContent = rate('got');
  byId('would-rate').textContent = rate('would');
  const most = Math.max(last.got, last.would, 1);
  byId('got-bar').style.width = `${100 * last.got / most}%`;
  byId('would-bar').style.width = `${100 * last.would / most}%`;
  const times = last.would / Math.max(last.got, 1);
  byId('verdict').textContent = times >= 1.2
    ? `Without the sidecar: ${times.toFixed(1)} times as many.`
    : 'Alike while each job has one watcher. Open more tabs.';
  byId('streams').textContent = stats.progressStreams;
  byId('notification-streams').textContent = stats.notificationStreams;
  byId('restarts').textContent = stats.restarts;
  if (stats.dashboard) byId('dashboard').firstElementChild.href = stats.dashboard;
  byId('dashboard').hidden = !stats.dashboard;
}

async function refresh() {
  const videos = await ask('GET', '/api/videos');
  const ids = new Set(videos.map((video) => video.id));
  for (const job of [...jobs.values()]) if (!ids.has(job.id)) forget(job);
  videos.forEach(know);
  settle();
}

// ----- the rest of the page

function command() {
  const newest = [...jobs.values()].sort((a, b) => b.rank - a.rank).find((job) => !isOver(job));
  const id = newest?.id ?? 'v1';
  byId('command').textContent =
    `seq 50 | xargs -P 50 -I{} curl -sN -o /dev/null ${location.origin}/api/progress/${encodeURIComponent(id)}`;
}

for (const button of document.querySelectorAll('[data-kind]')) {
  button.addEventListener('click', async () => {
    try {
      know(await ask('POST', '/api/videos', { kind: button.dataset.kind }));
      settle();
    } catch (error) {
      tell(`Not started: ${error.message}.`);
    }
  });
}

byId('restart').addEventListener('click', async () => {
  try {
    await ask('POST', '/api/demo/restart', {});
    tell('The app restarts.');
  } catch (error) {
    tell(`Not restarted: ${error.message}.`);
  }
});

const OTHER_NAME = { '127.0.0.1': 'localhost', localhost: '127.0.0.1' }[location.hostname];
if (OTHER_NAME) {
  const link = byId('elsewhere').querySelector('a');
  link.href = `${location.protocol}//${OTHER_NAME}:${location.port}/`;
  link.textContent = link.href;
  byId('elsewhere').hidden = false;
}

command();
refresh().catch(() => {});
look();
setInterval(look, 1000);
document.addEventListener('visibilitychange', look);
