// Tables that change every second: only what is different is written, and rows keep their identity.

/** Writes a text into an element that holds nothing else, if it is another. */
export function write(element, text) {
  const node = element.firstChild;
  if (!node) element.append(text);
  else if (node.data !== text) node.data = text;
}

/** Sets or takes away an attribute, if that changes anything. */
export function mark(element, name, value) {
  if (value == null || value === '') {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/**
 * The body of a table. A column says what its cells hold: `text(row)`, and beside it `isNumber`, `isHead`,
 * `tone(row)`, `title(row)`; or it fills them by itself with `fill(cell, row)`.
 */
export class Rows {
  #body;
  #columns;
  #rows = new Map();
  #none;

  /** `none` is shown instead of the table when there are no rows. */
  constructor(table, columns, none) {
    this.#body = table.tBodies[0] ?? table.createTBody();
    this.#columns = columns;
    this.#none = none;
  }

  /** Shows the list, each row under the name that `key` gives it. */
  show(list, key) {
    const rows = new Map();
    for (const row of list) {
      // Two clients behind one proxy may have the same name here.
      let name = key(row);
      while (rows.has(name)) name += "'";
      rows.set(name, row);
    }
    for (const [name, element] of this.#rows) {
      if (!rows.has(name)) {
        element.remove();
        this.#rows.delete(name);
      }
    }
    let next = this.#body.firstElementChild;
    for (const [name, row] of rows) {
      let element = this.#rows.get(name);
      if (!element) this.#rows.set(name, (element = this.#made()));
      this.#columns.forEach((column, n) => this.#fill(element.children[n], column, row));
      if (element === next) next = next.nextElementSibling;
      else this.#body.insertBefore(element, next);
    }
    if (this.#none) {
      this.#none.hidden = rows.size > 0;
      this.#body.parentElement.hidden = rows.size === 0;
    }
  }

  #made() {
    const element = document.createElement('tr');
    for (const column of this.#columns) {
      const cell = document.createElement(column.isHead ? 'th' : 'td');
      if (column.isHead) cell.scope = 'row';
      cell.className = [column.isNumber ? 'number' : '', column.style ?? ''].join(' ').trim();
      element.append(cell);
    }
    return element;
  }

  #fill(cell, column, row) {
    if (column.fill) return column.fill(cell, row);
    write(cell, column.text(row));
    if (column.tone) mark(cell, 'data-tone', column.tone(row));
    if (column.title) mark(cell, 'title', column.title(row));
  }
}

/** A column of counts in which zeros stand back and what is wrong stands out. */
export function counts(text, value, isFault = false) {
  const tone = (row) => (value(row) > 0 ? (isFault ? 'bad' : '') : 'zero');
  return { isNumber: true, text: (row) => text(value(row)), tone };
}

/** Writes the heads of a table whose columns, all but the first of numbers, come with the figures. Says whether it had to. */
export function heads(table, names) {
  const row = table.tHead.rows[0];
  if (row.dataset.names === names.join('\n')) return false;
  row.dataset.names = names.join('\n');
  row.replaceChildren(
    ...names.map((name, n) => {
      const cell = document.createElement('th');
      cell.scope = 'col';
      cell.textContent = name;
      if (n > 0) cell.className = 'number';
      return cell;
    })
  );
  return true;
}
