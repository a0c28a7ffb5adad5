// One browser tab with one stream, on a socket of its own. It is made of `node:http`, because `fetch` takes a reset of
// a close-delimited answer for a clean end, and has no way to send one.
import { request } from 'node:http';

/** What happened to the tabs against their will, and what reached them. */
export const newTally = () => ({ opened: 0, spoke: 0, cut: 0, refused: 0 });

/** Chromium comes back after 3 s; the proof runs its clocks faster. */
const RETRY_MS = 300;

export class Tab {
  #gone = false;
  #request = null;
  #hasMessage;

  /** Opens the stream; a tab that stays opens it again whenever somebody else ended it. */
  constructor(tally, origin, path, session, { stays = false } = {}) {
    Object.assign(this, { tally, url: origin + path, session, stays });
    /** Resolves with the first message, or when the tab will never see one. */
    this.firstMessage = new Promise((resolve) => (this.#hasMessage = resolve));
    this.#open();
  }

  /** Opens a stream and leaves as soon as the request is out. */
  static leaveBeforeTheFirstByte(tally, origin, path, session) {
    const tab = new Tab(tally, origin, path, session);
    tab.#request.once('socket', (socket) => {
      socket.once('connect', () => tab.#request.once('finish', () => setImmediate(() => tab.leave())));
    });
  }

  /** Closes the stream the orderly way: FIN. */
  leave() {
    this.#gone = true;
    this.#request.destroy();
  }

  /** Closes it the hard way: RST, as an operating system does for a process that crashed. */
  reset() {
    this.#gone = true;
    this.#request.socket?.resetAndDestroy();
    this.#request.destroy();
  }

  #open() {
    const headers = { accept: 'text/event-stream', cookie: `session=${this.session}` };
    let isStream = false;
    let isOver = false;
    let hasMessage = false;
    this.tally.opened += 1;
    const over = () => {
      if (isOver || this.#gone) return this.#hasMessage();
      isOver = true;
      this.tally[isStream ? 'cut' : 'refused'] += 1;
      if (this.stays) setTimeout(() => this.#gone || this.#open(), RETRY_MS);
      else this.#hasMessage();
    };
    this.#request = request(this.url, { agent: false, headers }, (response) => {
      isStream = response.statusCode === 200;
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (text) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop();
        if (hasMessage || !isStream || !lines.some((line) => line.startsWith('data:'))) return;
        hasMessage = true;
        this.tally.spoke += 1;
        this.#hasMessage();
      });
      response.on('error', over);
      response.on('close', over);
    });
    this.#request.on('error', over);
    this.#request.end();
  }
}
