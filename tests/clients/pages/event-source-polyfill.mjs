// npm `event-source-polyfill`: its own EventSource over fetch, also where the browser has one.
import './node_modules/event-source-polyfill/src/eventsource.js';
import { listen } from './native.mjs';

export function watch(path) {
  const { EventSourcePolyfill } = globalThis;
  listen(new EventSourcePolyfill(path), EventSourcePolyfill.CLOSED);
}
