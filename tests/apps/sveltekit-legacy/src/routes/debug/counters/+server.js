import { json } from '@sveltejs/kit';
import { counters } from '$lib/server/counters.js';

export const GET = () => json(counters);
