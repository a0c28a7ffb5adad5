// The limits, and how much of each is used.
import { mark, write } from './table.js';
import { NEAR, limits } from './verdict.js';
import { count } from './words.js';

export class Limits {
  #section;
  #list;
  #template;
  #meters = new Map();

  constructor(section) {
    this.#section = section;
    this.#list = section.querySelector('ul');
    this.#template = section.querySelector('template');
  }

  show(stats) {
    const found = limits(stats);
    this.#section.hidden = !found.length;
    for (const { name, words, now, max, part } of found) {
      let meter = this.#meters.get(name);
      if (!meter) this.#meters.set(name, (meter = this.#made(words)));
      const text = max > 0 ? `${count(now)} of ${count(max)}` : `${count(now)}, no limit`;
      const percent = Math.min(100, part * 100);
      write(meter.text, text);
      mark(meter.fill, 'width', `${percent.toFixed(1)}%`);
      mark(meter.bar, 'aria-valuenow', Math.round(percent));
      mark(meter.bar, 'aria-valuetext', text);
      // All turns are taken for a moment whenever many polls fall due.
      const isFault = name !== 'polls';
      mark(meter.item, 'data-tone', !isFault || part < NEAR ? null : part >= 1 ? 'bad' : 'warn');
    }
  }

  #made(words) {
    const item = this.#template.content.firstElementChild.cloneNode(true);
    const [name, text, bar] = ['.limit-name', '.limit-text', '[role=meter]'].map((it) => item.querySelector(it));
    write(name, words);
    mark(bar, 'aria-label', words);
    this.#list.append(item);
    return { item, text, bar, fill: bar.querySelector('.fill') };
  }
}
