"""The soak: real parts under churn and faults for some minutes, and then the books are compared.

A scripted app, sidestream, and an nginx in front of a part of the clients, all on loopback. Clients come and go in every
way there is; the app is killed and frozen, nginx reloaded, sidestream drained and started anew, sessions end, cables are
cut. Every client reconciles what it got with what there was (see watchers.py); the run looks at memory, descriptors,
threads, gauges, counters and the log. Exit status 1 when anything is lost, double, leaked or wrong.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from contextlib import contextmanager

from app import now_ms
from ledger import Ledger
from parts import App, Nginx, Samples, Sidestream
from stream import Gone
from watchers import SECRET, Comer, FeedWatcher, JobWatcher, Visitor, session

# Clocks run faster than in life: streams are renewed every few seconds, topics forgotten after half a second.
FLAGS = [
    *['--route', 'path=/progress/{id},poll=/jobs/{id},interval=100ms,max-interval=300ms,linger=500ms'],
    *['--route', 'path=/feeds/{id},subscribe,linger=1s'],
    *['--heartbeat-interval', '500ms', '--retry', '300ms', '--max-age', '8s', '--drain', '1500ms'],
    *['--stale-after', '4s', '--reap-after', '6s'],
]
# Sidestream is drained and started anew in this part of the run only, so that the last life is long enough to drift.
RESTARTS_UNTIL = 0.35
# Faults stop so long before the end that the app is back and asked again.
QUIET_END = 4.0
# All gauges must be at zero so long after the last client has left: the longest is a stream whose client was cut off,
# which ends with its age, and then the linger of its topic.
QUIET_WITHIN = 45
# What memory may grow by between the beginning and the end of a life at the same load: allocators keep what was once
# needed, so a part is allowed; a leak of one stream or topic in this churn is far over it within minutes.
MEMORY_GROWTH = 1.2
MEMORY_SLACK_KIB = 3 * 1024


class World:
    """What the clients can see of the run."""

    def __init__(self, seed: str):
        self.seed = seed
        self.ledger = Ledger()
        self.side = None
        self.nginx = None
        # Clients finish what they are at, and catch up.
        self.is_settling = False
        self.settled_at_ms = 0
        # Catching up took too long.
        self.is_over = False
        # The app or sidestream is away, or was so lately; nginx makes no difference here.
        self.is_disturbed = False
        self.disturbed_at_ms = 0
        self.held = []

    def hold(self, stream):
        """A peer that was cut off keeps its socket: sidestream must get rid of it by itself."""
        self.held.append(stream)

    @contextmanager
    def disturbed(self):
        self.is_disturbed = True
        yield
        self.is_disturbed = False
        self.disturbed_at_ms = now_ms()

    def is_calm(self, for_ms: int) -> bool:
        """App and sidestream have been there for so long."""
        return not self.is_disturbed and self.disturbed_at_ms < now_ms() - for_ms


class Soak:
    def __init__(self, args):
        self.seed = args.seed
        self.load_seconds = args.minutes * 60
        self.random = random.Random(args.seed)
        self.world = World(args.seed)
        self.ledger = self.world.ledger
        self.started = time.monotonic()
        self.ledger.when = lambda: f'[at {time.monotonic() - self.started:.1f} s]'
        self.app = App()
        self.side = Sidestream(args.binary, ['--upstream', f'http://127.0.0.1:{self.app.port}', *FLAGS], self.ledger)
        self.side.secret = SECRET
        self.nginx = Nginx(self.side.port)
        self.world.side, self.world.nginx = self.side, self.nginx
        self.clients = []
        self.base = {}
        self.memory = []

    # --- the clients ---

    def crowd(self):
        """All who watch feeds and pages; jobs are made as time goes on."""
        ways = ['direct', 'direct', 'nginx', 'http10']
        for n in range(20):
            sessions = (3_000, 15_000) if n % 2 else None
            yield FeedWatcher(self.world, f'solo {n}', ways[n % 4], f'solo{n}.feed.50.40', sessions=sessions)
        for n in range(8):
            yield FeedWatcher(self.world, f'raw {n}', ways[n % 4], f'raw{n}.feed.100.40', prefix='raw')
        for group in range(4):
            way = ['direct', 'nginx'][group % 2]
            for tab in range(5):
                feed = f'shared{group}.feed.50.40'
                yield FeedWatcher(self.world, f'shared {group} {tab}', way, feed, across='shared', stays=tab == 0)
        for n in range(3):
            # Events come faster than they are read.
            feed = f'slow{n}.feed.15.8000'
            yield FeedWatcher(self.world, f'slow {n}', 'direct', feed, across='window', pace=(1024, 0.01))
        for n in range(4):
            yield Comer(self.world, f'comer {n}', ways[n])
        for n in range(3):
            yield Visitor(self.world, f'visitor {n}', ways[n])

    async def jobs(self, maker: int):
        """One job after the other, each watched by some tabs of one user, and some by a second session of theirs."""
        dice = random.Random(f'{self.seed} maker {maker}')
        number = 0
        while not self.world.is_settling:
            number += 1
            owner = f'user{maker}x{number}'
            start = now_ms() + dice.choice([0, 0, 300])
            job = f'{owner}.{start}.{dice.randint(3, 25)}.{dice.choice([100, 150, 400])}'
            lives = dice.choice([10_000_000, 10_000_000, dice.randint(1_000, 5_000)])
            cookie = session(owner, lives)
            tabs = []
            for tab in range(dice.randint(1, 4)):
                way = dice.choice(['direct', 'direct', 'nginx', 'http10'])
                calm = dice.random() < 0.4
                own = cookie if dice.random() < 0.8 else session(owner)
                tabs.append(JobWatcher(self.world, f'{owner} tab {tab}', way, job, owner, own, calm))
            await asyncio.gather(*(tab.run() for tab in tabs))

    # --- the faults ---

    async def faults(self):
        gap = max(1.2, min(5.0, self.load_seconds / 12))
        begun = time.monotonic()
        first = ['sidestream drained and restarted', 'nginx reloaded', 'app killed', 'app frozen']
        while (passed := time.monotonic() - begun) < self.load_seconds - QUIET_END:
            may_restart = passed < self.load_seconds * RESTARTS_UNTIL
            kinds = ['nginx reloaded', 'app killed', 'app frozen']
            kinds += ['sidestream drained and restarted'] * may_restart
            kind = first.pop(0) if first else self.random.choice(kinds)
            self.ledger.fault(kind)
            if kind == 'nginx reloaded':
                self.nginx.reload()
            else:
                with self.world.disturbed():
                    await self.disturb(kind)
            await asyncio.sleep(gap * self.random.uniform(0.6, 1.4))

    async def disturb(self, kind: str):
        match kind:
            case 'app killed':
                await self.app.kill()
                await asyncio.sleep(self.random.choice([0, 0.3, 1.5]))
                await self.app.start()
            case 'app frozen':
                self.app.freeze()
                await asyncio.sleep(self.random.choice([0.3, 1.5]))
                self.app.thaw()
            case _:
                await self.side.drain()
                await asyncio.sleep(self.random.choice([0, 0.2]))
                await self.side.start()
                self.memory.clear()

    async def watch_memory(self):
        while not self.world.is_settling:
            if self.side.child.returncode is None:
                try:
                    self.memory.append(self.side.memory())
                except (OSError, TypeError):
                    pass  # It is just being started anew.
            await asyncio.sleep(0.25)

    # --- the run ---

    async def run(self):
        await self.app.start()
        await self.side.start()
        await self.nginx.start()
        self.base = {'descriptors': self.side.open_files(), 'threads': self.side.threads()}

        self.clients = [asyncio.create_task(client.run()) for client in self.crowd()]
        self.clients += [asyncio.create_task(self.jobs(maker)) for maker in range(12)]
        watch = [asyncio.create_task(self.watch_memory()), asyncio.create_task(self.faults())]
        await asyncio.sleep(self.load_seconds)
        await asyncio.gather(*watch[1:])
        await self.settle()
        await asyncio.gather(*watch)
        await self.check_quiet()
        self.check_memory()
        await self.side.drain()

    async def settle(self):
        """Everybody catches up and leaves; whoever fails by an exception of its own fails the run."""
        self.world.settled_at_ms = now_ms()
        self.world.is_settling = True
        _, late = await asyncio.wait(self.clients, timeout=60)
        self.world.is_over = True
        self.ledger.check(not late, 'clients that never finished', str(len(late)))
        if late:
            _, late = await asyncio.wait(late, timeout=15)
            for task in late:
                task.cancel()
        for outcome in await asyncio.gather(*self.clients, return_exceptions=True):
            if isinstance(outcome, BaseException):
                self.ledger.complain('a client broke', repr(outcome))

    async def check_quiet(self):
        """Nothing may be left of clients, of those either that were cut off and still hold their sockets."""
        wanted = ['connections_active', 'connections_stale', 'topics']
        until = time.monotonic() + QUIET_WITHIN
        left = None
        while left is None or (any(left.values()) and time.monotonic() < until):
            await asyncio.sleep(0.2)
            samples = await self.side.metrics()
            left = {name: samples.get(name) for name in wanted}
        for name, value in left.items():
            self.ledger.check(value == 0, 'wrong gauge', f'{name} is {value:.0f} when everybody has left')
        self.check_counters(samples)
        await self.check_descriptors()
        for stream in self.world.held:
            stream.close()

    def check_counters(self, samples: Samples):
        for route in samples.routes('connections_opened_total'):
            opened = samples.get('connections_opened_total', route=route)
            closed = samples.get('connections_closed_total', route=route)
            self.ledger.check(opened == closed, 'wrong counter', f'{route}: {opened:.0f} opened, {closed:.0f} closed')
        none_of = [
            ('connections_closed_total', {'reason': 'error'}),
            ('connections_rejected_total', {}),
            ('job_state_violations_total', {}),
        ]
        for name, labels in none_of:
            count = samples.get(name, **labels)
            self.ledger.check(count == 0, 'wrong counter', f'{name} {labels} is {count:.0f}')
        received = self.ledger.received[self.side.life]
        sent = sum(
            samples.get('frames_sent_total', kind=kind, route=route)
            for kind in ('event', 'replay')
            for route in ('/feeds/{id}', '/progress/{id}')
        )
        self.ledger.check(received > 0, 'wrong counter', 'nothing was received in the last life')
        self.ledger.check(sent >= received, 'wrong counter', f'{sent:.0f} frames sent, {received} events received')
        # Of what is published while a topic lingers nothing is sent, so there is no bound from above.
        self.ledger.check(samples.get('events_published_total') > 0, 'wrong counter', 'nothing was published')
        self.closed = {
            reason: int(samples.get('connections_closed_total', reason=reason))
            for reason in ('client', 'done', 'stale', 'slow', 'max_age', 'upstream', 'denied')
        }
        if self.world.held:
            self.ledger.check(self.closed['stale'] > 0, 'wrong counter', 'peers were cut off, and nobody was stale')

    async def check_descriptors(self):
        """The pool's idle connections go after 4 s, the runtime's idle threads after 10 s."""
        until = time.monotonic() + 25
        while True:
            now = {'descriptors': self.side.open_files(), 'threads': self.side.threads()}
            over = {name: value for name, value in now.items() if value > self.base[name]}
            if not over or time.monotonic() > until:
                break
            await asyncio.sleep(0.3)
        for name, value in over.items():
            self.ledger.complain('leak', f'{value} {name} in the end, {self.base[name]} in the beginning')

    def check_memory(self):
        fifth = len(self.memory) // 5
        if fifth < 4:
            self.ledger.complain('too short', f'only {len(self.memory)} samples of memory in the last life')
            return
        warm = statistics.median(self.memory[fifth : 2 * fifth])
        end = statistics.median(self.memory[-fifth:])
        self.drift = (warm, end, self.memory[-1])
        allowed = warm * MEMORY_GROWTH + MEMORY_SLACK_KIB
        self.ledger.check(end <= allowed, 'leak', f'{warm:.0f} KiB when warm, {end:.0f} KiB in the end')

    def undo(self):
        self.side.kill()
        if self.app.child and self.app.child.returncode is None:
            self.app.child.kill()

    def summary(self, minutes: float) -> str:
        seen, faults = self.ledger.seen, self.ledger.faults
        lines = [
            f'tests/soak: {minutes:.1f} minutes, seed {self.seed}, {self.side.life} lives of sidestream',
            f'  {seen.pop("streams opened"):,} streams opened, {seen.pop("events received"):,} events received, '
            f'{seen.pop("events reconciled"):,} reconciled',
            *(f'  {count:,} {what}' for what, count in sorted(seen.items())),
            f'  {sum(faults.values()):,} faults injected',
            *(f'    {count:,} {kind}' for kind, count in sorted(faults.items())),
        ]
        if hasattr(self, 'closed'):
            lines.append('  ends of streams in the last life: ' + ', '.join(f'{n} {k}' for k, n in self.closed.items()))
        if hasattr(self, 'drift'):
            lines.append('  memory: {:.0f} KiB when warm, {:.0f} KiB in the end'.format(*self.drift))
        lines += [f'  warned {count} times: {message}' for message, count in self.side.warnings.items()]
        for complaint in self.ledger.complaints:
            lines.append(f'FAILED {complaint}')
        if self.ledger.complaint_kinds:
            kinds = ', '.join(f'{count} {kind}' for kind, count in self.ledger.complaint_kinds.most_common())
            lines.append(f'tests/soak: FAILED: {kinds}')
        else:
            lines.append('tests/soak: nothing lost, nothing double, nothing leaked')
        return '\n'.join(lines)


def args():
    parser = argparse.ArgumentParser(prog='tests/soak', description=__doc__.split('\n\n')[0])
    parser.add_argument('--minutes', type=float, default=10, help='how long the load lasts; 0.4 to 120 (default 10)')
    parser.add_argument('--seed', default=str(time.time_ns() % 1_000_000), help='repeats the same choices')
    parser.add_argument('--release', action='store_true', help='the release build instead of the debug build')
    parser.add_argument('--binary', required=True, help=argparse.SUPPRESS)
    found = parser.parse_args()
    if not 0.4 <= found.minutes <= 120:
        parser.error('--minutes is from 0.4 to 120')
    return found


async def main() -> int:
    chosen = args()
    soak = Soak(chosen)
    begun = time.monotonic()
    try:
        # Whatever goes wrong, it ends: settling, quiet and drain take two minutes at most.
        async with asyncio.timeout(chosen.minutes * 60 + 200):
            await soak.run()
    except (TimeoutError, Gone, OSError) as error:
        soak.ledger.complain('the run broke', repr(error))
    finally:
        soak.undo()
        await soak.nginx.stop()
    print(soak.summary((time.monotonic() - begun) / 60))
    return 1 if soak.ledger.complaint_kinds else 0


if __name__ == '__main__':
    sys.exit(asyncio.run(main()))
