"""One connection of a client: it reads an event stream on a bare socket, and can leave it in every way there is."""

import asyncio
import ctypes
import errno
import json
import socket
import struct

SO_ATTACH_FILTER = 26
# A whole answer's head, or a page.
DEADLINE = 30


class Gone(Exception):
    """The connection ended, or never began."""


class Event:
    """A block of the stream that has data."""

    __slots__ = ('id', 'name', 'data')

    def __init__(self, id, name, data):
        self.id = id
        self.name = name
        self.data = data

    def json(self):
        return json.loads(self.data)


class Stream:
    """A request and its answer. `events()` yields until the stream ends; then `is_clean` says how."""

    def __init__(self, sock, reader, writer):
        self.sock = sock
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers = {}
        self.retry_ms = None
        self.is_clean = False

    @classmethod
    async def connect(cls, port: int, receive_buffer=None) -> 'Stream':
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ('127.0.0.1', port))
            # The reader's own buffer is small where the reader is slow, so that slowness is felt by the peer.
            limit = receive_buffer or 64 * 1024
            reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
        except OSError as error:
            sock.close()
            raise Gone(str(error)) from error
        return cls(sock, reader, writer)

    async def send(self, path: str, headers=(), version='1.1', method='GET', body=b''):
        lines = [f'{method} {path} HTTP/{version}', 'Host: soak.test', *headers]
        if body:
            lines.append(f'Content-Length: {len(body)}')
        try:
            self.writer.write('\r\n'.join([*lines, '', '']).encode() + body)
            await self.writer.drain()
        except OSError as error:
            raise Gone(str(error)) from error

    async def head(self):
        try:
            async with asyncio.timeout(DEADLINE):
                head = await self.reader.readuntil(b'\r\n\r\n')
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Gone(str(error)) from error
        lines = head.decode('latin-1').split('\r\n')
        self.status = int(lines[0].split(' ')[1])
        for line in lines[1:-2]:
            name, _, value = line.partition(':')
            self.headers[name.lower()] = value.strip()

    async def pieces(self, pace=None):
        """The body as it comes; `pace` is (bytes, seconds) for who reads slowly."""
        is_chunked = self.headers.get('transfer-encoding') == 'chunked'
        left = int(self.headers['content-length']) if 'content-length' in self.headers else None
        size, pause = pace or (64 * 1024, 0)
        try:
            while True:
                if is_chunked:
                    length = int((await self.reader.readuntil(b'\r\n')).split(b';')[0], 16)
                    remaining = length
                    while remaining:
                        piece = await self.reader.read(min(remaining, size))
                        if not piece:
                            return
                        remaining -= len(piece)
                        yield piece
                        if pause:
                            await asyncio.sleep(pause)
                    await self.reader.readexactly(2)
                    if length == 0:
                        self.is_clean = True
                        return
                elif left == 0:
                    self.is_clean = True
                    return
                else:
                    piece = await self.reader.read(size if left is None else min(left, size))
                    if not piece:
                        self.is_clean = left is None
                        return
                    left = None if left is None else left - len(piece)
                    yield piece
                    if pause:
                        await asyncio.sleep(pause)
        except (OSError, asyncio.IncompleteReadError):
            return

    async def events(self, pace=None):
        rest = b''
        block = {}
        async for piece in self.pieces(pace):
            *lines, rest = (rest + piece).split(b'\n')
            for line in lines:
                field, _, value = line.rstrip(b'\r').decode().partition(':')
                value = value.removeprefix(' ')
                if field == 'retry':
                    self.retry_ms = int(value)
                elif field == 'data' and 'data' in block:
                    block['data'] += '\n' + value
                elif field:
                    block[field] = value
                elif not line.strip():
                    if 'data' in block:
                        yield Event(block.get('id'), block.get('event'), block['data'])
                    block = {}

    async def body(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return b''.join([piece async for piece in self.pieces()])

    # --- ways to leave ---

    def close(self):
        """With a FIN; with a RST if there is something unread, as a browser does it."""
        self.writer.close()

    def reset(self):
        self.set(socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.writer.transport.abort()

    def cut_off(self):
        """From now on nothing reaches us, no data and no ACK, and nobody is told: the cable is out. A packet filter
        that accepts nothing does it without touching the machine's network."""
        program = ctypes.create_string_buffer(struct.pack('HBBI', 0x06, 0, 0, 0))  # return 0 bytes
        self.set(SO_ATTACH_FILTER, struct.pack('HP', 1, ctypes.addressof(program)))
        if not self.writer.transport.is_closing():
            self.writer.transport.pause_reading()

    def set(self, option: int, value: bytes):
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, option, value)
        except OSError as error:
            # The other side was first, and the socket is closed already.
            if error.errno != errno.EBADF:
                raise
