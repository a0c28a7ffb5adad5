// Which charts there are, and the route they are about.
import { Chart, Cursor } from './chart.js';
import { Lanes, Lines } from './plot.js';
import { FAILURES, named } from './samples.js';
import { count, label, rate, seconds, short } from './words.js';

/** The reasons for which a stream ends without anything being wrong. */
export const USUAL_ENDS = ['client', 'done', 'max_age', 'drain'];
/** Lines are told apart by their dashes too. */
const PURPOSES = [['poll'], ['subscribe', '6 3'], ['authorize', '2 3'], ['forward', '9 3 2 3']];

export class Charts {
  #charts = [];
  #history;
  #select;
  #stats = { routes: [] };
  #now = NaN;

  constructor(history) {
    this.#history = history;
    this.#select = document.getElementById('chart-route');
    this.#select.addEventListener('input', () => this.#draw());
    const cursor = new Cursor();
    for (const [id, title, plot] of this.#plots()) {
      this.#charts.push(new Chart(document.getElementById(id), title, plot, history, cursor));
    }
  }

  show(stats, now) {
    this.#stats = stats;
    this.#now = now;
    document.getElementById('chart-latency').hidden = !stats.upstream?.latency_seconds;
    const routes = stats.routes.map(({ route }) => route);
    if (this.#select.dataset.routes !== routes.join('\n')) {
      this.#select.dataset.routes = routes.join('\n');
      const before = this.#select.value;
      this.#select.replaceChildren(new Option('all routes', ''), ...routes.map((route) => new Option(route, route)));
      this.#select.value = routes.includes(before) ? before : '';
    }
    this.#draw();
  }

  #draw() {
    for (const chart of this.#charts) chart.draw(this.#now);
  }

  /** The series of the route that is picked. */
  #named = (kind) => named(kind, this.#select.value);

  /** The labels of a family of counters, in the program's own order. */
  #labels = (field) => Object.keys(this.#stats.routes[0]?.[field] ?? {});

  #plots() {
    const gauge = (kind) => new Lines([{ label: label(kind), name: () => this.#named(kind) }], this.#history,
      { format: count, axis: short, hasArea: true });
    const latencies = PURPOSES.map(([purpose, dash]) => ({ label: purpose, dash, name: () => named(`latency.${purpose}`) }));
    const lanes = (wanted) => new Lanes(wanted, this.#history, rate);
    return [
      ['chart-active', 'Active streams', gauge('active')],
      ['chart-stale', 'Stale streams', gauge('stale')],
      ['chart-latency', 'Time the app takes, mean', new Lines(latencies, this.#history,
        { format: seconds, least: 0.002, isSparse: true })],
      ['chart-flow', 'Opened and closed, per second', lanes(() => this.#flow())],
      ['chart-faults', 'Faults, per second', lanes(() => this.#faults())],
      ['chart-app', 'Requests to the app, per second', lanes(() => this.#requests())]
    ];
  }

  #flow() {
    return [
      { label: 'opened', name: this.#named('opened'), isKept: true, tone: 'main' },
      ...this.#labels('closed').map((reason) => ({
        label: `closed: ${label(reason)}`, name: this.#named(`closed.${reason}`), isKept: reason === 'client',
        tone: USUAL_ENDS.includes(reason) ? '' : 'bad'
      }))
    ];
  }

  #faults() {
    const fault = (text, name, isKept = false) => ({ label: text, name, isKept, tone: 'bad' });
    return [
      ...this.#labels('invalid_state_errors').map((side) => (
        fault(`invalid state: ${label(side)}`, this.#named(`invalid.${side}`), true)
      )),
      fault('invalid state: in the app', named('invalid.app'), this.#stats.app?.watched != null),
      fault('deaths of the app', named('exits.app')),
      ...this.#labels('job_state_violations').map((kind) => (
        fault(`job state: ${label(kind)}`, this.#named(`violation.${kind}`))
      )),
      fault('turned away', named('rejected'))
    ];
  }

  #requests() {
    return [
      { label: 'for streams', name: named('asked'), isKept: true, tone: 'main' },
      { label: 'forwarded', name: named('forwarded'), isKept: true, tone: 'main' },
      { label: 'spared', name: named('spared') },
      ...FAILURES.map((outcome) => ({ label: label(outcome), name: named(`outcome.${outcome}`), tone: 'bad' }))
    ];
  }
}
