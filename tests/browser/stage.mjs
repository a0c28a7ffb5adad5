// What the dashboard is tried on: a scripted app, clients by the thousand, and a tab that notes what goes wrong in it.
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { eventually } from '../churn/parts.mjs';

/** An app whose jobs run until they are told to end, and whose streams are cut in the middle of an event. */
export class Scripted {
  #ended = new Set();
  #odd = new Set();

  static async start() {
    const app = new Scripted();
    app.server = createServer((request, response) => app.#answer(request, response));
    await new Promise((resolve) => app.server.listen(0, '127.0.0.1', resolve));
    app.origin = `http://127.0.0.1:${app.server.address().port}`;
    return app;
  }

  end = (id) => this.#ended.add(id);
  puzzle = (id) => this.#odd.add(id);

  #answer(request, response) {
    const [path] = request.url.split('?');
    if (path === '/cut') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: whole\n\ndata: ha', () => setTimeout(() => response.destroy(), 20));
      return;
    }
    const id = path.split('/').pop();
    const status = this.#ended.has(id) ? 'completed' : this.#odd.has(id) ? 'pondering' : 'processing';
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ id, status, progress: 10 }));
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** A client of a stream: no more than a socket, as there are to be thousands. Its first event has come when it is there. */
export function watch(origin, target, headers = {}) {
  const { hostname, port } = new URL(origin);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let seen = '';
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
    socket.on('connect', () => {
      socket.write(`GET ${target} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nAccept: text/event-stream\r\nConnection: close\r\n${lines}\r\n`);
    });
    socket.on('data', (bytes) => {
      if (seen.length > 4_000) return;
      seen += bytes.toString('latin1');
      if (/\ndata: .*\n/.test(seen)) resolve(socket);
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`${target} was closed after ${JSON.stringify(seen)}`)));
  });
}

/** Does `task(n)` for every n below `count`, some at a time. */
export async function each(count, atOnce, task) {
  let next = 0;
  const results = [];
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (next < count) {
      const n = next++;
      results[n] = await task(n);
    }
  }));
  return results;
}

/** Opens the dashboard in a tab of its own, and collects errors and broken rules of the page. */
export async function openDashboard(browser, origin, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const tab = await context.newPage();
  tab.faults = [];
  tab.on('pageerror', (error) => tab.faults.push(String(error)));
  tab.on('console', (message) => message.type() === 'error' && tab.faults.push(message.text()));
  await tab.addInitScript(() => {
    globalThis.broken = [];
    document.addEventListener('securitypolicyviolation', (event) => globalThis.broken.push(event.violatedDirective));
    globalThis.longTasks = [];
    new PerformanceObserver((list) => globalThis.longTasks.push(...list.getEntries().map((it) => Math.round(it.duration))))
      .observe({ type: 'longtask', buffered: true });
  });
  await tab.goto(origin);
  await tab.locator('#figures').waitFor();
  return tab;
}

/** The number on a tile. */
export async function figure(tab, name) {
  const text = await tab.locator(`#figure-${name} .value`).textContent();
  return Number(text.replaceAll(',', ''));
}

/** Waits until the page has taken `more` further sets of figures, as its time of running goes on. */
export async function updates(tab, more = 2) {
  let before = await tab.locator('#fact-up').textContent();
  for (let n = 0; n < more; n += 1) {
    before = await eventually('the page to go on', async () => {
      const now = await tab.locator('#fact-up').textContent();
      return now !== before && now;
    });
  }
}
