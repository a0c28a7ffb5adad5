// The table of topics: sorted and filtered by whoever reads it, and calm while its figures change.
import { NONE, count, many, seconds } from './words.js';
import { Rows, counts, mark, write } from './table.js';

/** Rows beyond these are counted and not drawn: nobody reads them, and a browser has to lay them out. */
const SHOWN_MAX = 200;
const PHASES = ['degraded', 'starting', 'live', 'ended'];

/** What each column is sorted by. Whoever has no value stands last either way. */
const SORTS = {
  route: (topic) => topic.route,
  topic: (topic) => topic.topic,
  phase: (topic) => PHASES.indexOf(topic.phase),
  subscribers: (topic) => topic.subscribers,
  age: (topic) => topic.age_seconds,
  pace: (topic) => topic.pace_seconds,
  status: (topic) => topic.status
};

/** The values last seen, oldest first. */
const valuesOf = (topic) => topic.values ?? [];

export class Topics {
  #sort = { by: 'subscribers', isDescending: true };
  #rows;
  #table;
  #note;
  #said;
  #search;
  #phase;
  #latest = { total: 0, listed: [] };

  constructor(section) {
    this.#table = section.querySelector('table');
    this.#note = section.querySelector('.note');
    this.#said = section.querySelector('[role=status]');
    this.#search = section.querySelector('input');
    this.#phase = section.querySelector('select');
    this.#rows = new Rows(this.#table, [
      { isHead: true, style: 'route', text: (topic) => topic.route },
      { style: 'code', text: (topic) => topic.topic },
      { style: 'phase', text: (topic) => topic.phase, tone: (topic) => topic.phase },
      counts(count, (topic) => topic.subscribers),
      { isNumber: true, text: (topic) => seconds(topic.age_seconds) },
      { isNumber: true, text: (topic) => (topic.pace_seconds == null ? 'stream' : seconds(topic.pace_seconds)) },
      { style: 'code', text: (topic) => topic.status_field ?? NONE },
      { style: 'status', text: (topic) => topic.status ?? NONE, title: (topic) => topic.status },
      { style: 'values', fill: fillValues }
    ], section.querySelector('.none'));
    for (const button of this.#table.querySelectorAll('button[data-sort]')) {
      button.addEventListener('click', () => this.#sortBy(button.dataset.sort));
    }
    for (const control of [this.#search, this.#phase]) {
      control.addEventListener('input', () => {
        this.#show();
        this.#said.textContent = `${many(this.#filtered().length, 'topic')} found`;
      });
    }
  }

  show(topics) {
    this.#latest = { total: topics?.total ?? 0, listed: topics?.listed ?? [] };
    this.#show();
  }

  #sortBy(by) {
    const isNumber = ['subscribers', 'age', 'pace'].includes(by);
    const isSame = this.#sort.by === by;
    this.#sort = { by, isDescending: isSame ? !this.#sort.isDescending : isNumber };
    this.#show();
  }

  #filtered() {
    const words = this.#search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const phase = this.#phase.value;
    return this.#latest.listed.filter((topic) => {
      if (phase && topic.phase !== phase) return false;
      if (!words.length) return true;
      const text = [topic.route, topic.topic, topic.phase, topic.status, topic.status_field, ...valuesOf(topic)]
        .join('\n').toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  #show() {
    const { by, isDescending } = this.#sort;
    for (const head of this.#table.tHead.querySelectorAll('th[data-by]')) {
      const isIt = head.dataset.by === by;
      mark(head, 'aria-sort', isIt ? (isDescending ? 'descending' : 'ascending') : null);
    }
    const found = this.#filtered();
    const value = SORTS[by];
    found.sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      if (one == null || other == null) return (one == null) - (other == null) || tie(a, b);
      const order = typeof one === 'string' ? one.localeCompare(other) : one - other;
      return (isDescending ? -order : order) || tie(a, b);
    });
    this.#rows.show(found.slice(0, SHOWN_MAX), (topic) => `${topic.route} ${topic.topic}`);
    write(this.#note, this.#noted(found.length));
  }

  #noted(found) {
    const { total, listed } = this.#latest;
    const isCut = total > listed.length;
    const of = isCut ? `the ${count(listed.length)} with most subscribers, of ${count(total)}` : many(total, 'topic');
    if (found < listed.length) return `${count(found)} found among ${of}.`;
    return found > SHOWN_MAX ? `The first ${SHOWN_MAX} of ${of}.` : `${of[0].toUpperCase()}${of.slice(1)}.`;
  }
}

/** Equal rows keep their places, or they would jump each second. */
const tie = (a, b) => (a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : 0);

/** The last values as a path, the newest at its end. */
function fillValues(cell, topic) {
  const values = valuesOf(topic);
  values.forEach((value, n) => {
    let chip = cell.children[n];
    if (!chip) cell.append((chip = document.createElement('span')));
    write(chip, String(value));
  });
  while (cell.children.length > values.length) cell.lastElementChild.remove();
}
