// `reconnecting-eventsource` as docs/clients.md advises to use it: closed by the app at `done`.
import ReconnectingEventSource from './node_modules/reconnecting-eventsource/build/esm/reconnecting-eventsource.js';
import { listen } from './native.mjs';

export function watch(path) {
  const source = new ReconnectingEventSource(path);
  listen(source, 2);
  source.addEventListener('done', () => {
    source.close();
    say({ saw: 'end' });
  });
}
