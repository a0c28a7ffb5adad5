// What the history keeps of the figures: gauges as they are, counters as what was added per second.
import { sum } from './words.js';

/** The purposes of requests that the program makes by itself. */
export const OURS = ['poll', 'subscribe', 'authorize'];
/** The outcomes that say the app has answered. */
export const ANSWERS = ['ok', 'not_modified', 'redirect', 'client_error'];
/** Those that say nothing came from it. */
export const SILENCES = ['refused', 'timeout', 'broken'];
/** Those that say it is not well. */
export const FAILURES = ['server_error', ...SILENCES];

/** Uptimes are told in whole seconds; a process that began so much later is another one. */
const LATER_MS = 2_500;

/** The name of a series of one route, or of all together. */
export const named = (kind, route = '') => `${kind} ${route}`;

/** Counters of one route as `[series, value]`. */
function* counters(route) {
  yield ['opened', route.opened];
  for (const [reason, value] of Object.entries(route.closed ?? {})) yield [`closed.${reason}`, value];
  yield ['closed', sum(route.closed)];
  yield ['invalid', sum(route.invalid_state_errors)];
  yield ['violations', sum(route.job_state_violations)];
  for (const [side, value] of Object.entries(route.invalid_state_errors ?? {})) yield [`invalid.${side}`, value];
  for (const [kind, value] of Object.entries(route.job_state_violations ?? {})) yield [`violation.${kind}`, value];
}

/** Counters of the program as a whole. */
function* wholeCounters(stats) {
  const requests = stats.upstream_requests ?? {};
  yield ['asked', OURS.reduce((total, purpose) => total + sum(requests[purpose]), 0)];
  yield ['forwarded', sum(requests.forward)];
  for (const by of Object.values(requests)) {
    for (const [outcome, value] of Object.entries(by)) yield [`outcome.${outcome}`, value];
  }
  yield ['rejected', sum(stats.rejected)];
  yield ['spared', stats.upstream?.spared_requests];
  yield ['invalid.app', stats.app?.invalid_state_errors];
  yield ['exits.app', stats.app?.exits];
}

/** Everything counted, by the names of series; parts of the same name are added. */
function counted(stats) {
  const found = new Map();
  const add = (name, value) => Number.isFinite(value) && found.set(name, (found.get(name) ?? 0) + value);
  for (const route of stats.routes ?? []) {
    for (const [kind, value] of counters(route)) {
      add(named(kind, route.route), value);
      add(named(kind), value);
    }
  }
  for (const [kind, value] of wholeCounters(stats)) add(named(kind), value);
  return found;
}

export class Samples {
  #counted = null;
  #latencies = {};
  #uptime = NaN;
  #began = NaN;
  #at = NaN;

  /**
   * The figures of one moment as `[series, value]` pairs, the seconds since the one before, and whether the program is
   * another than then; `wasLost` says that there was no connection to it just now.
   */
  take(stats, at, wasLost) {
    // After a loss the figures are fresh, and tell when it began; else they may have been long on their way.
    const began = at - stats.uptime_seconds * 1000;
    const isRestart = stats.uptime_seconds < this.#uptime || (wasLost && began > this.#began + LATER_MS);
    const now = counted(stats);
    // The program tells every second; what makes it look like 0.98 s is the way here.
    const elapsed = Math.max(1, Math.round((at - this.#at) / 1000) || 1);
    const values = [];
    let [active, stale] = [0, 0];
    for (const route of stats.routes ?? []) {
      values.push([named('active', route.route), route.active], [named('stale', route.route), route.stale]);
      active += route.active;
      stale += route.stale;
    }
    values.push([named('active'), active], [named('stale'), stale]);
    if (this.#counted && !isRestart) {
      for (const [name, value] of now) {
        values.push([name, Math.max(0, value - (this.#counted.get(name) ?? 0)) / elapsed]);
      }
    }
    values.push(...this.#meanLatencies(stats, isRestart));
    this.#counted = now;
    this.#uptime = stats.uptime_seconds;
    this.#began = began;
    this.#at = at;
    return { values, isRestart, elapsed };
  }

  /** The mean of the requests that ended since the last time: of the whole run it would hardly ever move. */
  #meanLatencies(stats, isRestart) {
    const values = [];
    const latencies = stats.upstream?.latency_seconds ?? {};
    for (const [purpose, now] of Object.entries(latencies)) {
      const before = isRestart ? undefined : this.#latencies[purpose];
      const ended = now.count - (before?.count ?? now.count);
      if (ended > 0) {
        const mean = (now.count * now.mean - before.count * (before.mean || 0)) / ended;
        values.push([named(`latency.${purpose}`), Math.max(0, mean)]);
      }
    }
    this.#latencies = latencies;
    return values;
  }
}
