"""The processes of the soak: sidestream, its app, and an nginx in front."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path

from stream import Gone, Stream

ROOT = Path(__file__).resolve().parents[2]
# Every wait ends with its event; only a broken program runs into this.
DEADLINE = 30


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


async def listens(port: int):
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                (await Stream.connect(port)).close()
                return
            except Gone:
                await asyncio.sleep(0.02)


class App:
    """The scripted app; it may be killed and come back on the same port."""

    def __init__(self):
        self.port = free_port()
        self.child = None

    async def start(self):
        script = Path(__file__).with_name('app.py')
        self.child = await asyncio.create_subprocess_exec(sys.executable, str(script), '--port', str(self.port))
        await listens(self.port)

    async def kill(self):
        self.child.kill()
        await self.child.wait()

    def freeze(self):
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.child.send_signal(signal.SIGCONT)


class Nginx:
    """An nginx with a master and two workers, as Debian starts it, with the file that users are advised to use."""

    def __init__(self, upstream_port: int):
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix='sidestream-soak-'))
        advised = (ROOT / 'deploy/proxies/nginx.conf').read_text()
        server = advised.replace('listen 80;', f'listen 127.0.0.1:{self.port};').replace('127.0.0.1:8080', f'127.0.0.1:{upstream_port}')
        assert server.count(str(self.port)) and server.count(str(upstream_port)), 'the advised file has changed'
        names = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
        temporary = ' '.join(f'{name}_temp_path {self.directory}/{name};' for name in names)
        user = 'user root;' if os.geteuid() == 0 else ''
        (self.directory / 'nginx.conf').write_text(
            f'daemon off; {user} worker_processes 2; pid {self.directory}/pid; error_log {self.directory}/error.log crit;\n'
            f'events {{ worker_connections 1024; }}\nhttp {{ access_log off; {temporary}\n{server}}}\n'
        )
        self.child = None

    async def start(self):
        path = shutil.which('nginx') or '/usr/sbin/nginx'
        where = ['-p', str(self.directory), '-c', 'nginx.conf', '-e', str(self.directory / 'error.log')]
        self.child = await asyncio.create_subprocess_exec(path, *where)
        await listens(self.port)

    def reload(self):
        self.child.send_signal(signal.SIGHUP)

    async def stop(self):
        if self.child and self.child.returncode is None:
            self.child.terminate()
            await self.child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Sidestream:
    """The program. It may be drained and started anew on the same port; each start is a life."""

    def __init__(self, binary: str, args, ledger):
        self.binary = binary
        self.args = args
        self.ledger = ledger
        self.port = free_port()
        self.admin_port = free_port()
        self.life = 0
        self.child = None
        self.log_reader = None
        self.warnings = Counter()
        self.secret = ''

    async def start(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith('SIDESTREAM_')}
        sides = ['--listen', f'127.0.0.1:{self.port}', '--admin-listen', f'127.0.0.1:{self.admin_port}']
        self.life += 1
        self.child = await asyncio.create_subprocess_exec(
            self.binary, *sides, '--log-format', 'json', *self.args, env=env, stderr=asyncio.subprocess.PIPE
        )
        self.log_reader = asyncio.create_task(self.read_log(self.child.stderr))
        await listens(self.admin_port)

    async def read_log(self, pipe):
        while line := (await pipe.readline()).decode(errors='replace').rstrip():
            if self.secret in line:
                self.ledger.complain('a secret in the log', line)
            try:
                said = json.loads(line)
            except ValueError:
                self.ledger.complain('not a line of the log', line)
                continue
            if said['level'] == 'ERROR':
                self.ledger.complain('an error in the log', line)
            elif said['level'] == 'WARN':
                self.warnings[said['message']] += 1

    async def drain(self):
        """Ends it in good order."""
        self.child.terminate()
        async with asyncio.timeout(DEADLINE):
            code = await self.child.wait()
        await self.log_reader
        self.ledger.check(code == 0, 'exit status', f'{code} after a drain')

    def kill(self):
        if self.child and self.child.returncode is None:
            self.child.kill()

    async def metrics(self) -> 'Samples':
        stream = await Stream.connect(self.admin_port)
        try:
            await stream.send('/metrics', ['Connection: close'])
            await stream.head()
            return Samples((await stream.body()).decode())
        finally:
            stream.close()

    # --- what the kernel says of it ---

    def memory(self) -> int:
        """Resident KiB."""
        return int(re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{self.child.pid}/status').read_text())[1])

    def open_files(self) -> int:
        return len(os.listdir(f'/proc/{self.child.pid}/fd'))

    def threads(self) -> int:
        return len(os.listdir(f'/proc/{self.child.pid}/task'))


class Samples:
    """One scrape."""

    def __init__(self, text: str):
        self.series = []
        for line in text.splitlines():
            found = re.fullmatch(r'sidestream_(\w+?)(?:\{(.*)\})? (\S+)', line)
            if found:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ''))
                self.series.append((found[1], labels, float(found[3])))

    def get(self, name: str, **labels) -> float:
        """The sum over the series with these labels. A name that does not exist is an error of the soak."""
        values = [value for known, had, value in self.series if known == name and labels.items() <= had.items()]
        if not any(known == name for known, _, _ in self.series):
            raise KeyError(name)
        return sum(values)

    def routes(self, name: str):
        return sorted({labels['route'] for known, labels, _ in self.series if known == name})
