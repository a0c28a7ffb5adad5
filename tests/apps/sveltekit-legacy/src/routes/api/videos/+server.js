import { json } from '@sveltejs/kit';
import { readVideo, startVideo } from '$lib/server/videos.js';

export const POST = () => json(readVideo(startVideo()), { status: 201 });
