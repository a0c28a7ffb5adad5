// The head of the page: whether all is well, and how the app, the program and a drain are doing.
import { Lately, RECENT_S } from './lately.js';
import { named } from './samples.js';
import { mark, write } from './table.js';
import { appInWords, verdict } from './verdict.js';
import { NONE, clock, count, many, seconds } from './words.js';

const byId = (id) => document.getElementById(id);
const WAITING = { level: 'wait', title: 'Connecting to sidestream', findings: [] };

export class Head {
  #history;
  #lately;

  constructor(history) {
    this.#history = history;
    this.#lately = new Lately(history);
  }

  /** Shows what the newest figures say; before the first there are none. */
  show(stats) {
    const { isLost } = this.#history;
    const found = !stats ? WAITING : isLost ? this.#lost() : verdict(stats, this.#lately);
    mark(byId('verdict'), 'data-level', found.level);
    mark(byId('verdict').querySelector('use'), 'href', `#sign-${found.level}`);
    write(byId('verdict-title'), found.title);
    const title = `${found.title} · sidestream`;
    if (document.title !== title) document.title = title;
    showFindings(byId('verdict-findings'), found.findings);
    if (!stats) return;
    write(byId('fact-state'), isLost ? 'unknown' : stats.state ?? NONE);
    write(byId('fact-app'), isLost ? 'unknown' : appInWords(stats, this.#lately, this.#latency()));
    write(byId('fact-up'), seconds(stats.uptime_seconds));
    write(byId('fact-version'), stats.version ?? NONE);
    showDrain(isLost ? null : stats.drain);
  }

  #lost() {
    const text = `Last figures from ${clock(this.#history.last)}. It is being tried again.`;
    return { level: 'lost', title: 'Connection to sidestream lost', findings: [{ title: '', text }] };
  }

  /** How long the app took of late, in the mean: of a poll, or whatever it is asked for. */
  #latency() {
    const known = ['poll', 'forward', 'subscribe', 'authorize'].map((purpose) => (
      this.#history.newest(named(`latency.${purpose}`), RECENT_S)
    ));
    return known.find(Number.isFinite) ?? NaN;
  }
}

function showFindings(list, found) {
  found.forEach(({ title, text }, n) => {
    let item = list.children[n];
    if (!item) list.append((item = document.createElement('li')));
    write(item, title ? `${title}: ${text[0].toLowerCase()}${text.slice(1)}` : text);
  });
  while (list.children.length > found.length) list.lastElementChild.remove();
  list.hidden = !found.length;
}

function showDrain(drain) {
  byId('drain').hidden = !drain;
  if (!drain) return;
  const { streams_at_start: before, streams_left: left, seconds_left: time } = drain;
  mark(byId('drain-bar'), 'max', Math.max(1, before));
  mark(byId('drain-bar'), 'value', before ? Math.max(0, before - left) : 1);
  write(byId('drain-text'), `${count(left)} of ${many(before, 'stream')} left, ${count(Math.ceil(time))} s to go`);
}
