import { error, json } from '@sveltejs/kit';
import { readVideo, roundTrip } from '$lib/server/videos.js';

/** The status of a job as JSON: what sidestream polls. */
export async function GET({ params }) {
  await roundTrip();
  const video = readVideo(params.id);
  if (!video) error(404, 'no such video');
  return json(video);
}
