// The tables, but that of topics: routes, how streams end, faults, the app, single streams.
import { USUAL_ENDS } from './charts.js';
import { sparkline } from './plot.js';
import { FAILURES, named } from './samples.js';
import { Rows, counts, heads, mark, write } from './table.js';
import { NONE, count, label, many, parts, seconds } from './words.js';

const byId = (id) => document.getElementById(id);
/** So many of the oldest streams: those behind them are hardly younger. */
const OLDEST_SHOWN = 10;
const byRoute = (row) => row.route;
const byAddress = (row) => `${row.address} ${row.route}`;

/** Where there are many routes, those with streams stand first, and those that never had any last; else as configured. */
const rank = ({ active, subscribers, opened }) => (active > 0 || subscribers > 0 ? 0 : opened > 0 ? 1 : 2);
const livelyFirst = (routes) => [...routes].sort((a, b) => rank(a) - rank(b));

/** A table whose columns are labels, known when the first figures come. */
class Matrix {
  #rows = null;
  #table;
  #columnsOf;

  constructor(table, columnsOf) {
    this.#table = table;
    this.#columnsOf = columnsOf;
  }

  show(list, first, key) {
    if (!list.length) return;
    const columns = this.#columnsOf(list[0]);
    if (heads(this.#table, [first, ...columns.map(({ name }) => name)])) {
      this.#table.tBodies[0].replaceChildren();
      this.#rows = new Rows(this.#table, [{ isHead: true, style: 'route', text: key }, ...columns]);
    }
    this.#rows.show(list, key);
  }
}

const column = (name, value, isFault) => ({ name, ...counts(count, value, isFault) });

/** A column for each label of a family of counters. */
const family = (row, field, isFault, prefix = '') => Object.keys(row[field] ?? {}).map((name) => (
  column(prefix + label(name), (it) => it[field]?.[name], isFault(name))
));

export class Tables {
  #routes;
  #ends = new Matrix(byId('ends'), (row) => [
    column('opened', (it) => it.opened),
    ...family(row, 'closed', (reason) => !USUAL_ENDS.includes(reason))
  ]);
  #faults = new Matrix(byId('faults'), (row) => [
    ...family(row, 'invalid_state_errors', () => true, 'invalid state: '),
    ...family(row, 'job_state_violations', () => true)
  ]);
  #requests = new Matrix(byId('requests'), (row) => [
    ...family(row, 'outcomes', (outcome) => FAILURES.includes(outcome)),
    ...(row.hasLatency ? ['mean', 'p50', 'p95', 'p99'].map((name) => (
      { name, isNumber: true, text: (it) => (it.latency?.count ? seconds(it.latency[name]) : NONE) }
    )) : [])
  ]);
  #slowest;
  #oldest;

  constructor(history) {
    this.#routes = new Rows(byId('routes'), [
      { isHead: true, style: 'route', text: byRoute },
      counts(count, (row) => row.active),
      { style: 'spark', fill: (cell, row) => sparkline(cell, history.ring(named('active', row.route)), history) },
      counts(count, (row) => row.stale, true),
      counts(count, (row) => row.subscribers),
      { text: (row) => parts(row.topics) || NONE },
      { isNumber: true, text: (row) => (row.active ? seconds(row.data_age_seconds) : NONE) }
    ]);
    const columns = [
      { isHead: true, style: 'code', text: (row) => row.address ?? NONE },
      { style: 'route', text: byRoute },
      { isNumber: true, text: (row) => seconds(row.age_seconds) },
      { isNumber: true, text: (row) => seconds(row.unacknowledged_seconds) },
      { isNumber: true, text: (row) => seconds(row.blocked_seconds) }
    ];
    this.#slowest = new Rows(byId('slowest'), columns, byId('slowest-none'));
    this.#oldest = new Rows(byId('oldest'), columns, byId('oldest-none'));
  }

  show(stats) {
    const routes = livelyFirst(stats.routes);
    this.#routes.show(routes, byRoute);
    this.#ends.show(routes, 'route', byRoute);
    this.#faults.show(routes, 'route', byRoute);
    const latencies = stats.upstream?.latency_seconds;
    const purposes = Object.entries(stats.upstream_requests ?? {}).map(([purpose, outcomes]) => (
      { purpose, outcomes, latency: latencies?.[purpose], hasLatency: Boolean(latencies) }
    ));
    this.#requests.show(purposes, 'asked for', (row) => row.purpose);
    const { listed = [], slowest = [], total = 0 } = stats.streams ?? {};
    this.#slowest.show(slowest, byAddress);
    this.#oldest.show(listed.slice(0, OLDEST_SHOWN), byAddress);
    const note = total > OLDEST_SHOWN ? `The ${OLDEST_SHOWN} oldest of ${count(total)}.` : `${many(total, 'stream')}.`;
    write(byId('oldest-note'), note);
    showProcess(stats.app);
  }
}

/** What is known of the app's own process, if somebody looks after it. */
function showProcess(app) {
  const isWatched = app?.watched != null;
  byId('app-process').hidden = !isWatched;
  if (!isWatched) return;
  write(byId('app-watched'), { child: 'as our child', log: 'by its log' }[app.watched] ?? app.watched);
  write(byId('app-running'), app.running == null ? 'unknown' : app.running ? 'running' : 'not running');
  mark(byId('app-running'), 'data-tone', app.running === false ? 'bad' : null);
  for (const name of ['invalid_state_errors', 'exits', 'restarts']) {
    const place = byId(`app-${name}`);
    write(place, count(app[name]));
    mark(place, 'data-tone', app[name] > 0 && name !== 'restarts' ? 'bad' : null);
  }
}
