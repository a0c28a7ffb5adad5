// The browser's own EventSource.
export function watch(path) {
  listen(new EventSource(path), EventSource.CLOSED);
}

// What an app hangs onto any EventSource, native or not.
export function listen(source, closed) {
  const message = (event) => say({ saw: 'message', event: event.type, id: event.lastEventId, data: event.data });
  source.addEventListener('open', () => say({ saw: 'open' }));
  source.addEventListener('message', message);
  source.addEventListener('done', message);
  source.onerror = () => say({ saw: 'error', closed: source.readyState === closed, text: '' });
}
