import { counters } from '../../../lib/counters.js';

export const dynamic = 'force-dynamic';

export const GET = () => Response.json(counters);
