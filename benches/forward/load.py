"""Requests through each peer with wrk: the scenarios, one measured load, and all of them with the peers in turn."""

import json
import os
import random
import subprocess
from dataclasses import dataclass

from machine import Failed, need
from peers import LARGE, MEDIUM, POSTED, PROXY_NAMES, SMALL, check_answer

PLAIN = ("direct", "sidestream", "nginx", "caddy", "haproxy")
WITH_ROUTE = ("direct", "sidestream", "sidestream-route", "nginx", "caddy", "haproxy")
WARM_UP = 1
FAULTS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Scenario:
    """What wrk does to every peer."""

    key: str
    title: str
    upstream: str  # "static" or "node"
    method: str
    path: str
    size: int  # bytes of the answer's body
    connections: int
    peers: tuple
    is_quick: bool


SCENARIOS = (
    Scenario("static-64", "static, 100 B, 64 connections", "static", "GET", "/small", SMALL, 64, WITH_ROUTE, True),
    Scenario("static-512", "static, 100 B, 512 connections", "static", "GET", "/small", SMALL, 512, WITH_ROUTE, False),
    Scenario("static-post", "static, POST of 100 B, 64 connections", "static", "POST", "/small", SMALL, 64, PLAIN, False),
    Scenario("static-1", "static, 100 B, 1 connection", "static", "GET", "/small", SMALL, 1, PLAIN, True),
    Scenario("medium-64", "static, 16 KiB, 64 connections", "static", "GET", "/medium", MEDIUM, 64, PLAIN, False),
    Scenario("medium-512", "static, 16 KiB, 512 connections", "static", "GET", "/medium", MEDIUM, 512, PLAIN, False),
    Scenario("large-64", "static, 1 MiB, 64 connections", "static", "GET", "/large", LARGE, 64, PLAIN, True),
    Scenario("node-64", "Node, 100 B, 64 connections", "node", "GET", "/small", SMALL, 64, WITH_ROUTE, True),
    Scenario("node-512", "Node, 100 B, 512 connections", "node", "GET", "/small", SMALL, 512, PLAIN, False),
    Scenario("node-post", "Node, POST of 100 B, 64 connections", "node", "POST", "/small", SMALL, 64, PLAIN, False),
    Scenario("node-1", "Node, 100 B, 1 connection", "node", "GET", "/small", SMALL, 1, PLAIN, True),
)


@dataclass(frozen=True)
class Figures:
    """One load."""

    rate: float  # requests per second
    p50: float  # seconds
    p99: float  # seconds
    per_cpu: float  # requests per second of CPU of the proxy; 0 for direct
    rss: int  # bytes of the proxy after it; 0 for direct


def wrk(who, port, scenario, seconds):
    """Runs wrk and returns its counts. Fails on anything but complete answers of 2xx or 3xx."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "load.lua")
    threads = min(2, scenario.connections)
    argv = [need("wrk", "wrk"), f"-t{threads}", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout", "10s"]
    argv += ["--latency", "-s", script, f"http://127.0.0.1:{port}{scenario.path}"]
    env = {**os.environ, "LOAD_METHOD": scenario.method}
    if scenario.method == "POST":
        env["LOAD_BODY"] = POSTED
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=seconds + 30)
    lines = [line for line in done.stdout.splitlines() if line.startswith("COUNTS ")]
    if done.returncode != 0 or len(lines) != 1:
        raise Failed(f"wrk against {who} failed:\n{done.stdout}{done.stderr}")
    counts = json.loads(lines[0].removeprefix("COUNTS "))
    faults = {name: counts[name] for name in FAULTS if counts[name]}
    if faults or not counts["requests"]:
        raise Failed(f"{who}, {scenario.title}: {counts['requests']} requests, faults {faults}")
    # Each answer has its body, and what is above that is heads, and answers under way when wrk stopped.
    body_bytes = counts["requests"] * scenario.size
    if not body_bytes <= counts["bytes"] <= (counts["requests"] + scenario.connections) * (scenario.size + 1024):
        raise Failed(f"{who}, {scenario.title}: {counts['requests']} answers in {counts['bytes']} bytes")
    return counts


def measure(who, process, port, scenario, seconds, is_cold):
    """A warm-up where it is `is_cold`, and a measured load, with a checked answer before and after."""
    is_echo = scenario.upstream == "node"
    check_answer(who, port, scenario.method, scenario.path, is_echo)
    if is_cold:
        wrk(who, port, scenario, WARM_UP)
    before = process.cpu() if process else 0
    counts = wrk(who, port, scenario, seconds)
    used = process.cpu() - before if process else 0
    check_answer(who, port, scenario.method, scenario.path, is_echo)
    return Figures(
        rate=counts["requests"] / counts["micros"] * 1e6,
        p50=counts["p50"] / 1e6,
        p99=counts["p99"] / 1e6,
        per_cpu=counts["requests"] / used if process else 0,
        rss=process.rss() if process else 0,
    )


def run_all(peers, scenarios, runs, seconds, is_quick, say):
    """Every scenario with its peers in turn, `runs` times; {scenario: {peer: [figures of each run]}}.

    Within a run each peer gets its turn before the next run begins, in an order that changes, so that what else the
    machine does hits all of them alike. Each load is preceded by a warm-up; a quick run warms each proxy up once.
    """
    order = random.Random(1)
    results = {}
    for upstream in ("static", "node"):
        chosen = [scenario for scenario in scenarios if scenario.upstream == upstream]
        if not chosen:
            continue
        app = peers.static_upstream() if upstream == "static" else peers.node_upstream()
        ports = {"direct": (None, app)}
        for name in sorted({name for scenario in chosen for name in scenario.peers} - {"direct"}):
            ports[name] = peers.proxy(name, app)
        warm = set()
        for scenario in chosen:
            figures = results.setdefault(scenario, {name: [] for name in scenario.peers})
            for run in range(runs):
                for name in order.sample(scenario.peers, len(scenario.peers)):
                    process, port = ports[name]
                    say(f"{scenario.title}, run {run + 1} of {runs}: {name}")
                    is_cold = not is_quick or name not in warm
                    warm.add(name)
                    who = PROXY_NAMES.get(name, name)
                    figures[name].append(measure(who, process, port, scenario, seconds, is_cold))
        for process, _ in ports.values():
            if process:
                peers.stop(process)
    return results
