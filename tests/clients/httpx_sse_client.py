"""PyPI `httpx-sse`: the loop around it is the app's own, as its README has it; the library doesn't reconnect."""

import sys
import time

import httpx
import httpx_sse
from say import message, say

# httpx waits 5 s for each read unless it is told otherwise, which is shorter than any heartbeat.
timeout = httpx.Timeout(5.0) if "--default-timeout" in sys.argv else httpx.Timeout(5.0, read=60.0)
last_id, retry, done = "", 1.0, False
with httpx.Client(timeout=timeout) as client:
    while not done:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with httpx_sse.connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                say(saw="open")
                for event in source.iter_sse():
                    last_id = event.id or last_id
                    retry = event.retry / 1000 if event.retry is not None else retry
                    done = done or event.event == "done"
                    message(event.event, event.id, event.data)
            say(saw="end")
        except httpx_sse.SSEError as error:
            say(saw="error", closed=True, text=f"{type(error).__name__}: {error}")
            break
        except httpx.TransportError as error:
            say(saw="error", closed=False, text=f"{type(error).__name__}: {error}")
        if not done:
            time.sleep(retry)
