// Whether all is well, in words: what somebody who was woken up reads first.
import { RECENT_S } from './lately.js';
import { NONE, count, label, many, parts, seconds, sum } from './words.js';

/** From this part of a limit on, it is near. */
export const NEAR = 0.8;

/** What the limits are called in a sentence. */
const LIMITED = { connections: 'streams', topics: 'topics', polls: 'polls at once', open_files: 'open files' };

/** The limits of which the program said how much is used, as `{name, words, now, max, part}`. */
export function limits(stats) {
  return Object.entries(stats.limits ?? {})
    .filter(([, limit]) => limit && Number.isFinite(limit.now))
    .map(([name, { now, max }]) => ({ name, words: LIMITED[name] ?? label(name), now, max, part: max > 0 ? now / max : 0 }));
}

const bad = (title, text) => ({ level: 'bad', title, text });
const warn = (title, text) => ({ level: 'warn', title, text });

/** What an operator should know. */
function* findings(stats, lately) {
  const inTime = `in the last ${RECENT_S} s`;
  const routes = stats.routes ?? [];
  if (stats.app?.running === false) yield bad('The app is not running', 'Its process has ended.');

  const degraded = routes.reduce((total, route) => total + (route.topics?.degraded ?? 0), 0);
  const { state, failed, answered, failures } = lately.app(stats);
  if (state === 'silent' || state === 'erring') {
    const title = state === 'silent' ? 'The app does not answer' : 'The app answers with errors';
    yield bad(title, `${many(failed, 'request')} failed ${inTime}: ${failures}.`);
  } else if (degraded > 0) {
    const topics = sum(routes.reduce((all, route) => ({ ...all, [route.route]: sum(route.topics) }), {}));
    yield bad('The app is in trouble', `${count(degraded)} of ${many(topics, 'topic')} can only show what was known before.`);
  } else if (state === 'partly') {
    yield warn('Some requests to the app fail', `${count(failed)} of ${count(failed + answered)} ${inTime}: ${failures}.`);
  }

  const rejected = lately.count('rejected');
  if (rejected > 0 && stats.state === 'ready') {
    yield bad('Clients are being turned away', `${many(rejected, 'time')} ${inTime}; so far: ${parts(stats.rejected)}.`);
  }
  for (const { name, words, now, max, part } of limits(stats)) {
    // Polls take all turns for a moment whenever many fall due; the rest only grows towards its limit.
    if (part >= NEAR && name !== 'polls') {
      const text = `${count(now)} of ${count(max)} are in use.`;
      yield part >= 1 ? bad(`No more ${words} are possible`, text) : warn(`The limit of ${words} is near`, text);
    }
  }

  const stale = routes.reduce((total, route) => total + (route.stale ?? 0), 0);
  if (stale > 0) {
    const title = `${many(stale, 'client')} ${stale === 1 ? 'has' : 'have'} gone silent`;
    yield warn(title, 'Nothing that is sent to them is acknowledged.');
  }
  const deaths = lately.count('exits.app');
  if (deaths > 0) yield warn('The app has died', `${many(deaths, 'time')} ${inTime}.`);
  const invalid = lately.count('invalid.app');
  if (invalid > 0) yield warn('The app writes to closed streams', `${many(invalid, 'invalid-state error')} ${inTime}.`);
  const [first, ...others] = (stats.recommendations ?? []).filter(({ severity }) => severity === 'warning');
  if (first) yield warn(first.title, others.length ? `${others.length + 1} warnings are below.` : 'What to change is below.');
}

/** The level, one line, and what else there is to say. */
export function verdict(stats, lately) {
  if (stats.state === 'starting') return { level: 'wait', title: 'Starting', findings: [] };
  const found = [...findings(stats, lately)].sort((a, b) => (a.level === 'bad' ? 0 : 1) - (b.level === 'bad' ? 0 : 1));
  const sentences = found.map(({ title, text }) => ({ title, text }));
  if (stats.state === 'draining') return { level: 'drain', title: 'Draining', findings: sentences };
  if (!found.length) return { level: 'well', title: 'All is well', findings: [] };
  const [{ level, title, text }] = found;
  return { level, title, findings: [{ title: '', text }, ...sentences.slice(1)] };
}

/** How the app does, in a few words. */
export function appInWords(stats, lately, latency) {
  const { state } = lately.app(stats);
  if (state === 'silent') return 'does not answer';
  if (state === 'erring') return 'answers with errors';
  if (state === 'partly') return 'fails sometimes';
  if (state === 'unasked') return unaskedInWords(lately.unasked(stats));
  return Number.isFinite(latency) ? `answers in ${seconds(latency)}` : 'answers';
}

function unaskedInWords(time) {
  if (Number.isNaN(time)) return 'not asked yet';
  // A page that was opened just now has seen nothing of what was before.
  return time >= 1 ? `not asked for ${time} s` : NONE;
}
