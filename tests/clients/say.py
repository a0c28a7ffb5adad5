"""What the Python drivers share: one JSON line per thing that the app's code sees, and their end with their stdin."""

import json
import os
import sys
import threading


def say(**saw):
    print(json.dumps(saw), flush=True)


def message(event, id, data):
    say(saw="message", event=event, id=id or "", data=data)


def _end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=_end_with_stdin, daemon=True).start()
