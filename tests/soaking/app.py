"""The app behind sidestream in the soak: a process of its own, so that it can be killed and come back.

It has no memory. What a job's status is, which events a feed has had and whose they are follow from the path and the
clock, and how long a session lives stands in its cookie. So a restart loses nothing, and who watches from outside can
tell what must arrive without asking.

    /jobs/OWNER.START.STEPS.STEP    JSON status; STEPS steps of STEP ms from START (ms of the epoch), then completed
    /feeds/OWNER.NAME.PERIOD.SIZE   event stream; event n at n * PERIOD ms of the epoch, SIZE bytes of padding
    /raw/...                        the same feed under a path that no route names
    /pages/SIZE, /echo              an ordinary page; a POST that is answered with its length and hash

A session is the cookie `s=OWNER.EXPIRES.SECRET`: after EXPIRES (ms) the answer is 401, for another's things 403.
"""

import argparse
import asyncio
import hashlib
import json
import random
import time
from email.utils import formatdate


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def status_of(job: str, at: int):
    """The status of a job at a time; None before it is stored."""
    owner, start, steps, step = job.split('.')
    if at < int(start):
        return None
    n = min(int(steps), (at - int(start)) // int(step))
    status = 'completed' if n == int(steps) else 'processing'
    return {'id': job, 'owner': owner, 'n': n, 'status': status}


def event_of(feed: str, n: int) -> bytes:
    """One event of a feed, as it stands on the wire."""
    owner, name, _, size = feed.split('.')
    data = {'owner': owner, 'feed': name, 'n': n, 'pad': 'x' * int(size)}
    return f'id: {n}\ndata: {json.dumps(data)}\n\n'.encode()


def is_over(cookie: str, at: int) -> bool:
    return at >= int(cookie.split('.')[1])


class Refused(Exception):
    """An answer that is no 200."""

    def __init__(self, status: str):
        super().__init__(status)
        self.status = status


class Connection:
    """One connection of sidestream's, which asks one thing after the other."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def serve(self):
        try:
            while await self.one_request():
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # Peers leave as they like.
        finally:
            self.writer.close()

    async def one_request(self) -> bool:
        try:
            head = (await self.reader.readuntil(b'\r\n\r\n')).decode('latin-1').split('\r\n')
        except asyncio.IncompleteReadError:
            return False
        method, target, _ = head[0].split(' ')
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(':') for line in head[1:-2])}
        body = await self.reader.readexactly(int(headers.get('content-length', 0)))
        place, _, rest = target.lstrip('/').partition('/')
        try:
            if place == 'jobs':
                await self.job(rest, headers)
            elif place in ('feeds', 'raw'):
                await self.feed(rest, headers)
                return False
            elif place == 'pages':
                await self.answer('200 OK', b'p' * int(rest), 'text/plain')
            elif place == 'echo' and method == 'POST':
                await self.answer('200 OK', f'{len(body)} {hashlib.sha256(body).hexdigest()}'.encode(), 'text/plain')
            else:
                raise Refused('404 Not Found')
        except Refused as refused:
            await self.answer(refused.status, b'{"error":"refused"}', 'application/json')
        return True

    async def answer(self, status: str, body: bytes, content_type: str, headers=()):
        lines = [f'HTTP/1.1 {status}', f'Date: {formatdate(usegmt=True)}', f'Content-Type: {content_type}']
        if not status.startswith('304'):
            lines.append(f'Content-Length: {len(body)}')
        self.writer.write('\r\n'.join([*lines, *headers, '', '']).encode() + body)
        await self.writer.drain()

    def admit(self, owner: str, headers) -> str:
        cookie = headers.get('cookie', '').removeprefix('s=')
        if cookie.count('.') != 2 or is_over(cookie, now_ms()):
            raise Refused('401 Unauthorized')
        if cookie.split('.')[0] != owner:
            raise Refused('403 Forbidden')
        return cookie

    async def job(self, job: str, headers):
        self.admit(job.split('.')[0], headers)
        status = status_of(job, now_ms())
        if status is None:
            raise Refused('404 Not Found')
        tag = f'"{status["n"]}"'
        if headers.get('if-none-match') == tag:
            await self.answer('304 Not Modified', b'', 'application/json', [f'ETag: {tag}'])
            return
        await self.answer('200 OK', json.dumps(status).encode(), 'application/json', [f'ETag: {tag}'])

    async def feed(self, feed: str, headers):
        """Goes on behind `Last-Event-ID`. It ends by itself now and then, which a feed may."""
        owner, _, period, _ = feed.split('.')
        cookie = self.admit(owner, headers)
        period = int(period)
        last = headers.get('last-event-id', '')
        n = int(last) if last.isdigit() else now_ms() // period
        head = ['HTTP/1.1 200 OK', 'Content-Type: text/event-stream', 'Transfer-Encoding: chunked', '', '']
        self.writer.write('\r\n'.join(head).encode())
        self.chunk(b'retry: 200\n: hello\n\n')
        ends_at = now_ms() + random.randint(3_000, 12_000)
        while now_ms() < ends_at and not is_over(cookie, now_ms()):
            while n < now_ms() // period:
                n += 1
                event = event_of(feed, n)
                # Where the bytes are cut must not matter.
                cut = random.randrange(len(event))
                self.chunk(event[:cut])
                if random.random() < 0.1:
                    await self.writer.drain()
                    await asyncio.sleep(0.002)
                self.chunk(event[cut:])
            await self.writer.drain()
            await asyncio.sleep(max(0.002, ((n + 1) * period - now_ms()) / 1000))
        self.writer.write(b'0\r\n\r\n')
        await self.writer.drain()

    def chunk(self, data: bytes):
        if self.writer.is_closing():
            raise ConnectionResetError
        if data:
            self.writer.write(f'{len(data):x}\r\n'.encode() + data + b'\r\n')


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--port', type=int, required=True)
    port = parser.parse_args().port
    server = await asyncio.start_server(
        lambda reader, writer: Connection(reader, writer).serve(), '127.0.0.1', port, backlog=1024, reuse_address=True
    )
    async with server:
        await server.serve_forever()


if __name__ == '__main__':
    asyncio.run(main())
