// The recommendations: what the figures suggest, what says so, and the line to change.
import { mark, write } from './table.js';

const HEADS = { warning: 'Warning', advice: 'Advice' };

export class Advice {
  #section;
  #list;
  #none;
  #said;
  #items = new Map();

  constructor(section) {
    this.#section = section;
    this.#list = section.querySelector('ol');
    this.#none = section.querySelector('.none');
    this.#said = section.querySelector('[role=status]');
  }

  /** Shows the list in its order; a program that has none to give says nothing here. */
  show(list) {
    this.#section.hidden = !list;
    if (!list) return;
    const keys = list.map((it) => `${it.rule} ${it.route ?? ''}`);
    for (const [key, item] of this.#items) {
      if (!keys.includes(key)) {
        item.element.remove();
        this.#items.delete(key);
      }
    }
    list.forEach((it, n) => {
      let item = this.#items.get(keys[n]);
      if (!item) this.#items.set(keys[n], (item = this.#made()));
      mark(item.element, 'data-severity', it.severity === 'warning' ? 'warning' : 'advice');
      write(item.severity, HEADS[it.severity] ?? it.severity);
      write(item.title, it.title);
      write(item.evidence, it.evidence);
      write(item.change, it.change ?? '');
      item.code.hidden = !it.change;
      write(item.route, it.route ?? '');
      item.route.hidden = !it.route;
      // Moving an element takes the focus from what is in it.
      if (this.#list.children[n] !== item.element) this.#list.insertBefore(item.element, this.#list.children[n] ?? null);
    });
    this.#none.hidden = list.length > 0;
  }

  #made() {
    const make = (name, style) => Object.assign(document.createElement(name), { className: style });
    const [element, head, title] = [make('li', 'advice'), make('p', 'advice-head'), make('h3', '')];
    const [severity, route, evidence] = [make('span', 'severity'), make('code', 'route'), make('p', 'evidence')];
    const [code, change, copy] = [make('div', 'change'), make('code', ''), make('button', '')];
    copy.type = 'button';
    copy.textContent = 'Copy';
    copy.addEventListener('click', () => this.#copy(change, copy));
    head.append(severity, route);
    code.append(change, copy);
    element.append(head, title, evidence, code);
    return { element, severity, route, title, evidence, code, change };
  }

  async #copy(change, button) {
    try {
      await navigator.clipboard.writeText(change.textContent);
      this.#tell(button, 'Copied');
    } catch {
      // Browsers have no clipboard for pages from elsewhere than this machine without TLS; what is selected, a key copies.
      getSelection().selectAllChildren(change);
      this.#tell(button, 'Selected');
    }
  }

  #tell(button, word) {
    button.textContent = word;
    this.#said.textContent = word;
    setTimeout(() => {
      button.textContent = 'Copy';
      this.#said.textContent = '';
    }, 2_000);
  }
}
