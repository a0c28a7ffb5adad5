'use strict';

// A legacy app as people really have it: plain `http`, streams in a ReadableStream with timers, and the mistakes that
// come with them. Nothing here is to be repaired: the tests put sidestream in front and look at what is left of the
// mistakes. The one thing it does better than its models is to count them instead of dying of them.

const http = require('node:http');

const POLL_MS = Number(process.env.POLL_MS || 100);
const HEARTBEAT_MS = Number(process.env.HEARTBEAT_MS || 15_000);
const STEP_MS = Number(process.env.STEP_MS || 200);

/** Told by GET /debug/counters. `frontEnd` is what the page last told of itself. */
const counters = { statusReads: 0, openControllers: 0, timers: 0, invalidStateErrors: 0, frontEnd: null };
let nextId = 1;

// What kills these apps: enqueue on a closed controller, in a timer, where nobody catches it.
process.on('uncaughtException', (error) => {
  if (error.code !== 'ERR_INVALID_STATE') throw error;
  counters.invalidStateErrors += 1;
});

function setCountedInterval(task, ms) {
  counters.timers += 1;
  return setInterval(task, ms);
}

function clearCountedInterval(timer) {
  counters.timers -= 1;
  clearInterval(timer);
}

/**
 * Reads a job "from the database": its start stands in its id, and its state is a function of time, as if a worker did
 * it elsewhere. So a job outlives the process, as jobs do.
 */
function readStatus(id) {
  counters.statusReads += 1;
  const match = /^v\d+-(\d+)$/.exec(id);
  if (!match) return null;
  const progress = Math.min(100, Math.floor((Date.now() - Number(match[1])) / STEP_MS) * 10);
  const done = progress === 100;
  return {
    id,
    status: done ? 'completed' : 'processing',
    progress,
    videoUrl: done ? `/videos/${id}.mp4` : null,
  };
}

function startVideo() {
  return `v${nextId++}-${Date.now()}`;
}

/** The stream of one job: every client polls for itself, and the poll enqueues without a look at the controller. */
function progressStream(id) {
  const encoder = new TextEncoder();
  let timer;
  return new ReadableStream({
    start(controller) {
      counters.openControllers += 1;
      const send = (message) => controller.enqueue(encoder.encode(`data: ${JSON.stringify(message)}\n\n`));
      const tick = () => {
        const video = readStatus(id);
        if (video.status === 'completed') {
          clearCountedInterval(timer);
          send({ type: 'completed', videoId: id, progress: 100, videoUrl: video.videoUrl });
          counters.openControllers -= 1;
          controller.close();
          return;
        }
        send({ type: 'progress', videoId: id, progress: video.progress, videoUrl: null });
      };
      timer = setCountedInterval(tick, POLL_MS);
      tick();
    },
    // No cancel(): the timer goes on when the client has gone, and its next enqueue throws.
  });
}

/** The notifications of one session, with the heartbeat timer that everybody copies. */
function notificationStream(session) {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      counters.openControllers += 1;
      const send = (text) => controller.enqueue(encoder.encode(text));
      send(`data: ${JSON.stringify({ type: 'connected', session })}\n\n`);
      let heartbeats = 0;
      setCountedInterval(() => {
        heartbeats += 1;
        send(': heartbeat\n\n');
        if (heartbeats % 2 === 0) send(`data: ${JSON.stringify({ type: 'notification', session, n: heartbeats })}\n\n`);
      }, HEARTBEAT_MS);
    },
  });
}

/** Writes a web stream to a Node response, as the adapters of the frameworks do. */
async function pipe(stream, response) {
  response.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache',
    Connection: 'keep-alive',
  });
  const reader = stream.getReader();
  // The frameworks cancel the stream when the client goes; the controller is closed then, and the timers don't know.
  response.on('close', () => {
    if (!response.writableFinished) {
      counters.openControllers -= 1;
      reader.cancel().catch(() => {});
    }
  });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    response.write(value);
  }
  response.end();
}

function sendJson(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

function sessionOf(request) {
  const match = /(?:^|;\s*)session=([^;]*)/.exec(request.headers.cookie || '');
  return match ? match[1] : 'anonymous';
}

const PAGE = `<!doctype html>
<title>Videos</title>
<button id="start">Make a video</button>
<progress id="bar" max="100" value="0"></progress>
<p id="state">idle</p>
<pre id="log"></pre>
<script>
  // The front end that must not need a change: it knows {"type": ...} and nothing else.
  const state = document.getElementById('state');
  const tell = () => navigator.sendBeacon('/debug/front-end', state.textContent);
  const log = document.getElementById('log');
  function watch(id) {
    const source = new EventSource('/api/progress/' + id);
    source.onmessage = (event) => {
      const message = JSON.parse(event.data);
      log.textContent += event.data + '\\n';
      if (message.videoId !== id) throw new Error('the progress of another video');
      if (message.type === 'completed') {
        document.getElementById('bar').value = 100;
        state.textContent = 'done: ' + message.videoUrl;
        source.close();
        tell();
      } else if (message.type !== 'error') {
        document.getElementById('bar').value = message.progress;
        state.textContent = 'making ' + message.progress + ' %';
      }
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) state.textContent = 'lost';
      tell();
    };
  }
  async function start() {
    const answer = await fetch('/api/videos', { method: 'POST' });
    watch((await answer.json()).id);
  }
  document.getElementById('start').onclick = start;
  if (location.hash === '#start') start();
</script>
`;

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://app');
  const route = `${request.method} ${url.pathname}`;
  if (route === 'GET /') {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
    response.end(PAGE);
    return;
  }
  if (route === 'GET /debug/counters') return sendJson(response, 200, counters);
  if (route === 'POST /api/videos') {
    request.resume();
    return sendJson(response, 201, readStatus(startVideo()));
  }
  if (route === 'GET /api/notifications/sse') return void pipe(notificationStream(sessionOf(request)), response);
  if (route === 'POST /debug/front-end') {
    request.setEncoding('utf8');
    counters.frontEnd = '';
    request.on('data', (text) => (counters.frontEnd += text));
    request.on('end', () => response.writeHead(204).end());
    return;
  }
  const job = /^GET \/api\/(videos|progress)\/([^/]+)$/.exec(route);
  if (job) {
    const id = decodeURIComponent(job[2]);
    const video = readStatus(id);
    if (!video) return sendJson(response, 404, { error: 'no such video' });
    if (job[1] === 'videos') return sendJson(response, 200, video);
    return void pipe(progressStream(id), response);
  }
  response.writeHead(404, { 'Content-Type': 'text/plain' });
  response.end('not found\n');
});

server.listen(Number(process.env.PORT || 3000), process.env.HOST || '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
