"""An app on PyPI `sse-starlette`, under uvicorn or hypercorn.

Server and port in the arguments; orders, what it says and `quiet` are as in better_sse.mjs.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import threading

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route

queues = set()


def say(**saw):
    print(json.dumps(saw), flush=True)


async def events(request):
    queue = asyncio.Queue()

    async def body():
        queues.add(queue)
        try:
            # What most apps do first, and together with the head.
            yield {"data": json.dumps({"type": "connected"}), "id": "hello", "retry": 500}
            say(saw="stream", last=request.headers.get("last-event-id", ""))
            while (order := await queue.get()) is not None:
                yield order
        finally:
            queues.discard(queue)
            say(saw="left")

    # Its pings are comments with the time, and its line end is CRLF.
    return EventSourceResponse(body(), ping=0 if "quiet" in sys.argv else 0.02)


def obey(loop):
    for line in sys.stdin:
        order = json.loads(line)
        event = None
        if "push" in order:
            data = order["push"] if isinstance(order["push"], str) else json.dumps(order["push"])
            event = {"data": data, "id": order.get("id"), "event": order.get("name")}
        for queue in list(queues):
            loop.call_soon_threadsafe(queue.put_nowait, event)
    os._exit(0)


async def main(server, port):
    threading.Thread(target=obey, args=(asyncio.get_running_loop(),), daemon=True).start()
    app = Starlette(routes=[Route("/events", events)])
    listener = socket.create_server(("127.0.0.1", port))
    say(saw="listening", port=listener.getsockname()[1])
    if server == "uvicorn":
        import uvicorn

        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])
    else:
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        config = Config()
        config.bind = [f"fd://{listener.fileno()}"]
        config.loglevel = "WARNING"
        await serve(app, config)


logging.basicConfig(level=logging.WARNING)
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
