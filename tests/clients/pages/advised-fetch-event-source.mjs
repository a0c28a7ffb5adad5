// `@microsoft/fetch-event-source` as docs/clients.md advises to use it; between the marks the page shows the same lines.
import { EventStreamContentType, fetchEventSource } from './node_modules/@microsoft/fetch-event-source/lib/esm/index.js';

const show = (status) => say({ saw: 'message', event: 'message', id: '', data: JSON.stringify(status) });

export async function watch(url) {
  // --- shown
  class Over extends Error {}
  let over = false;
  await fetchEventSource(url, {
    async onopen(response) {
      if (response.ok && response.headers.get('content-type')?.startsWith(EventStreamContentType)) return;
      if (response.status !== 429 && response.status < 500) throw new Over(`status ${response.status}`); // 204 too
      throw new Error(`status ${response.status}`);
    },
    onmessage({ event, data }) {
      if (event === 'done') over = true;
      else if (event === '' && data) show(JSON.parse(data));
    },
    onclose() {
      if (!over) throw new Error('the stream ended, the job did not'); // the way to have it come back
    },
    onerror(error) {
      if (error instanceof Over) throw error; // the way to have it stay away
    },
  }).catch((error) => { if (!(error instanceof Over)) throw error; });
  // --- as far as here
  say({ saw: 'end' });
}
