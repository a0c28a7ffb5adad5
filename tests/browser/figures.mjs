// The figures on the page beside those of /metrics: each number of the tiles and tables, by the name of its series.
import assert from 'node:assert/strict';
import { eventually } from '../churn/parts.mjs';

/** Every figure that is in both, in one look at each; a second one, until they agree: the page is a second behind. */
export async function figuresAreThoseOfTheMetrics(tab, side) {
  let last = {};
  await eventually('the page to say what /metrics says', async () => {
    const before = await metrics(side);
    const shown = await shownFigures(tab);
    const after = await metrics(side);
    const both = ([name, value]) => [name, { shown: value, counted: counted(name, after) }];
    last = Object.fromEntries(Object.entries(shown).map(both));
    return Object.entries(last).every(([name, it]) => it.shown === it.counted && it.counted === counted(name, before));
  }).catch((error) => {
    const wrong = Object.entries(last).filter(([, it]) => it.shown !== it.counted);
    throw new Error(`${error.message}: ${JSON.stringify(Object.fromEntries(wrong))}`);
  });
  const names = Object.keys(last);
  for (const part of ['figure ', 'ends ', 'faults ', 'requests ', 'routes ']) {
    assert.ok(names.filter((name) => name.startsWith(part)).length >= 4, `${part} was compared: ${names}`);
  }
}

/** The numbers on the page: `figure NAME`, and `TABLE ROW COLUMN` as they are called there. */
const shownFigures = (tab) => tab.evaluate(() => {
  const number = (text) => Number(text.replaceAll(',', ''));
  const found = {};
  for (const tile of document.querySelectorAll('[id^=figure-]:not([hidden])')) {
    found[`figure ${tile.id.slice(7)}`] = number(tile.querySelector('.value').textContent);
  }
  for (const id of ['routes', 'ends', 'faults', 'requests']) {
    const columns = [...document.querySelectorAll(`#${id} thead th`)].map((it) => it.textContent);
    for (const row of document.querySelectorAll(`#${id} tbody tr`)) {
      columns.forEach((column, n) => {
        const value = number(row.children[n].textContent);
        if (n > 0 && row.children[n].textContent && !Number.isNaN(value)) {
          found[`${id} ${row.children[0].textContent} ${column}`] = value;
        }
      });
    }
  }
  return found;
});

/** The samples of /metrics as `[name, labels, value]`. */
async function metrics(side) {
  const lines = (await (await fetch(`${side.admin}/metrics`)).text()).split('\n');
  return lines.map((line) => line.match(/^sidestream_(\w+)(?:\{(.*)\})? (\S+)$/)).filter(Boolean)
    .map(([, name, labels = '', value]) => [name, labels, Number(value)]);
}

/** Where each tile stands in /metrics. */
const TILES = {
  active: 'connections_active', stale: 'connections_stale', topics: 'topics', asked: 'upstream_requests_total',
  spared: 'upstream_requests_spared_total', invalid: 'invalid_state_errors_total',
  violations: 'job_state_violations_total', rejected: 'connections_rejected_total'
};
/** Where each column of the table of routes does. */
const OF_ROUTES = { active: 'connections_active', stale: 'connections_stale' };

/** The number in /metrics that a number on the page should be. */
function counted(what, samples) {
  const [table, row, ...words] = what.split(' ');
  const column = words.join(' ');
  const sum = (name, ...labels) => {
    const found = samples.filter(([it, text]) => it === name && labels.every((label) => text.includes(label)));
    assert.ok(found.length, `${what} is not in /metrics as ${name} ${labels}`);
    return found.reduce((total, [, , value]) => total + value, 0);
  };
  const word = `"${column.replaceAll(' ', '_')}"`;
  if (table === 'figure' && row === 'asked') return sum(TILES.asked) - sum(TILES.asked, 'purpose="forward"');
  if (table === 'figure') return sum(TILES[row]);
  if (table === 'requests') return sum('upstream_requests_total', `purpose="${row}"`, `outcome=${word}`);
  const route = `route="${row}"`;
  // At rest each stream is a subscriber; but those that are passed through have no topic.
  if (table === 'routes' && column === 'subscribers') return row[0] === '/' ? sum(OF_ROUTES.active, route) : 0;
  if (table === 'routes') return sum(OF_ROUTES[column], route);
  const side = column.match(/^invalid state: (.*)/)?.[1];
  if (side) return sum('invalid_state_errors_total', route, `side="${side}"`);
  if (column === 'opened') return sum('connections_opened_total', route);
  return sum(table === 'ends' ? 'connections_closed_total' : 'job_state_violations_total', route, word);
}
