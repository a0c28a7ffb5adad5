import { error, json } from '@sveltejs/kit';
import { readVideo } from '$lib/server/videos.js';

/** The status of a job as JSON: what sidestream polls. */
export function GET({ params }) {
  const video = readVideo(params.id);
  if (!video) error(404, 'no such video');
  return json(video);
}
