// The last ten minutes, kept in the page: one ring of numbers per series.

/** How far back the charts can go, in seconds. */
export const SPAN_S = 600;
/** One place a second, and some for figures that came in a burst. */
const PLACES = SPAN_S + 60;
/** Figures further apart than this have something missing between them. */
const HOLE_MS = 3_500;

export class History {
  #times = new Float64Array(PLACES);
  /** For how many seconds the rates of a moment stand. */
  #spans = new Float64Array(PLACES);
  /** Where the line of figures was broken just before: `'lost'`, `'restart'` or undefined. */
  #breaks = new Array(PLACES);
  #series = new Map();
  #written = 0;
  #isLost = false;
  #first = NaN;

  /** Adds the figures of one moment, whose rates are those of the last `span` seconds. What is not among them has no value. */
  push(at, values, isRestart, span = 1) {
    // A clock that was set back: what was before it can't be told from what is to come.
    if (at < this.last) [this.#written, this.#first] = [0, NaN];
    const place = this.#written % PLACES;
    const before = this.#written ? this.#times[(this.#written - 1) % PLACES] : at;
    for (const ring of this.#series.values()) ring[place] = NaN;
    for (const [name, value] of values) this.#ring(name)[place] = value;
    [this.#times[place], this.#spans[place]] = [at, span];
    this.#breaks[place] = isRestart ? 'restart' : this.#isLost || at - before > HOLE_MS ? 'lost' : undefined;
    this.#isLost = false;
    this.#written += 1;
    if (Number.isNaN(this.#first)) this.#first = at;
  }

  /** Notes that figures have stopped coming. */
  lose() {
    this.#isLost = this.#written > 0;
  }

  get isLost() {
    return this.#isLost;
  }

  /** When the newest figures came; NaN before the first. */
  get last() {
    return this.#written ? this.#times[(this.#written - 1) % PLACES] : NaN;
  }

  /** When the first ones came, of those that may still be here. */
  get first() {
    return this.#first;
  }

  /** Calls `visit(time, place, break)` for every moment from `since` on, the oldest first. */
  each(since, visit) {
    for (let n = Math.max(0, this.#written - PLACES); n < this.#written; n += 1) {
      const place = n % PLACES;
      if (this.#times[place] >= since) visit(this.#times[place], place, this.#breaks[place]);
    }
  }

  /** The values of a series by place; undefined if there never was one. */
  ring(name) {
    return this.#series.get(name);
  }

  /** The sum of a series of rates over the last seconds, which is how often it happened to the process that runs now. */
  recent(name, seconds) {
    const ring = this.#series.get(name);
    let total = 0;
    if (!ring) return total;
    this.each(this.last - seconds * 1000, (_, place, broken) => {
      // Of a long gap it is not known when in it.
      total = (broken === 'restart' ? 0 : total) + (ring[place] || 0) * Math.min(this.#spans[place], seconds);
    });
    return total;
  }

  /** How many seconds ago one of these series last had something, in the process that runs now; Infinity if not within so many. */
  ago(names, seconds) {
    const rings = names.map((name) => this.#series.get(name)).filter(Boolean);
    let latest = -Infinity;
    this.each(this.last - seconds * 1000, (time, place, broken) => {
      if (broken === 'restart') latest = -Infinity;
      if (rings.some((ring) => ring[place] > 0)) latest = time;
    });
    return (this.last - latest) / 1000;
  }

  /** For how many seconds there are figures of the process that runs now, so many at most. */
  span(seconds) {
    let from = NaN;
    this.each(this.last - seconds * 1000, (time, _, broken) => {
      if (Number.isNaN(from) || broken === 'restart') from = time;
    });
    return (this.last - from) / 1000;
  }

  /** The newest value of a series that is at most so many seconds old; NaN if there is none. */
  newest(name, seconds = 0) {
    const ring = this.#series.get(name);
    let newest = NaN;
    if (ring) this.each(this.last - seconds * 1000, (_, place) => (newest = Number.isNaN(ring[place]) ? newest : ring[place]));
    return newest;
  }

  /** The moment nearest to `at`, as `{time, place}`. */
  nearest(at) {
    let best = null;
    this.each(-Infinity, (time, place) => {
      if (!best || Math.abs(time - at) <= Math.abs(best.time - at)) best = { time, place };
    });
    return best;
  }

  /** The moment `steps` after the one nearest to `at`, or before it. */
  step(at, steps) {
    const all = [];
    this.each(-Infinity, (time) => all.push(time));
    const from = all.indexOf(this.nearest(at)?.time);
    return all[Math.min(all.length - 1, Math.max(0, from + steps))];
  }

  #ring(name) {
    let ring = this.#series.get(name);
    if (!ring) this.#series.set(name, (ring = new Float64Array(PLACES).fill(NaN)));
    return ring;
  }
}
