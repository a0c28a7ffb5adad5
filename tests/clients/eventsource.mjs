// npm `eventsource`, in Node: its EventSource as an app would use it.
import { EventSource } from 'eventsource';
import { message, say } from './say.mjs';

const source = new EventSource(process.argv[2]);
source.onopen = () => say({ saw: 'open' });
source.onmessage = message;
source.addEventListener('done', message);
source.onerror = (error) =>
  say({ saw: 'error', closed: source.readyState === EventSource.CLOSED, text: error.message ?? '' });
