"""The clients of the soak. Each does to its stream what tabs do, remembers what it got, and complains about an event
that it lost, got twice, got in the wrong order or that was not for it."""

import asyncio
import hashlib
import random

from app import now_ms
from stream import Gone, Stream

# Stands in every cookie, and so must stand in no line of the log.
SECRET = 'k33psecret'
# How long after the end of a session its streams may still be open: the next poll finds out, which takes a while on a
# machine with other work to do. A stream that does not hear of it lives on for minutes.
SESSION_GRACE_MS = 15_000
# After an outage the app is asked again with a back-off, which in these short ones stays below this.
OUTAGE_ECHO_MS = 5_000
# Milliseconds between two tries of who was refused a connection, as an EventSource waits.
AGAIN = (100, 600)


def session(owner: str, lives_ms: int = 10_000_000) -> str:
    return f'{owner}.{now_ms() + lives_ms}.{SECRET}'


class Watcher:
    """What all have in common: a way in, a session, a chance to leave, a place to come back to."""

    def __init__(self, world, name: str, way: str):
        self.world = world
        self.ledger = world.ledger
        self.name = name
        self.way = way
        self.random = random.Random(f'{world.seed} {name}')
        self.cookie = ''
        self.last_id = None
        self.stream = None

    def complain(self, kind: str, what: str):
        self.ledger.complain(kind, f'{self.name} by {self.way}: {what}')

    @property
    def port(self) -> int:
        return self.world.nginx.port if self.way == 'nginx' else self.world.side.port

    async def pause(self, least: int, most: int):
        await asyncio.sleep(self.random.randint(least, most) / 1000)

    async def request(self, path: str, with_id=True, receive_buffer=None) -> Stream:
        stream = await Stream.connect(self.port, receive_buffer)
        stream.life = self.world.side.life
        headers = ['Accept: text/event-stream', f'Cookie: s={self.cookie}', 'Connection: close']
        if with_id and self.last_id is not None:
            headers.append(f'Last-Event-ID: {self.last_id}')
        try:
            await stream.send(path, headers, '1.0' if self.way == 'http10' else '1.1')
        except Gone:
            stream.close()
            raise
        return stream

    async def open(self, path: str, with_id=True, receive_buffer=None) -> Stream:
        """The head, too; None of its troubles is one of ours, except a wrong answer."""
        stream = await self.request(path, with_id, receive_buffer)
        try:
            await stream.head()
        except (Gone, TimeoutError) as error:
            stream.close()
            if isinstance(error, TimeoutError):
                self.complain('no answer', path)
                raise Gone('no answer') from error
            raise
        self.ledger.seen['streams opened'] += stream.status == 200
        return stream

    def allows(self, status: int) -> bool:
        """What a client may be answered; an EventSource must never see a 5xx of sidestream's own."""
        if status == 401:
            expires = int(self.cookie.split('.')[1])
            return now_ms() >= expires
        # nginx answers for itself while sidestream is away.
        return status in (200, 204) or (self.way == 'nginx' and status in (502, 504))

    def leave(self, stream: Stream):
        """Leaves in one of the ways in which a tab, a phone or a cable does."""
        way = self.random.choices(['FIN', 'RST', 'cut off'], [5, 4, 1 if self.way == 'direct' else 0])[0]
        self.ledger.fault(f'client left by {way}' if way != 'cut off' else 'client cut off')
        if way == 'FIN':
            stream.close()
        elif way == 'RST':
            stream.reset()
        else:
            stream.cut_off()
            self.world.hold(stream)

    async def leave_before_the_first_byte(self, path: str):
        try:
            stream = await self.request(path)
        except Gone:
            return
        self.ledger.fault('client left before the first byte')
        if self.random.random() < 0.5:
            await asyncio.sleep(0)
        self.random.choice([stream.close, stream.reset])()


class FeedWatcher(Watcher):
    """Watches numbered events. `across` says what holds from one stream to the next:

    `exact`: nothing lost, nothing double, whatever happens in between.
    `shared`: the same, except that after a life of sidestream the topic begins where the first tab of its user left off.
    `window`: who reads too slowly may lose what fell out of the window.
    """

    def __init__(self, world, name, way, feed, prefix='feeds', across='exact', sessions=None, pace=None, stays=False):
        super().__init__(world, name, way)
        self.path = f'/{prefix}/{feed}'
        self.owner, _, period, _ = feed.split('.')
        self.period = int(period)
        self.is_forwarded = prefix == 'raw'
        self.across = across
        self.sessions = sessions
        self.pace = pace
        self.stays = stays
        self.last_n = None
        self.last_stream_life = None
        self.cookie = self.new_session()

    def new_session(self) -> str:
        return session(self.owner, self.random.randint(*self.sessions)) if self.sessions else session(self.owner)

    def allows(self, status):
        # What no route names is forwarded, and for that a bad gateway is the honest answer.
        return super().allows(status) or (self.is_forwarded and status in (502, 504))

    async def run(self):
        while not self.world.is_settling:
            if not self.stays and self.random.random() < 0.05:
                await self.leave_before_the_first_byte(self.path)
            await self.once(self.random.randint(300, 6_000) if not self.stays else 10**9)
        if self.across == 'exact':
            await self.catch_up()

    async def catch_up(self):
        """Nothing may be lost at the very end either: up to the number that the feed had when the run was over."""
        goal = self.world.settled_at_ms // self.period
        if self.last_n is None:
            return  # It never got an event, so there is none that it could miss.
        while self.last_n < goal and not self.world.is_over:
            await self.once(10**9, goal)
        self.ledger.check(self.last_n >= goal, 'lost at the end', f'{self.name} has {self.last_n}, not {goal}')
        self.ledger.seen['feeds complete to the end'] += self.last_n >= goal

    async def once(self, stay_ms: int, goal=None):
        try:
            stream = self.stream = await self.open(self.path, receive_buffer=4096 if self.pace else None)
        except Gone:
            return await self.pause(*AGAIN)
        if stream.status != 200:
            if not self.allows(stream.status):
                self.complain('wrong status', f'{stream.status} {dict(stream.headers)}')
            if stream.status == 401:
                self.ledger.fault('session over')
                self.cookie = self.new_session()
            stream.close()
            return await self.pause(*AGAIN)
        is_first = True
        try:
            async with asyncio.timeout(stay_ms / 1000):
                async for event in stream.events(self.pace):
                    is_first = not self.take(event, stream, is_first) and is_first
                    if goal is not None and self.last_n >= goal:
                        break
                    if goal is None and self.world.is_settling:
                        break
        except TimeoutError:
            self.leave(stream)
            return await self.pause(0, 2_500)
        stream.close()
        retry = stream.retry_ms or 300
        await self.pause(retry // 2, retry)

    def take(self, event, stream, is_first) -> bool:
        """Reconciles one event; false when it is none of the feed's, but tells that the app is in trouble."""
        if event.name is not None:
            self.ledger.check(event.name == 'upstream-error', 'strange event', f'{self.name}: {event.name}')
            return False
        data = event.json()
        n = data['n']
        if data['owner'] != self.owner:
            self.complain('of another', f'{data["owner"]}, not {self.owner}')
        if str(n) != event.id:
            self.complain('wrong id', f'{event.id} of event {n}')
        self.ledger.seen['events received'] += 1
        self.ledger.received[stream.life] += not self.is_forwarded
        if self.last_n is not None and n != self.last_n + 1:
            # A topic of several tabs may have been made anew: in a new life of sidestream, or when all were away for longer
            # than it lingers. The tab that is back first then says where it begins.
            if self.across == 'shared' and is_first:
                self.ledger.seen['returns to a topic that began at the place of another tab'] += 1
            elif self.across == 'window' and is_first and n > self.last_n:
                self.ledger.seen['slow readers that came back behind the window'] += 1
            else:
                kind = 'lost' if n > self.last_n else 'double'
                first = 'first of a stream' if is_first else 'in a stream'
                lives = f'life {self.last_stream_life} to {stream.life}'
                self.complain(kind, f'{n} after {self.last_n}, {first}, {lives}')
        else:
            self.ledger.seen['events reconciled'] += 1
        self.last_n = n
        self.last_id = event.id
        self.last_stream_life = stream.life
        return True


class JobWatcher(Watcher):
    """Watches a job to its end, with interruptions: never backwards, nothing twice, the last status, and `done` once."""

    def __init__(self, world, name, way, job, owner, cookie, calm=False):
        super().__init__(world, name, way)
        self.path = f'/progress/{job}'
        self.owner = owner
        self.steps = int(job.split('.')[2])
        self.ends_ms = int(job.split('.')[1]) + self.steps * int(job.split('.')[3])
        self.cookie = cookie
        self.calm = calm
        self.last_n = -1
        self.dones = 0
        self.is_told = False

    async def run(self):
        while not self.world.is_settling:
            if self.random.random() < 0.1:
                await self.leave_before_the_first_byte(self.path)
            if await self.once():
                break
        else:
            return
        self.ledger.seen['jobs watched to their end'] += 1
        self.ledger.check(self.last_n == self.steps, 'job without its last status', f'{self.name}: {self.last_n}')
        self.ledger.check(self.dones <= 1, 'done twice', self.name)
        if self.random.random() < 0.3:
            await self.look_back()

    async def once(self) -> bool:
        """One stream; true when the job is over for this client."""
        try:
            stream = self.stream = await self.open(self.path)
        except Gone:
            await self.pause(*AGAIN)
            return False
        if stream.status != 200:
            stream.close()
            if not self.allows(stream.status):
                self.complain('wrong status', f'{stream.status} {dict(stream.headers)}')
            if stream.status == 204:
                self.ledger.check(self.last_n == self.steps, 'stopped too early', f'{self.name} at {self.last_n}')
                return True
            if stream.status == 401:
                self.ledger.fault('session over')
                self.cookie = session(self.owner)
            await self.pause(*AGAIN)
            return False
        self.is_told = False
        stay_ms = self.random.randint(50, 8_000) if not self.calm else 10**6
        try:
            async with asyncio.timeout(stay_ms / 1000):
                async for event in stream.events():
                    self.take(event, stream)
                    if event.name == 'done' and self.random.random() < 0.5:
                        break
                    if self.world.is_settling:
                        break
        except TimeoutError:
            self.leave(stream)
            await self.pause(0, 1_500)
            return self.dones > 0
        stream.close()
        expires = int(self.cookie.split('.')[1])
        late = now_ms() - expires
        # An app that is away can't refuse.
        if late > SESSION_GRACE_MS and self.world.is_calm(late + OUTAGE_ECHO_MS):
            self.complain('stream outlived its session', f'by {late} ms')
        if not self.dones:
            await self.pause(100, 400)
        return self.dones > 0

    def take(self, event, stream):
        if event.name == 'upstream-error':
            self.is_told = True
            return
        if event.name not in (None, 'done'):
            return self.complain('strange event', str(event.name))
        data = event.json()
        n = data['n']
        self.ledger.check(data['owner'] == self.owner, 'of another', f'{self.name}: {data["owner"]}')
        if event.name == 'done':
            self.dones += 1
            self.ledger.check(n == self.steps and event.id == self.last_id, 'wrong done', f'{self.name}: {event.data}')
            return
        self.ledger.seen['events received'] += 1
        self.ledger.received[stream.life] += 1
        # Who was told of an outage is told the state again, changed or not.
        if n < self.last_n:
            self.complain('backwards', f'{n} after {self.last_n}')
        elif n == self.last_n and not self.is_told:
            self.complain('double', f'status {n} of {self.steps}')
        else:
            self.ledger.seen['events reconciled'] += 1
        self.is_told = False
        self.last_n = n
        self.last_id = event.id

    async def look_back(self):
        """A finished job answers who knows its end with 204, and tells anybody else again."""
        if int(self.cookie.split('.')[1]) < now_ms() + 60_000:
            return
        try:
            stream = await self.open(self.path)
            stream.close()
            self.ledger.seen['finished jobs answered with 204'] += stream.status == 204
            # While the app is away nobody knows whether the job is over; the client waits.
            is_known = self.world.is_calm(OUTAGE_ECHO_MS) and stream.status not in (502, 504)
            self.ledger.check(not is_known or stream.status == 204, 'no 204 for a finished job', self.name)
            stream = await self.open(self.path, with_id=False)
        except Gone:
            return
        if stream.status == 200:
            try:
                async with asyncio.timeout(20):
                    events = [event async for event in stream.events() if event.name != 'upstream-error']
            except TimeoutError:
                events = None
            names = [event.name for event in events or []]
            # A cut (the proxy, the drain) may take the end away; a clean end has both, once.
            is_undisturbed = self.world.is_calm(20_000)
            if is_undisturbed and (events is None or (stream.is_clean and names != [None, 'done'])):
                self.complain('a finished job told wrongly', str(names))
            self.ledger.seen['finished jobs told again'] += names == [None, 'done']
        stream.close()


class Comer(Watcher):
    """Comes and goes: before a byte was sent, in the middle of the request, before the answer."""

    def __init__(self, world, name, way):
        super().__init__(world, name, way)
        self.owner = name.replace(' ', '')

    async def run(self):
        while not self.world.is_settling:
            self.cookie = session(self.owner)
            job = f'{self.owner}.{now_ms()}.3.100'
            path = self.random.choice([f'/progress/{job}', f'/feeds/{self.owner}.c.200.10', f'/raw/{self.owner}.c.200.10'])
            try:
                stream = await Stream.connect(self.port)
            except Gone:
                await self.pause(*AGAIN)
                continue
            part = self.random.choice(['nothing', 'half', 'all', 'more'])
            head = f'GET {path} HTTP/1.1\r\nHost: soak.test\r\nAccept: text/event-stream\r\nCookie: s={self.cookie}\r\n\r\n'
            text = {'nothing': '', 'half': head[: len(head) // 2], 'all': head, 'more': head + head}[part]
            stream.writer.write(text.encode())
            self.ledger.fault('client left before the first byte')
            if self.random.random() < 0.3:
                await self.pause(0, 60)
            self.random.choice([stream.close, stream.reset])()
            await self.pause(10, 80)


class Visitor(Watcher):
    """Asks for ordinary things, which are forwarded: pages and uploads."""

    async def run(self):
        while not self.world.is_settling:
            body = self.random.randbytes(self.random.choice([10, 5_000, 300_000]))
            size = self.random.choice([0, 100, 200_000])
            try:
                await self.ask('POST', '/echo', body, f'{len(body)} {hashlib.sha256(body).hexdigest()}'.encode())
                await self.ask('GET', f'/pages/{size}', b'', b'p' * size)
            except (Gone, TimeoutError):
                pass  # The app or sidestream was away.
            await self.pause(50, 300)

    async def ask(self, method, path, body, expected):
        stream = await Stream.connect(self.port)
        try:
            await stream.send(path, ['Connection: close'], method=method, body=body)
            await stream.head()
            answer = await stream.body()
        finally:
            stream.close()
        if stream.status == 200 and stream.is_clean:
            self.ledger.check(answer == expected, 'wrong answer forwarded', f'{method} {path}')
            self.ledger.seen['ordinary requests answered'] += 1
        elif stream.status not in (200, 502, 504):
            self.complain('wrong status', f'{method} {path}: {stream.status}')
