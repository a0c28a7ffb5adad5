// npm `reconnecting-eventsource` around the browser's EventSource. Listeners, not `onmessage`: the library remembers the
// last event id of what its listeners get, and of nothing else.
import ReconnectingEventSource from './node_modules/reconnecting-eventsource/build/esm/reconnecting-eventsource.js';
import { listen } from './native.mjs';

export function watch(path) {
  const source = new ReconnectingEventSource(path);
  source.onopen = () => say({ saw: 'open' });
  listen(source, 2);
}
