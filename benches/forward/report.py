"""The figures as Markdown: medians of the runs, and ratios taken within each run."""

from statistics import median

from peers import PROXY_NAMES

PEERS = ("sidestream", "sidestream-route", "nginx", "caddy", "haproxy")
ONE_EACH = ("sidestream", "nginx", "caddy", "haproxy")
BOUND = 0.8


def table(title, head, rows):
    """A Markdown table under its title; all columns but the first are numbers. Nothing when there are no rows."""
    if not rows:
        return ""
    lines = [f"**{title}**", "", "| " + " | ".join(["", *head]) + " |", "| --- |" + " ---: |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def name_of(peer):
    return PROXY_NAMES.get(peer, peer)


def whole(value):
    return f"{value:,.0f}"


def short(value):
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def middle(figures, field):
    return median(getattr(figure, field) for figure in figures)


def ratios(figures, peer, field):
    """sidestream's value over that of `peer`, one per run: what disturbed a run disturbed both."""
    pairs = zip(figures["sidestream"], figures[peer])
    return [getattr(ours, field) / getattr(theirs, field) for ours, theirs in pairs]


def spread(values):
    """The median, and from where to where the runs went."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def is_small(scenario):
    return scenario.size <= 1024 and scenario.connections > 1


# === the tables of the loads ===


def values(results, chosen, peers, field, scale=lambda scenario: 1):
    """A row per scenario that is `chosen`: the field of each peer, then sidestream's ratio to nginx and to Caddy."""
    rows = []
    for scenario, figures in results.items():
        if chosen(scenario):
            cells = [
                whole(middle(figures[peer], field) * scale(scenario)) if peer in figures else "" for peer in peers
            ]
            versus = [spread(ratios(figures, peer, field)) for peer in ("nginx", "caddy")]
            rows.append([scenario.title, *cells, *versus])
    return rows


def pairs(results, chosen, peers, unit):
    """A row per scenario that is `chosen`: p50 and p99 of each peer, in units of so many seconds."""
    rows = []
    for scenario, figures in results.items():
        if chosen(scenario):
            row = [scenario.title]
            for peer in peers:
                found = figures.get(peer)
                row.append(found and " / ".join(short(middle(found, p) / unit) for p in ("p50", "p99")) or "")
            rows.append(row)
    return rows


def added(results):
    """A row per scenario of one connection: p50 and p99 beyond those of direct in the same run, in µs."""
    rows = []
    for scenario, figures in results.items():
        if scenario.connections == 1:
            row = [scenario.title]
            for peer in ONE_EACH:
                more = [
                    median(getattr(a, field) - getattr(b, field) for a, b in zip(figures[peer], figures["direct"]))
                    for field in ("p50", "p99")
                ]
                row.append(" / ".join(f"{value * 1e6:,.0f}" for value in more))
            rows.append(row)
    return rows


def load_tables(results):
    names = [name_of(peer) for peer in PEERS]
    each = [name_of(peer) for peer in ONE_EACH]
    versus = ["to nginx", "to Caddy"]
    many = lambda scenario: scenario.connections > 1
    bulk = lambda scenario: scenario.size > 1024
    return [
        table(
            "Requests per second of the proxy's own CPU, small bodies",
            [*names, *versus],
            values(results, is_small, PEERS, "per_cpu"),
        ),
        table(
            "MiB of answers per second of the proxy's own CPU",
            [*each, *versus],
            values(results, bulk, ONE_EACH, "per_cpu", lambda scenario: scenario.size / 2**20),
        ),
        table(
            "Requests per second, all parts together on these cores",
            ["direct", *names, *versus],
            values(results, many, ("direct", *PEERS), "rate"),
        ),
        table(
            "Latency with one connection, p50 / p99 in µs",
            ["direct", *each],
            pairs(results, lambda scenario: scenario.connections == 1, ("direct", *ONE_EACH), 1e-6),
        ),
        table("Of which the proxy adds, p50 / p99 in µs", each, added(results)),
        table(
            "Latency under full load, p50 / p99 in ms",
            ["direct", *names],
            pairs(results, many, ("direct", *PEERS), 1e-3),
        ),
    ]


# === memory ===


def memory_table(websockets, downloads, counts):
    """KiB of RSS for each WebSocket and each download."""
    peers = [peer for peer in ("sidestream", "nginx", "nginx-unbuffered", "caddy", "haproxy") if peer in downloads]

    def row(title, figures):
        cells = [f"{median(figures[peer]) / 1024:.1f}" if peer in figures else "" for peer in peers]
        return [title, *cells, spread([ours / theirs for ours, theirs in zip(figures["sidestream"], figures["nginx"])])]

    rows = [row(f"idle WebSocket ({counts[0]:,})", websockets), row(f"download, slow reader ({counts[1]:,})", downloads)]
    return table("KiB of RSS for each", [*map(name_of, peers), "to nginx"], rows)


# === the bound ===


def verdict(results):
    """Whether the bounds of small answers hold, in words; nothing when none were measured."""
    small = [(scenario.title, figures) for scenario, figures in results.items() if is_small(scenario)]
    if not small:
        return ""
    lines = []
    for peer, bound in (("nginx", BOUND), ("caddy", 1.0)):
        worst = min((median(ratios(figures, peer, "per_cpu")), title) for title, figures in small)
        word = "holds" if worst[0] >= bound else "does not hold"
        lines.append(
            f"- at least {bound} of {name_of(peer)}'s requests per second of CPU for small bodies: **{word}**; "
            f"the lowest is {worst[0]:.2f} ({worst[1]})"
        )
    return "\n".join(lines) + "\n"
