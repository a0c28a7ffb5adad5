// What the proof wants to know of this app. Nothing here repairs anything: the mistakes are in the routes.
import { writeSync } from 'node:fs';

// Next.js bundles each route by itself, so what they share hangs on `globalThis`.
export const counters = (globalThis.legacyCounters ??= {
  statusReads: 0,
  timers: 0,
  openControllers: 0,
  streams: 0,
  invalidStateErrors: 0
});

export function setCountedInterval(task, ms) {
  counters.timers += 1;
  return setInterval(task, ms);
}

export function clearCountedInterval(timer) {
  counters.timers -= 1;
  clearInterval(timer);
}

// A monitor sees the error and changes nothing: who would have died of it still dies. It writes synchronously, because
// there may be no later.
globalThis.legacyMonitor ??= process.on('uncaughtExceptionMonitor', (error) => {
  if (error.code !== 'ERR_INVALID_STATE') return;
  counters.invalidStateErrors += 1;
  writeSync(2, `legacy app: uncaught ${error.code}: ${error.message}\n`);
});
