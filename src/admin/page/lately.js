// What happened in the last seconds, and what that says of the app.
import { ANSWERS, FAILURES, SILENCES, named } from './samples.js';
import { parts, sum } from './words.js';

/** How far back "now" reaches. */
export const RECENT_S = 30;
/** For how long an app that answers may say nothing: polls come every 5 s (`--poll-max-interval`). */
const QUIET_S = 10;

/** What the app says when it says something. */
const SPOKEN = [...ANSWERS, ...FAILURES.filter((outcome) => !SILENCES.includes(outcome))];

const series = (outcomes) => outcomes.map((outcome) => named(`outcome.${outcome}`));

export class Lately {
  #history;

  constructor(history) {
    this.#history = history;
  }

  /** How often something happened. */
  count(kind) {
    return Math.round(this.#history.recent(named(kind), RECENT_S));
  }

  /** How long ago the app did one of these, in seconds; Infinity if it was not of late. */
  #ago = (outcomes) => this.#history.ago(series(outcomes), RECENT_S);

  /**
   * How the app does: `silent` if nothing comes from it, `erring` if nothing but errors does, `partly` if some requests
   * fail, `unasked`, or `well`; beside it how many requests failed, how many were answered, and the failures in words.
   */
  app(stats) {
    const counts = Object.fromEntries(FAILURES.map((outcome) => [outcome, this.count(`outcome.${outcome}`)]));
    const failed = sum(counts);
    const answered = ANSWERS.reduce((all, outcome) => all + this.count(`outcome.${outcome}`), 0);
    const state = this.#isSilent(stats) ? 'silent'
      : failed >= 1 ? (answered >= 1 ? 'partly' : 'erring')
        : answered >= 1 ? 'well' : 'unasked';
    return { state, failed, answered, failures: parts(counts) };
  }

  /** Whether nothing comes from it any more. Answers that came before are no sign of life. */
  #isSilent({ routes }) {
    const spoke = this.#ago(SPOKEN);
    if (this.#ago(SILENCES) < spoke && spoke > QUIET_S) return true;
    // Where nobody listens it need not be waited for; what is watched and still live was just not asked for since.
    const isAnyLive = (routes ?? []).some(({ topics }) => topics?.live > 0);
    return this.#ago(['refused']) < spoke && !isAnyLive;
  }

  /** For how long nothing was asked of the app, in whole seconds, as far as is known; NaN if nothing ever was. */
  unasked(stats) {
    const asked = Object.values(stats.upstream_requests ?? {}).reduce((all, outcomes) => all + sum(outcomes), 0);
    return asked > 0 ? Math.round(this.#history.span(RECENT_S)) : NaN;
  }
}
