"""Memory of the proxies while they hold idle WebSockets, and while slow readers take big downloads."""

import asyncio
import os
import socket
import sys
import time

from machine import Failed, free_port, wait_for
from peers import PROXY_NAMES

WEBSOCKET_PEERS = ("sidestream", "nginx", "caddy", "haproxy")
DOWNLOAD_PEERS = ("sidestream", "nginx", "nginx-unbuffered", "caddy", "haproxy")
DOWNLOAD_SIZE = 256 * 1024 * 1024
BLOCK = bytes(range(256)) * 256
# A slow reader: 16 KiB five times a second, and little room in its kernel.
READ, PAUSE, RECEIVE_BUFFER = 16 * 1024, 0.2, 64 * 1024
WARM_UP = 50
DEADLINE = 60
MESSAGE = b"are you there?"
MASK = b"\x12\x34\x56\x78"

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def run_all(peers, runs, websockets, downloads, is_quick, say):
    """({peer: [bytes per idle WebSocket]}, {peer: [bytes per download]}), each value from a proxy started for it."""
    settle = 1 if is_quick else 3
    folder, port = peers.new_folder("memory"), free_port()
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "memory_upstream.py")
    argv = [sys.executable, script, str(port), str(DOWNLOAD_SIZE)]
    app = peers.start("the app of the memory figures", argv, folder)
    wait_for(app, port, "/")

    kinds = ((WEBSOCKET_PEERS, hold_websockets, websockets), (DOWNLOAD_PEERS, hold_downloads, downloads))
    results = []
    for names, hold, count in kinds:
        names = names[:2] if is_quick else names
        figures = {name: [] for name in names}
        for run in range(runs):
            for name in names:
                say(f"memory, {count} × {hold.__name__.removeprefix('hold_')}, run {run + 1} of {runs}: {name}")
                process, proxy_port = peers.proxy(name, port, ready="/")
                figures[name].append(asyncio.run(growth(name, process, proxy_port, hold, count, settle)))
                peers.stop(process)
        results.append(figures)
    return results


async def growth(name, process, port, hold, count, settle):
    """Bytes of RSS per one of `count`, beyond what the proxy has after it has held some before."""
    try:
        async with asyncio.timeout(DEADLINE):
            await hold(port, WARM_UP, 0, lambda: None)
            await asyncio.sleep(1)
            before = process.rss()
            after = await hold(port, count, settle, process.rss)
    except (OSError, TimeoutError, EOFError) as error:
        process.check()
        raise Failed(f"{PROXY_NAMES[name]}, memory: {type(error).__name__} {error}") from error
    return (after - before) / count


async def hold_websockets(port, count, settle, look):
    """Opens them, hears each once, lets them idle, looks, hears each again."""
    gate = asyncio.Semaphore(64)
    sockets = []

    async def open_one():
        async with gate:
            socket = await connect(port)
            sockets.append(socket)
            head = await exchange(socket, UPGRADE, b"\r\n\r\n")
            if b" 101 " not in head or ACCEPT not in head:
                raise Failed(f"no WebSocket: {head!r}")
            await hear(socket)

    try:
        await asyncio.gather(*(open_one() for _ in range(count)))
        await asyncio.sleep(settle)
        seen = look()
        for socket in sockets:
            await hear(socket)
        return seen
    finally:
        for socket in sockets:
            socket.close()


async def hear(socket):
    masked = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(MESSAGE))
    await exchange(socket, bytes([0x81, 0x80 | len(MESSAGE)]) + MASK + masked, bytes([0x81, len(MESSAGE)]) + MESSAGE)


async def exchange(socket, words, until):
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(socket, words)
    heard = b""
    while not heard.endswith(until):
        data = await loop.sock_recv(socket, 4096)
        if not data:
            raise EOFError(f"closed after {heard[-200:]!r}")
        heard += data
    return heard


async def hold_downloads(port, count, settle, look):
    """Starts them, reads slowly for a while, looks; every byte has to be right."""
    loop = asyncio.get_running_loop()
    taken = [0] * count

    async def read_one(index):
        socket = await connect(port)
        try:
            await loop.sock_sendall(socket, b"GET /download HTTP/1.1\r\nHost: app.example\r\n\r\n")
            heard = b""
            while b"\r\n\r\n" not in heard:
                data = await loop.sock_recv(socket, READ)
                if not data:
                    raise EOFError(f"closed after {heard[-200:]!r}")
                heard += data
            head, _, data = heard.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise Failed(f"no download: {head!r}")
            while True:
                offset = taken[index] % 256
                if data != BLOCK[offset : offset + len(data)]:
                    raise Failed(f"wrong bytes in a download after {taken[index]}")
                taken[index] += len(data)
                await asyncio.sleep(PAUSE)
                data = await loop.sock_recv(socket, READ)
                if not data:
                    raise EOFError(f"a download ended after {taken[index]} bytes")
        finally:
            socket.close()

    readers = [asyncio.create_task(read_one(index)) for index in range(count)]
    try:
        # Until all have some, and then for as long as the buffers need to fill.
        full = None
        while full is None or time.monotonic() < full:
            for failed in (task for task in readers if task.done()):
                failed.result()
            await asyncio.sleep(0.1)
            if full is None and all(taken):
                full = time.monotonic() + settle
        return look()
    finally:
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def connect(port):
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    except BaseException:
        client.close()
        raise
    return client
