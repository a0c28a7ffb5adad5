// A chart over time: its frame, its axes, and how it is read by pointer and keyboard. What is drawn inside is a plot's.
import { SPAN_S } from './history.js';
import { NONE, clock } from './words.js';
import { mark, write } from './table.js';

/** The spans a chart shows, in seconds: the shortest that holds everything, so that a young page is not empty. */
const SPANS_S = [60, 120, 180, 300, 420, SPAN_S];
/** Room below the plot for the times. */
const FOOT = 20;
/** Room left of it for the values. */
const SIDE = 54;
/** The least distance between two times on the axis, in pixels. */
const TICK_APART = 62;
/** The most that one character of a time is wide, in pixels. */
const DIGIT = 7;
const TICKS_S = [10, 15, 30, 60, 120, 300];

/** Makes an SVG element; attributes only, as the page may have no inline styles. */
export function svg(name, attributes = {}) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Where the reader points to, in all charts alike; `time` is NaN while nobody points. */
export class Cursor {
  time = NaN;
  #listeners = [];

  onMove(listener) {
    this.#listeners.push(listener);
  }

  move(time) {
    if (Object.is(time, this.time)) return;
    this.time = time;
    for (const listener of this.#listeners) listener();
  }
}

export class Chart {
  #history;
  #cursor;
  #plot;
  #now = NaN;
  #width = 0;
  /** Where the pointer is, in pixels; the time below it moves on. */
  #pointer = null;
  #title;
  #parts;

  /** `plot` has `names()`, `height(width)`, `draw(scale)`, `read(place)` and `layer`, its SVG group. */
  constructor(figure, title, plot, history, cursor) {
    this.#history = history;
    this.#cursor = cursor;
    this.#plot = plot;
    this.#title = title;
    this.#parts = this.#made(figure);
    cursor.onMove(() => this.#read());
    new ResizeObserver(([entry]) => {
      this.#width = Math.floor(entry.contentRect.width);
      this.draw(this.#now);
    }).observe(this.#parts.box);
  }

  #made(figure) {
    const caption = document.createElement('figcaption');
    const heading = document.createElement('h3');
    heading.textContent = this.#title;
    const when = document.createElement('span');
    when.className = 'when';
    caption.append(heading, when);
    const box = document.createElement('div');
    box.className = 'plot';
    for (const [name, value] of Object.entries({
      role: 'slider', tabindex: 0, 'aria-label': `${this.#title}, over time`, 'aria-orientation': 'horizontal',
      'aria-valuemin': -SPAN_S, 'aria-valuemax': 0, 'aria-valuenow': 0, 'aria-valuetext': 'now'
    })) {
      box.setAttribute(name, value);
    }
    const picture = svg('svg', { 'aria-hidden': true, focusable: false });
    const grid = svg('g', { class: 'grid' });
    const holes = svg('g', { class: 'holes' });
    const line = svg('line', { class: 'cursor', visibility: 'hidden' });
    picture.append(holes, grid, this.#plot.layer, line);
    box.append(picture);
    figure.append(caption);
    if (this.#plot.legend) figure.append(this.#plot.legend);
    figure.append(box);
    box.addEventListener('pointermove', (event) => this.#point(event));
    box.addEventListener('pointerdown', (event) => this.#point(event));
    box.addEventListener('pointerleave', () => this.#leave());
    box.addEventListener('keydown', (event) => this.#key(event));
    box.addEventListener('blur', () => this.#leave());
    return { when, box, picture, grid, holes, line };
  }

  /** Draws everything as of `now`. */
  draw(now) {
    this.#now = now;
    if (!this.#width || !Number.isFinite(now)) return;
    const { picture, holes, grid } = this.#parts;
    const height = this.#plot.height();
    mark(picture, 'width', this.#width);
    mark(picture, 'height', height + FOOT);
    const scale = this.#scale();
    const lines = this.#plot.draw(scale, height);
    this.#drawGrid(grid, scale, height, lines);
    this.#drawHoles(holes, scale, height);
    if (this.#pointer !== null) this.#cursor.move(this.#history.nearest(scale.time(this.#pointer))?.time ?? NaN);
    this.#read();
  }

  /** From times to pixels and back; the newest figures are at the right edge. */
  #scale() {
    const age = (this.#now - this.#history.first) / 1000;
    const span = (SPANS_S.find((span) => age <= span) ?? SPAN_S) * 1000;
    const [from, width] = [this.#now - span, this.#width - SIDE];
    return {
      from, to: this.#now, left: SIDE, right: this.#width,
      x: (time) => SIDE + ((time - from) / span) * width,
      time: (x) => from + ((x - SIDE) / width) * span
    };
  }

  #drawGrid(grid, scale, height, lines) {
    const span = (scale.to - scale.from) / 1000;
    const room = (scale.right - scale.left) / TICK_APART;
    const every = (TICKS_S.find((tick) => span / tick <= room) ?? TICKS_S.at(-1)) * 1000;
    const wanted = [];
    for (const { y, text } of lines) {
      wanted.push(['line', { x1: scale.left, x2: scale.right, y1: y, y2: y }]);
      if (text) wanted.push(['text', { x: scale.left - 8, y: y + 4, 'text-anchor': 'end' }, text]);
    }
    for (let time = Math.ceil(scale.from / every) * every; time <= scale.to; time += every) {
      const x = scale.x(time);
      const text = every < 60_000 ? clock(time) : clock(time).slice(0, 5);
      // A time that would be cut at the edge is left out.
      const half = (text.length * DIGIT) / 2;
      if (x < scale.left + half || x > scale.right - half) continue;
      wanted.push(['line', { x1: x, x2: x, y1: height, y2: height + 4 }]);
      wanted.push(['text', { x, y: height + 16, 'text-anchor': 'middle' }, text]);
    }
    reuse(grid, wanted);
  }

  /** Hatches the times of which nothing is known, and marks where another process began. */
  #drawHoles(group, scale, height) {
    const wanted = [];
    let before = NaN;
    const hole = (from, to) => {
      const x = Math.max(scale.left, scale.x(from));
      const width = scale.x(to) - x;
      if (width > 1) wanted.push(['rect', { x, y: 0, width, height, fill: 'url(#hatch)' }]);
    };
    this.#history.each(-Infinity, (time, _, broken) => {
      if (broken && time > scale.from && time - before > 1_500) hole(before, time);
      if (broken === 'restart' && time > scale.from) {
        const x = scale.x(time);
        wanted.push(['line', { x1: x, x2: x, y1: 0, y2: height, class: 'restart' }]);
        const isLeft = x < (scale.left + scale.right) / 2;
        wanted.push(['text', { x: x + (isLeft ? 5 : -5), y: 10, 'text-anchor': isLeft ? 'start' : 'end' }, 'restart']);
      }
      before = time;
    });
    if (this.#history.isLost) hole(before, scale.to);
    reuse(group, wanted);
  }

  /** Shows the values at the cursor, or the newest. */
  #read() {
    if (!Number.isFinite(this.#now)) return;
    const { when, box, line } = this.#parts;
    const isPointed = Number.isFinite(this.#cursor.time);
    const at = this.#history.nearest(isPointed ? this.#cursor.time : this.#history.last);
    this.#plot.read(at?.place);
    const scale = this.#width ? this.#scale() : null;
    const x = isPointed && scale ? scale.x(this.#cursor.time) : NaN;
    const isShown = x >= scale?.left;
    mark(line, 'visibility', isShown ? 'visible' : 'hidden');
    if (isShown) {
      for (const [name, value] of Object.entries({ x1: x, x2: x, y1: 0, y2: this.#plot.height() })) {
        mark(line, name, value);
      }
    }
    write(when, isPointed && at ? clock(at.time) : this.#history.isLost ? `last at ${clock(this.#history.last)}` : 'now');
    // Only for who reads with the keyboard: what changes by itself each second would never let a screen reader finish.
    if (document.activeElement === box) {
      const values = this.#plot.names().map(({ label, value }) => `${label} ${value}`);
      mark(box, 'aria-valuenow', isPointed && at ? Math.round((at.time - this.#now) / 1000) : 0);
      mark(box, 'aria-valuetext', [isPointed && at ? clock(at.time) : 'now', ...values].join(', ') || NONE);
    }
  }

  #point(event) {
    this.#pointer = event.clientX - this.#parts.box.getBoundingClientRect().left;
    const found = this.#history.nearest(this.#scale().time(Math.max(SIDE, this.#pointer)));
    this.#cursor.move(found?.time ?? NaN);
  }

  #leave() {
    this.#pointer = null;
    this.#cursor.move(NaN);
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -30, PageUp: 30 }[event.key];
    const from = Number.isFinite(this.#cursor.time) ? this.#cursor.time : this.#history.last;
    if (event.key === 'Escape') this.#leave();
    else if (event.key === 'Home') this.#cursor.move(this.#history.step(from, -Infinity));
    else if (event.key === 'End') this.#cursor.move(this.#history.last);
    else if (steps) this.#cursor.move(this.#history.step(from, steps * (event.shiftKey ? 10 : 1)));
    else return;
    this.#pointer = null;
    event.preventDefault();
  }
}

/** Makes the children of a group be those wanted, changing what is there where it can. */
function reuse(group, wanted) {
  wanted.forEach(([name, attributes, text], n) => {
    let element = group.children[n];
    if (element?.localName !== name) {
      const fresh = svg(name);
      if (element) element.replaceWith(fresh);
      else group.append(fresh);
      element = fresh;
    }
    if (element.hasAttribute('class') && !attributes.class) element.removeAttribute('class');
    for (const [key, value] of Object.entries(attributes)) {
      mark(element, key, typeof value === 'number' ? Math.round(value * 10) / 10 : value);
    }
    if (text !== undefined) write(element, text);
  });
  while (group.children.length > wanted.length) group.lastElementChild.remove();
}
