// The connection to the program: its figures once a second, and word when they stop.

/** They come every second; after this long without any the connection is as good as gone. */
const SILENCE_MS = 5_000;
/** A page that slept, or had no time, finds its timer due before it has read what came: that much later it has. */
const GRACE_MS = 1_000;
/** How long until it is tried again: short, as one person's page asks and not ten thousand. */
const PAUSES_MS = [500, 1_000, 2_000, 3_000];

/**
 * Follows an event stream for as long as the page lives. An `EventSource` alone would give up for good at the first
 * answer that is no 200, and would not notice a connection that has gone without a word.
 */
export function follow(url, onStats, onLost) {
  let source = null;
  let timer = 0;
  let failures = 0;

  function open() {
    clearTimeout(timer);
    source = new EventSource(url);
    source.onmessage = (event) => {
      failures = 0;
      watch();
      onStats(JSON.parse(event.data));
    };
    source.onerror = again;
    watch();
  }

  function watch() {
    clearTimeout(timer);
    timer = setTimeout(() => (timer = setTimeout(again, GRACE_MS)), SILENCE_MS);
  }

  function again() {
    source.close();
    source = null;
    clearTimeout(timer);
    timer = setTimeout(open, PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
    failures += 1;
    onLost();
  }

  // Timers of a hidden page may sleep for a minute; who looks at it wants to see what is there now.
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && !source) open();
  });
  open();
}
