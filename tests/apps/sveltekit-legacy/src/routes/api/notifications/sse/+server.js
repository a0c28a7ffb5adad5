import { counters, setCountedInterval } from '$lib/server/counters.js';
import { roundTrip } from '$lib/server/videos.js';

const NOTIFY_MS = Number(process.env.NOTIFY_MS || 15_000);

/** The notifications of one session, with the heartbeat timer that everybody copies. */
export async function GET({ cookies }) {
  await roundTrip();
  const session = cookies.get('session') ?? 'anonymous';
  const encoder = new TextEncoder();
  const stream = new ReadableStream({
    start(controller) {
      counters.streams += 1;
      counters.openControllers += 1;
      const send = (text) => controller.enqueue(encoder.encode(text));
      let count = 0;

      send(`data: ${JSON.stringify({ type: 'connected', session })}\n\n`);
      setCountedInterval(() => {
        count += 1;
        send(': heartbeat\n\n');
        send(`data: ${JSON.stringify({ type: 'notification', session, count })}\n\n`);
      }, NOTIFY_MS);
    },
    // Only counts, as in the progress stream.
    cancel() {
      counters.openControllers -= 1;
    }
  });
  return new Response(stream, { headers: { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' } });
}
