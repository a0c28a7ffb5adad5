// What legacy apps do: each client has a timer of its own, which reads the status (here from an HTTP endpoint, as from a
// database) and writes when it has changed; and a second one for heartbeats.
import { Agent, createServer, get } from 'node:http';

const { STATUS_URL, HEARTBEAT_MS, POLL_MS } = process.env;
const agent = new Agent({ keepAlive: true, maxSockets: 64 });

function read(topic) {
  return new Promise((resolve, reject) => {
    get(STATUS_URL + topic, { agent }, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (part) => (body += part));
      answer.on('end', () => resolve(body));
      answer.on('error', reject);
    }).on('error', reject);
  });
}

const server = createServer((req, res) => {
  const topic = req.url.split('/').at(-1);
  let last = '';
  let isReading = false;
  res.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache, no-transform',
    'X-Accel-Buffering': 'no'
  });
  const poll = async () => {
    if (isReading) return;
    isReading = true;
    try {
      const body = await read(topic);
      if (body !== last && !res.destroyed) {
        last = body;
        res.write(`id: ${JSON.parse(body).seq}\ndata: ${body}\n\n`);
      }
    } catch (error) {
      console.error(String(error));
    } finally {
      isReading = false;
    }
  };
  poll();
  const timers = [setInterval(poll, Number(POLL_MS)), setInterval(() => res.write(':\n'), Number(HEARTBEAT_MS))];
  res.on('close', () => timers.forEach(clearInterval));
});

server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
