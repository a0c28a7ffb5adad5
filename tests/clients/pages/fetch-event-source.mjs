// npm `@microsoft/fetch-event-source` with its defaults: no `onopen`, no throw in `onclose` or `onerror`.
import { fetchEventSource } from './node_modules/@microsoft/fetch-event-source/lib/esm/index.js';

export async function watch(path) {
  await fetchEventSource(path, {
    onmessage: (event) => say({ saw: 'message', event: event.event || 'message', id: event.id, data: event.data }),
    onerror: (error) => void say({ saw: 'error', closed: false, text: String(error) }),
  });
  say({ saw: 'end' });
}
