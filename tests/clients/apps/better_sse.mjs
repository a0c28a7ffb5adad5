// An app on npm `better-sse` and Node's own http. Port in the arguments; orders come as JSON lines on stdin
// (`{"push": data, "name": …, "id": …}`, `{"end": true}`), and each stream that is opened or left is told on stdout. With
// `quiet` in the arguments it sends no keep-alives of its own.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { createSession } from 'better-sse';

const say = (saw) => process.stdout.write(`${JSON.stringify(saw)}\n`);
const sessions = new Map();

const server = createServer(async (request, response) => {
  const session = await createSession(request, response, { retry: 500, keepAlive: process.argv[3] === 'quiet' ? null : 20 });
  sessions.set(session, response);
  session.once('disconnected', () => {
    sessions.delete(session);
    say({ saw: 'left' });
  });
  // What most apps do first, and together with the head.
  session.push({ type: 'connected' }, 'message', 'hello');
  say({ saw: 'stream', last: session.lastId === 'hello' ? request.headers['last-event-id'] ?? '' : session.lastId });
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => say({ saw: 'listening', port: server.address().port }));

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  for (const [session, response] of sessions) {
    if (order.end) response.end();
    else session.push(order.push, order.name ?? 'message', order.id);
  }
}
process.exit(0);
