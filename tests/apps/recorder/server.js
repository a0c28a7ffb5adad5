// A plain Node server that writes down what it was asked, for the tests of the wire: method, target, headers, body and
// connection of every request, in the order in which their heads came. `GET /take` on the control port gives the list
// and empties it.
'use strict';
const http = require('node:http');

const loopback = '127.0.0.1';
let requests = [];
let errors = [];
let connections = 0;
// Counted over the whole life of the process, so that an answer can be told from every other.
let answers = 0;

const server = http.createServer((req, res) => {
  const record = {
    connection: req.socket.recorded,
    method: req.method,
    url: req.url,
    version: req.httpVersion,
    headers: req.headers,
    rawHeaders: req.rawHeaders,
    body: '',
    trailers: [],
    complete: false,
  };
  requests.push(record);
  req.setEncoding('latin1');
  req.on('data', (text) => (record.body += text));
  req.on('error', () => {});
  req.on('end', () => {
    record.trailers = req.rawTrailers;
    record.complete = req.complete;
    answers += 1;
    // Also the answer of a job, for routes that poll it.
    const said = { status: 'processing', answer: answers, method: req.method, url: req.url, body: record.body };
    const text = JSON.stringify(said);
    res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text), 'X-Seen': req.method });
    res.end(text);
  });
});
// Asked directly, a test closes its side to say that nothing more comes, and still wants the answers.
server.httpAllowHalfOpen = true;
server.on('connection', (socket) => {
  connections += 1;
  socket.recorded = connections;
});
server.on('clientError', (error, socket) => {
  errors.push({ code: error.code, connection: socket.recorded });
  if (!socket.writable) return socket.destroy();
  socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
});

const control = http.createServer((req, res) => {
  const taken = JSON.stringify({ requests, errors });
  requests = [];
  errors = [];
  res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(taken) });
  res.end(taken);
});

server.listen(0, loopback, () => {
  control.listen(0, loopback, () => {
    const at = (it) => `${loopback}:${it.address().port}`;
    console.log(`listening on http://${at(server)} control ${at(control)}`);
  });
});
