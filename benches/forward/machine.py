"""What the benchmark asks of the machine: packages, ports, processes, and what these cost.

Processes are known by id only. The CPU time of one comes from its own clock (clock_getcpuclockid(3)): nanoseconds, user
and kernel, all threads, also those that have ended.
"""

import ctypes
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
NO_SERVICES = "/usr/sbin/policy-rc.d"
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """The run can't be believed: something is missing, died, or answered wrongly."""


# === packages ===


def need(program, package):
    """Finds `program`, also in /usr/sbin, which is not on everybody's PATH; installs its Debian package if it is missing."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    if not shutil.which(program, path=path):
        install(package)
    found = shutil.which(program, path=path)
    if not found:
        raise Failed(f"the package {package} was installed, but there is no {program}")
    return found


def install(package):
    if not shutil.which("apt-get"):
        raise Failed(f"'{package}' is missing, and there is no apt-get to install it with")
    print(f"installing {package}", flush=True)
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    # Debian starts a service when its package is installed, unless this file says no; we start our own.
    is_ours = not os.path.exists(NO_SERVICES)
    if is_ours:
        subprocess.run([*as_root, "tee", NO_SERVICES], input=b"#!/bin/sh\nexit 101\n", stdout=subprocess.DEVNULL, check=True)
        subprocess.run([*as_root, "chmod", "+x", NO_SERVICES], check=True)
    try:
        apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "install", "-y", "--no-install-recommends", package], stdout=subprocess.DEVNULL, check=True)
    except subprocess.CalledProcessError as error:
        raise Failed(f"apt-get could not install {package}") from error
    finally:
        if is_ours:
            subprocess.run([*as_root, "rm", "-f", NO_SERVICES], check=True)


# === ports ===


def free_port():
    """A free loopback port below those that the kernel gives to clients: a load's own connection can't take it first."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first_of_clients = int(file.read().split()[0])
    for _ in range(1000):
        port = random.randrange(min(20000, first_of_clients - 5000), first_of_clients)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failed("no free port on 127.0.0.1")


# === processes ===


class Process:
    """A server that this run has started, with its children. Ends with the run, however that ends."""

    def __init__(self, name, argv, folder, env=None):
        self.name = name
        self.log = os.path.join(folder, "log")
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                argv,
                cwd=folder,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )

    def ids(self):
        """The process and all below it."""
        found, todo = [], [self.child.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children(pid)
        return found

    def check(self):
        if self.child.poll() is not None:
            with open(self.log, errors="replace") as log:
                words = log.read()[-2000:]
            raise Failed(f"{self.name} ended with status {self.child.returncode}:\n{words}")

    def cpu(self):
        """Seconds of CPU used so far, user and kernel."""
        self.check()
        return sum(time.clock_gettime(cpu_clock(pid)) for pid in self.ids())

    def rss(self):
        """Bytes of resident memory, summed over the processes."""
        self.check()
        return sum(resident(pid) for pid in self.ids())

    def stop(self):
        if self.child.poll() is not None:
            return
        # The children first learn of it from their parent, as in life; what is left after that is killed by id.
        below = self.ids()[1:]
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            for pid in below:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.child.kill()
            self.child.wait()


def children(pid):
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        found = []
        for task in tasks:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
        return found
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_clock(pid):
    """What clock_getcpuclockid(3) makes of a process id: the clock of its whole thread group, of kind CPUCLOCK_SCHED."""
    return (~pid << 3) | 2


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# === asking ===


def ask(port, method, path, body=None):
    """One request on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_for(process, port, path):
    """Until the server answers 200 at `path`."""
    deadline = time.monotonic() + 15
    while True:
        process.check()
        try:
            if ask(port, "GET", path)[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() > deadline:
            raise Failed(f"{process.name} did not answer within 15 s")
        time.sleep(0.05)


# === conditions ===


def version(argv):
    """The first number with dots in what a program says about its version."""
    words = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    for word in (words.stdout + words.stderr).replace("/", " ").split():
        word = word.lstrip("v")
        if word[:1].isdigit() and "." in word:
            return word.split("-")[0].rstrip(",")
    return "?"
