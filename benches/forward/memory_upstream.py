"""The app of the memory figures: echoes WebSocket messages at /ws, and has an endless-looking download at /download.

Port and size of the download are its arguments. It speaks as much of both protocols as memory.py asks for.
"""

import asyncio
import base64
import hashlib
import sys

BLOCK = bytes(range(256)) * 256
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Client(asyncio.Protocol):
    """One connection: requests, and after an upgrade messages."""

    def __init__(self, size):
        self.size = size
        self.received = b""
        self.is_upgraded = False
        self.left = 0

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=len(BLOCK))
        self.is_paused = False

    def data_received(self, data):
        self.received += data
        while self.turn():
            pass

    def turn(self):
        """Answers what is complete; False when there is nothing more."""
        if self.is_upgraded:
            return self.echo()
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return False
        self.received = rest
        target = head.split(b" ", 2)[1]
        if target == b"/ws":
            lines = head.split(b"\r\n")
            key = next(line.split(b":")[1].strip() for line in lines if line.lower().startswith(b"sec-websocket-key:"))
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self.is_upgraded = True
        elif target == b"/download":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % self.size)
            self.left = self.size
            self.send()
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True

    def echo(self):
        """Messages are masked and of up to 125 bytes, which makes a frame of 6 bytes and these."""
        if len(self.received) < 6:
            return False
        length = self.received[1] & 0x7F
        if len(self.received) < 6 + length:
            return False
        mask = self.received[2:6]
        message = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.received[6 : 6 + length]))
        self.received = self.received[6 + length :]
        self.transport.write(bytes([0x81, length]) + message)
        return True

    # The download goes on whenever the socket takes more.

    def send(self):
        while self.left and not self.is_paused and not self.transport.is_closing():
            block = BLOCK[: self.left]
            self.left -= len(block)
            self.transport.write(block)

    def pause_writing(self):
        self.is_paused = True

    def resume_writing(self):
        self.is_paused = False
        self.send()


async def main():
    port, size = int(sys.argv[1]), int(sys.argv[2])
    server = await asyncio.get_running_loop().create_server(lambda: Client(size), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


asyncio.run(main())
