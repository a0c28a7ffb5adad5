import { counters } from './counters.js';

const VIDEO_MS = Number(process.env.VIDEO_MS || 10_000);

/** Starts a video and gives its id. */
export function startVideo() {
  globalThis.legacyVideos = (globalThis.legacyVideos ?? 0) + 1;
  return `v${globalThis.legacyVideos}-${Date.now()}`;
}

/** What a round trip to a database takes: long enough that a tab can leave before its stream has begun. */
export const roundTrip = () => new Promise((resolve) => setTimeout(resolve, 30));

/**
 * Reads a video "from the database": its start stands in its id and its state is a function of time, as if a worker
 * made it elsewhere. So a video outlives a death of this process, as real jobs do.
 */
export function readVideo(id) {
  counters.statusReads += 1;
  const match = /^v\d+-(\d+)$/.exec(id);
  if (!match) return null;
  const progress = Math.min(100, Math.floor(((Date.now() - Number(match[1])) / VIDEO_MS) * 100));
  const done = progress === 100;
  return { id, status: done ? 'completed' : 'processing', progress, videoUrl: done ? `/videos/${id}.mp4` : null };
}
