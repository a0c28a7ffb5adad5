// What stands inside a chart: lines on one scale, or lanes of bars with a scale each.
import { svg } from './chart.js';
import { mark, write } from './table.js';
import { short } from './words.js';

const LINES_HEIGHT = 132;
const LANE = 36;
/** The part of a lane that its bars may fill; its name stands above them. */
const BARS = 18;

/** The end of a scale: not below `most`, and half of it is a round number too. */
export function ceiling(most, least) {
  const value = Math.max(most, least);
  const power = 10 ** Math.floor(Math.log10(value));
  // Streams are whole: half of a few of them is, too.
  const steps = value >= 1 && value < 10 ? [2, 4, 6, 8, 10] : [1.2, 1.6, 2, 3, 4, 5, 6, 8, 10];
  return steps.map((step) => step * power).find((step) => step >= value * 0.9999) ?? value;
}

const point = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** Lines of gauges. `lines` are `{label, name, dash}`; of a sparse series missing values are skipped, not gaps. */
export class Lines {
  layer = svg('g');
  legend = document.createElement('ul');
  #lines;
  #history;
  #options;

  constructor(lines, history, { format, axis, least = 2, isSparse = false, hasArea = false }) {
    this.#history = history;
    this.#options = { format, axis, least, isSparse, hasArea };
    this.legend.className = 'legend';
    this.#lines = lines.map((line, n) => this.#made(line, n));
  }

  #made(line, n) {
    const path = svg('path', { class: `line hue-${n + 1}`, 'stroke-dasharray': line.dash ?? 'none' });
    const area = svg('path', { class: `area hue-${n + 1}` });
    this.layer.append(area, path);
    const item = document.createElement('li');
    const swatch = svg('svg', { class: 'swatch', width: 18, height: 8, 'aria-hidden': true });
    swatch.append(svg('path', { class: `line hue-${n + 1}`, d: 'M0 4H18', 'stroke-dasharray': line.dash ?? 'none' }));
    const value = document.createElement('b');
    const name = document.createElement('span');
    name.textContent = line.label;
    item.append(swatch, name, value);
    this.legend.append(item);
    return { ...line, path, area, value, item };
  }

  height = () => LINES_HEIGHT;

  names = () => this.#lines.filter(({ item }) => !item.hidden)
    .map(({ label, value }) => ({ label, value: value.textContent }));

  draw(scale, height) {
    const { format, axis, least } = this.#options;
    let most = 0;
    for (const line of this.#lines) {
      line.ring = this.#history.ring(line.name());
      line.item.hidden = !line.ring && this.#lines.length > 1;
      if (line.ring) this.#history.each(scale.from, (_, place) => (most = Math.max(most, line.ring[place] || 0)));
    }
    const top = ceiling(most, least);
    const y = (value) => height - (value / top) * (height - 8);
    for (const line of this.#lines) {
      const runs = line.ring ? this.#runs(line.ring, scale, y) : [];
      mark(line.path, 'd', runs.map((run) => `M${run.join('L')}${run.length === 1 ? 'h0' : ''}`).join(''));
      if (this.#options.hasArea) {
        const x = (text) => text.split(' ')[0];
        mark(line.area, 'd', runs.map((run) => `M${x(run[0])} ${height}L${run.join('L')}V${height}Z`).join(''));
      }
    }
    return [0, top / 2, top].map((value) => ({ y: Math.round(y(value)) + 0.5, text: (axis ?? format)(value) }));
  }

  /** The points of each unbroken run. */
  #runs(ring, scale, y) {
    const runs = [];
    let run = [];
    // One moment before the left edge too, or the line would begin inside.
    this.#history.each(scale.from - 1_100, (time, place, broken) => {
      const value = ring[place];
      if (broken || (Number.isNaN(value) && !this.#options.isSparse)) {
        if (run.length) runs.push(run);
        run = [];
      }
      if (!Number.isNaN(value)) run.push(point(Math.max(scale.left, scale.x(time)), y(value)));
    });
    if (run.length) runs.push(run);
    return runs;
  }

  read(place) {
    for (const { ring, value } of this.#lines) write(value, this.#options.format(ring?.[place] ?? NaN));
  }
}

/**
 * Lanes of what happens per second, one under the other, each named and on a scale of its own: what is rare would not
 * be seen beside what is frequent. A lane that is not `isKept` appears when something first happens.
 */
export class Lanes {
  layer = svg('g');
  #lanes = new Map();
  #wanted;
  #history;
  #format;

  /** `wanted()` gives the lanes as `{label, name, tone, isKept}`. */
  constructor(wanted, history, format) {
    this.#wanted = wanted;
    this.#history = history;
    this.#format = format;
  }

  height = () => Math.max(LINES_HEIGHT, this.#shown().length * LANE);

  names = () => this.#shown().map(({ label, value }) => ({ label, value: `${value.textContent} per second` }));

  #shown = () => [...this.#lanes.values()];

  draw(scale) {
    const lanes = this.#wanted().map((lane) => ({ ...lane, ring: this.#history.ring(lane.name) }));
    for (const lane of lanes) {
      let most = 0;
      if (lane.ring) this.#history.each(-Infinity, (_, place) => (most = Math.max(most, lane.ring[place] || 0)));
      if (lane.isKept || most > 0) this.#lane(lane, most);
    }
    // In the order of the list, whenever they have come.
    const order = new Map(lanes.map((lane, n) => [lane.label, n]));
    const shown = this.#shown().sort((a, b) => order.get(a.label) - order.get(b.label));
    shown.forEach((lane, n) => this.#drawLane(lane, n * LANE, scale));
    return shown.map((_, n) => ({ y: (n + 1) * LANE - 0.5, text: '' }));
  }

  #lane(lane, most) {
    let known = this.#lanes.get(lane.label);
    if (!known) {
      const group = svg('g', { class: `lane ${lane.tone ?? ''}` });
      const name = svg('text', { class: 'name' });
      const value = svg('text', { class: 'value', 'text-anchor': 'end' });
      const peak = svg('text', { class: 'peak' });
      const bars = svg('path', { class: 'bars' });
      name.textContent = (lane.tone === 'bad' ? '▲ ' : '') + lane.label;
      group.append(bars, name, peak, value);
      this.layer.append(group);
      known = { label: lane.label, value, peak, bars, name };
      this.#lanes.set(lane.label, known);
    }
    Object.assign(known, { ring: lane.ring, most });
  }

  #drawLane(lane, top, scale) {
    const base = top + LANE - 1;
    mark(lane.name, 'x', 0);
    mark(lane.name, 'y', top + 12);
    mark(lane.peak, 'x', 0);
    mark(lane.peak, 'y', base - 6);
    mark(lane.value, 'x', scale.right);
    mark(lane.value, 'y', top + 12);
    write(lane.peak, lane.most > 0 ? `max ${short(lane.most)}` : 'none');
    const columns = new Map();
    if (lane.ring && lane.most > 0) {
      // Several seconds may share a pixel; the greatest of them is drawn.
      this.#history.each(scale.from, (time, place) => {
        const value = lane.ring[place];
        const x = Math.floor(scale.x(time));
        if (value > 0) columns.set(x, Math.max(columns.get(x) ?? 0, value));
      });
    }
    const width = Math.max(1, Math.ceil((scale.right - scale.left) / ((scale.to - scale.from) / 1000)) - 1);
    let path = '';
    for (const [x, value] of columns) {
      // What happened once must be seen, too.
      const height = Math.max(2, (value / lane.most) * BARS);
      path += `M${Math.max(scale.left, x - width)} ${base}v${-height.toFixed(1)}h${width}V${base}z`;
    }
    mark(lane.bars, 'd', path);
  }

  read(place) {
    for (const { ring, value } of this.#lanes.values()) write(value, this.#format(ring?.[place] ?? NaN));
  }
}

/** One small line for a row of a table. */
export function sparkline(cell, ring, history) {
  const [width, height] = [96, 20];
  let picture = cell.firstElementChild;
  if (!picture) {
    picture = svg('svg', { class: 'sparkline', width, height, 'aria-hidden': true });
    picture.append(svg('path', { class: 'line hue-1' }));
    cell.append(picture);
  }
  let [most, path, isOn] = [1, '', false];
  const [from, to] = [Math.max(history.first, history.last - 600_000), history.last];
  if (ring) history.each(from, (_, place) => (most = Math.max(most, ring[place] || 0)));
  history.each(from, (time, place, broken) => {
    const value = ring?.[place];
    if (!(value >= 0)) return (isOn = false);
    const x = to > from ? ((time - from) / (to - from)) * width : width;
    path += `${isOn && !broken ? 'L' : 'M'}${point(x, height - 1.5 - (value / most) * (height - 3))}`;
    isOn = true;
  });
  mark(picture.firstElementChild, 'd', path);
}
