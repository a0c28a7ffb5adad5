// The figures: one tile each, exact, with a word on what it is made of.
import { SPAN_S } from './history.js';
import { OURS, named } from './samples.js';
import { mark, write } from './table.js';
import { count, parts, rate, sum } from './words.js';

/** Adds up, over all routes, the numbers by label that `pick` takes from each. */
function merged(routes, pick) {
  const all = {};
  for (const route of routes) {
    for (const [name, value] of Object.entries(pick(route) ?? {})) all[name] = (all[name] ?? 0) + value;
  }
  return all;
}

/** A figure that the program does not tell has no tile. */
function figure(name, value, note, tone) {
  const tile = document.getElementById(`figure-${name}`);
  tile.hidden = value == null;
  if (value == null) return;
  write(tile.querySelector('.value'), count(value));
  write(tile.querySelector('.of'), note);
  mark(tile, 'data-tone', tone || null);
}

export function showFigures(stats, history) {
  const perSecond = (kind) => rate(history.newest(named(kind)) || 0);
  // What was long ago is counted, but nothing to look at now.
  const isNew = (kind) => history.recent(named(kind), SPAN_S) > 0;
  const { routes } = stats;
  const active = routes.reduce((total, route) => total + (route.active || 0), 0);
  const stale = routes.reduce((total, route) => total + (route.stale || 0), 0);
  figure('active', active, `+${perSecond('opened')}/s, −${perSecond('closed')}/s`);
  figure('stale', stale, stale ? 'acknowledge nothing' : 'all acknowledge what they get', stale && 'warn');
  const phases = merged(routes, (route) => route.topics);
  figure('topics', sum(phases), parts(phases) || 'nothing is watched', phases.degraded > 0 && 'bad');
  const asked = OURS.reduce((all, purpose) => all + sum(stats.upstream_requests?.[purpose]), 0);
  figure('asked', asked, `${perSecond('asked')} per second; ${perSecond('forwarded')} forwarded`);
  const spared = stats.upstream?.spared_requests;
  const part = spared > 0 ? Math.floor((spared / (spared + asked)) * 100) : 0;
  figure('spared', spared, spared > 0 ? `${part} % of what tabs would ask` : 'nothing was shared');
  const invalid = merged(routes, (route) => route.invalid_state_errors);
  figure('invalid', sum(invalid), parts(invalid) || 'no closed stream touched', isNew('invalid') && 'warn');
  const violations = merged(routes, (route) => route.job_state_violations);
  figure('violations', sum(violations), parts(violations) || 'all answers in order', isNew('violations') && 'warn');
  figure('rejected', sum(stats.rejected), parts(stats.rejected) || 'all had a place', isNew('rejected') && 'warn');
}
