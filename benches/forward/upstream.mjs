// The app: as small as a Node app gets. GET /small answers 100 bytes, POST /small what was posted.
import http from 'node:http';

const small = process.env.SMALL;

http
  .createServer((request, response) => {
    if (request.method === 'POST') {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        const body = Buffer.concat(chunks);
        response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length });
        response.end(body);
      });
    } else {
      response.writeHead(200, { 'content-type': 'text/plain', 'content-length': small.length });
      response.end(small);
    }
  })
  .listen(Number(process.env.PORT), '127.0.0.1');
