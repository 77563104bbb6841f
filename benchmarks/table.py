"""From the JSON files to one Markdown table, and from there into docs/performance.md between its two markers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.instance import CHECKOUT
from benchmarks.machine import QUIET_LOAD

DOCUMENT = CHECKOUT / "docs" / "performance.md"
BEGIN = "<!-- figures: written by scripts/bench -->"
END = "<!-- end of figures -->"
NAMES = ("accept", "engine", "engine-cluster-1", "engine-cluster-2", "latency", "memory", "priority", "http")

Row = tuple[str, str, str]
"""What, figure, the aim of the design."""


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown for these results, by name of the suite."""
    parts: list[str] = []
    for name in NAMES:
        if name in results:
            parts += [_heading(name, results[name]), "", *_table(_ROWS[name](results[name]["figures"])), ""]
    return "\n".join(parts)


def refresh(folder: Path, *, document: Path = DOCUMENT) -> None:
    """Write what `folder` holds between the markers. Raises ValueError if the document has none."""
    found = {name: folder / f"{name}.json" for name in NAMES}
    results = {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}
    text = document.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    document.write_text(f"{before}\n\n{render(results)}\n{after}", encoding="utf-8")


def _heading(name: str, result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    load = machine["load_average_before"]
    busy = "" if load <= QUIET_LOAD else ", **not a quiet machine**"
    quick = " (short rounds)" if result["quick"] else ""
    database = machine.get("database")
    stored = f"PostgreSQL {database['server_version'].split()[0]}, fsync {database['fsync']}, " if database else ""
    temporal = machine.get("temporal")
    if temporal:
        stored += (
            f"Temporal {temporal['temporal_version']} on a PostgreSQL of its own, server processes: {temporal['servers']}, "
        )
    return (
        f"**{name}**{quick}: {machine['at'][:10]}, {machine['cores']} x {machine['cpu']}, Python {machine['python']}, "
        f"{stored}load average before {load}{busy}, commit {machine['commit'] or '-'}"
    )


def _table(rows: Sequence[Row]) -> list[str]:
    return ["| what | measured | hold / aim |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]


def _accept_rows(figures: Mapping[str, Any]) -> list[Row]:
    single, batch, steady = figures["single"], figures["batch"], figures["open_loop"]
    bare = single["bare"]
    rows: list[Row] = [
        ("single accept, durable", _closed(single), ">= 15,000/s"),
        ("bare FastAPI + pydantic POST, no database", _closed(bare), ""),
        ("ratio (median of pairs)", f"{single['ratio']}x", "1.5x / 2.2x"),
        ("CPU of all processes per single accept", f"{single['cpu_us_each']} us", ""),
    ]
    templated = figures["template_and_user"]
    if "skipped" in templated:
        rows.append(("template + user", f"not measured: {templated['skipped']}", "0.8x / 1.5x"))
    else:
        rows.append(("template + user", f"{_closed(templated)}, {templated['ratio']}x", "0.8x / 1.5x"))
    return [
        *rows,
        ("single accept in the low lane while it is delivered", _closed(figures["while_delivering"]), "reported"),
        ("batches of 1,000", f"{batch['notifications_per_second']:,} notifications/s", ">= 30,000/s / 70,000/s"),
        (
            f"open loop at half of the maximum ({steady['offered_per_second']:,}/s)",
            f"p50 {steady['p50_ms']} ms, p99 {steady['p99_ms']} ms{_own(steady)}",
            "p99 10 ms / 3 ms",
        ),
    ]


def _own(figures: Mapping[str, Any]) -> str:
    late = figures.get("generator_late_p99_ms")
    return "" if late is None else f" (the generator itself late by p99 {late} ms)"


def _closed(figures: Mapping[str, Any]) -> str:
    refused = f", {figures['refused']} refused" if figures["refused"] else ""
    return f"{figures['per_second']:,}/s, p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms{refused}"


def _engine_rows(figures: Mapping[str, Any]) -> list[Row]:
    def row(title: str, name: str, aim: str = "") -> Row:
        one = figures[name]
        proof = "each taken once" if one["complete"] else "**not complete**"
        return title, f"{one['per_second']:,}/s, {one['cpu_us_each']['all']:,} us CPU each ({proof})", aim

    cohorts = figures["cohorts"]
    parts = ", ".join(f"{name} {us}" for name, us in cohorts["cpu_us_each"].items() if name != "all")
    return [
        row("accepted -> handed over -> recorded, webhooks, low lane", "cohorts", "600 us / 250 us"),
        ("its CPU in us each by process (sandbox is not in the sum)", parts, ""),
        ("cohorts", f"{cohorts['cohorts']} of {cohorts['average_cohort']} on average", ""),
        row("the same over SMTP to the sandbox (the target is the limit)", "smtp"),
        row("one workflow each, remote activity", "one_workflow_each"),
        row("one workflow each, local activity + eager start", "one_workflow_each_local_eager"),
        ("ratio to one workflow each", f"{figures['ratio']}x (CPU {figures['cpu_ratio']}x)", "40x / 80x"),
        ("ratio to local activity + eager start", f"{figures['ratio_local_eager']}x", "reported"),
    ]


def _latency_rows(figures: Mapping[str, Any]) -> list[Row]:
    lone, steady = figures["lone"], figures["steady"]
    cpu = steady["cpu_us_each"]
    parts = ", ".join(f"{name} {us:,}" for name, us in cpu.items() if name not in ("all", "sandbox"))
    return [
        ("lone message: POST to 202", _ms(lone["post_to_accepted"]), ""),
        ("lone message: 202 to provider", _ms(lone["accepted_to_provider"]), "p99 60 ms / 20 ms"),
        ("lone message: 202 to recorded and visible", _ms(lone["accepted_to_recorded"]), ""),
        (f"{steady['offered_per_second']}/s: POST to 202", _ms(steady["post_to_accepted"]), ""),
        (f"{steady['offered_per_second']}/s: accepted to recorded", _ms(steady["accepted_to_recorded"]), ""),
        (
            f"{steady['offered_per_second']}/s: CPU each (cohorts of {steady['average_cohort']})",
            f"{cpu['all']:,} us ({parts})",
            "5,000 us",
        ),
    ]


def _http_rows(figures: Mapping[str, Any]) -> list[Row]:
    titles = {
        "ours": "one webhook call, body and signature included: our client",
        "aiohttp": "the same through aiohttp, with the same guards",
        "httpx": "the same through httpx, with the guard on the URL alone",
        "no_network": "the adapter alone: body and signature, nothing written",
    }
    clients = figures["clients"]
    return [
        (title, f"{clients[name]['cpu_us_each']} us CPU, {clients[name]['per_second']:,}/s, {clients[name]['ratio']}x", "")
        for name, title in titles.items()
    ]


def _memory_rows(figures: Mapping[str, Any]) -> list[Row]:
    drain = figures["drain"]
    proof = "each taken once" if drain["complete"] else "**not complete**"
    title = f"{drain['notifications']:,} webhooks in the low lane, accepted to recorded"
    rows: list[Row] = [(title, f"{drain['per_second']:,}/s, {drain['took_s']:.0f} s ({proof})", "")]
    for name, one in sorted(figures["memory"].items(), key=lambda item: -item[1]["peak_mib"]):
        slope = f"{one['slope_mib_per_minute']:+} MiB/min in its second half"
        rows.append((name, f"{one['start_mib']} -> peak {one['peak_mib']} -> {one['end_mib']} MiB, {slope}", "flat"))
    return rows


def _priority_rows(figures: Mapping[str, Any]) -> list[Row]:
    beside, saturated, tenants = figures["beside"], figures["saturated"], figures["tenants"]
    low, count = beside["low"], f"{beside['low']['notifications']:,}"
    proof = "each taken once" if low["complete"] else "**not complete**"
    return [
        ("high lane, idle: 202 to provider", _ms(figures["idle"]), ""),
        (f"the same while {count} drain in the low lane", _ms(beside["high"]), "p99 50 ms"),
        ("its p99 against idle", f"{figures['p99_times_idle']}x", "2x"),
        (
            "the low lane meanwhile",
            f"{low['per_second']:,}/s ({proof}), {figures['drain_share']}x of it alone",
            "reported",
        ),
        (
            f"the low lane while the high one is offered {saturated['high_offered_per_second']:,}/s",
            f"{saturated['low_done_per_second']:,}/s (high lane {saturated['high_done_per_second']:,}/s)",
            "> 0",
        ),
        ("four quiet tenants, medium lane: 202 to provider", _ms(tenants["alone"]), ""),
        (f"the same beside one that floods it with {tenants['noise']:,}", _ms(tenants["beside"]), ""),
        ("their p95 against that without it", f"{figures['p95_times_alone']}x", "2x"),
    ]


def _ms(figures: Mapping[str, float]) -> str:
    return f"p50 {figures['p50_ms']:.1f} ms, p95 {figures['p95_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms"


_ROWS = {
    "accept": _accept_rows,
    **dict.fromkeys(("engine", "engine-cluster-1", "engine-cluster-2"), _engine_rows),
    "latency": _latency_rows,
    "memory": _memory_rows,
    "priority": _priority_rows,
    "http": _http_rows,
}
