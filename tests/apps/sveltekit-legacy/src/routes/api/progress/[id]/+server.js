import { error } from '@sveltejs/kit';
import { clearCountedInterval, counters, setCountedInterval } from '$lib/server/counters.js';
import { readVideo, roundTrip } from '$lib/server/videos.js';

const POLL_MS = Number(process.env.POLL_MS || 1_000);

/** The progress of one video: every tab polls for itself, and nobody asks whether the tab is still there. */
export async function GET({ params }) {
  await roundTrip();
  if (!readVideo(params.id)) error(404, 'no such video');

  const encoder = new TextEncoder();
  const stream = new ReadableStream({
    start(controller) {
      counters.streams += 1;
      counters.openControllers += 1;
      const timer = setCountedInterval(tick, POLL_MS);

      function tick() {
        const video = readVideo(params.id);
        const message = { type: video.status, videoId: video.id, progress: video.progress, videoUrl: video.videoUrl };
        controller.enqueue(encoder.encode(`data: ${JSON.stringify(message)}\n\n`));
        if (video.status === 'completed') {
          clearCountedInterval(timer);
          counters.openControllers -= 1;
          controller.close();
        }
      }
      tick();
    },
    // The model has no cancel(). This one only counts; the timer goes on, and its next enqueue throws.
    cancel() {
      counters.openControllers -= 1;
    }
  });
  return new Response(stream, { headers: { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' } });
}
