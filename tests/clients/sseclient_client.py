"""PyPI `sseclient-py` over `requests`: the library parses, everything else is the app's own."""

import sys
import time

import requests
import sseclient
from say import message, say

last_id, retry, done = "", 1.0, False
while not done:
    headers = {"Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    try:
        with requests.get(sys.argv[1], stream=True, headers=headers, timeout=(5, 60)) as response:
            say(saw="open")
            for event in sseclient.SSEClient(response).events():
                last_id = event.id or last_id
                retry = int(event.retry) / 1000 if event.retry else retry
                done = done or event.event == "done"
                message(event.event, event.id, event.data)
            say(saw="end")
            # The library has no word for 204: to it that is a stream without events.
            if response.status_code == 204:
                break
    except requests.RequestException as error:
        say(saw="error", closed=False, text=f"{type(error).__name__}: {error}")
    if not done:
        time.sleep(retry)
