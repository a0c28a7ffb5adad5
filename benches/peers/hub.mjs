// What people write in Node: a Set of responses, and `res.write` for each of them on an event.
import { createServer } from 'node:http';

const HEARTBEAT_MS = Number(process.env.HEARTBEAT_MS);
const clients = new Set();
let latest = '';

const server = createServer((req, res) => {
  if (req.method === 'POST') {
    let body = '';
    req.setEncoding('utf8');
    req.on('data', (part) => (body += part));
    req.on('end', () => {
      latest = `id: ${JSON.parse(body).seq}\ndata: ${body}\n\n`;
      for (const client of clients) client.write(latest);
      res.writeHead(204).end();
    });
    return;
  }
  res.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache, no-transform',
    'X-Accel-Buffering': 'no'
  });
  res.write(latest);
  clients.add(res);
  res.on('close', () => clients.delete(res));
});

setInterval(() => {
  for (const client of clients) client.write(':\n');
}, HEARTBEAT_MS);

server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
