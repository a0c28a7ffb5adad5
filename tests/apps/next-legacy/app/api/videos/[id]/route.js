import { readVideo, roundTrip } from '../../../../lib/videos.js';

/** The status of a job as JSON: what sidestream polls. */
export async function GET(_request, { params }) {
  await roundTrip();
  const video = readVideo((await params).id);
  if (!video) return Response.json({ error: 'no such video' }, { status: 404 });
  return Response.json(video);
}
