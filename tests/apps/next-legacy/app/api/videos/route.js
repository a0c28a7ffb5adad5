import { readVideo, startVideo } from '../../../lib/videos.js';

export const POST = () => Response.json(readVideo(startVideo()), { status: 201 });
