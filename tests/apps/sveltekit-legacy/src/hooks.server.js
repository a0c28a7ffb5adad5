// Loaded at the start, so that the monitor listens before the first request.
import '$lib/server/counters.js';
