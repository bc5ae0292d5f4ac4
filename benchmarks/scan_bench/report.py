"""The run as a markdown page."""

from __future__ import annotations

from typing import Any

from scan_bench.problem import BOUNDARIES, Shape
from scan_bench.records import Ceiling, Mode, Record
from scan_bench.verdicts import Verdict

MODE_TITLES: dict[str, dict[Mode, str]] = {
    "cpu": {"cold": "cold, ms (min to max)", "warm": "warm, ms"},
    "cuda": {"cold": "graph, cold, ms (min to max)", "warm": "graph, warm, ms", "eager": "launched singly, ms"},
}

LEGEND = (
    "Times are medians; cold: buffers in turn, together larger than the last cache. Gexp/s, GB/s (what must be moved "
    "at least) and their shares of the ceilings are of the cold time. Errors are against f64. Workspace: peak beyond "
    "inputs and result."
)


def markdown(
    head: dict[str, Any], shapes: list[Shape], ceilings: list[Ceiling], records: list[Record], verdicts: list[Verdict]
) -> str:
    """The whole page."""
    kind = head["device"]
    lines = ["# Selective scan", "", *_machine(head), "", *_ceilings(ceilings), ""]
    for boundary in BOUNDARIES.values():
        chosen = [record for record in records if record.boundary == boundary]
        if chosen:
            lines += [f"## {boundary}", "", *_table(kind, shapes, chosen), ""]
    return "\n".join([*lines, "## Verdicts", "", *verdict_table(verdicts)]) + "\n"


def _machine(head: dict[str, Any]) -> list[str]:
    machine, versions = head["machine"], head["versions"]
    name = f"{machine['gpu']}, driver {machine['driver_version']}" if head["device"] == "cuda" else machine["cpu"]
    tools = ", ".join(f"{tool} {version}" for tool, version in versions.items())
    return [
        f"{name}; {machine['usable_cores']} cores; load {machine['load_before']} before; {head['date']}; {tools}.",
        f"Storage type {head['options']['dtype']}, {head['options']['decay']} decay. {LEGEND}",
    ]


def _ceilings(ceilings: list[Ceiling]) -> list[str]:
    if not ceilings:
        return ["Ceilings: not measured."]
    lines = ["| ceiling | threads | per second |", "|---|---|---|"]
    units = {"exp": "Gexp", "fma": "GFMA", "copy": "GB read and written"}
    for ceiling in ceilings:
        rate = f"{ceiling.per_second / 1e9:.4g} {units[ceiling.name]}"
        lines.append(f"| {f'{ceiling.name} {ceiling.variant}'.strip()} | {ceiling.threads or 'GPU'} | {rate} |")
    return lines


def _table(kind: str, shapes: list[Shape], records: list[Record]) -> list[str]:
    titles = MODE_TITLES[kind]
    columns = ["shape", "row", *(["threads"] if kind == "cpu" else []), *titles.values()]
    columns += ["Gexp/s", "of ceiling", "GB/s", "of ceiling", "rel. L2", "worst channel", "workspace, MB"]
    lines = ["; ".join(f"{shape.name}: {shape.sizes}" for shape in shapes), ""]
    lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    left_out: dict[str, list[str]] = {}
    for record in records:
        who = [record.shape, record.label, *([str(record.threads)] if kind == "cpu" else [])]
        if record.status == "measured":
            lines.append(f"| {' | '.join([*who, *_figures(record, list(titles))])} |")
        elif record.status == "wrong":
            lines.append(f"| {' | '.join(who)} | WRONG: {record.reason} {'| ' * (len(columns) - len(who))}".rstrip())
        else:
            left_out.setdefault(f"{record.label}, not measured ({record.reason})", []).append(_where(record))
    notes = [f"- {what}: {', '.join(dict.fromkeys(where))}" for what, where in left_out.items()]
    return [*lines, *(["", *notes] if notes else [])]


def _where(record: Record) -> str:
    return record.shape if record.threads == 0 else f"{record.shape} with {_threads(record.threads)}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _figures(record: Record, modes: list[Mode]) -> list[str]:
    cells = []
    for mode in modes:
        timing = record.timings.get(mode)
        text = "-" if timing is None else _ms(timing.median)
        if timing is not None and mode == "cold":
            text += f" ({_ms(min(timing.taken))} to {_ms(max(timing.taken))})"
        cells.append(text)
    assert record.error is not None
    return [
        *cells,
        *_rate(record.exps_per_s, record.exp_share),
        *_rate(record.bytes_per_s, record.copy_share),
        f"{record.error.relative_l2:.1e}",
        f"{record.error.worst_channel:.1e}",
        "-" if record.workspace_bytes is None else f"{record.workspace_bytes / 1e6:.1f}",
    ]


def _rate(rate: float | None, share: float | None) -> tuple[str, str]:
    return "-" if rate is None else f"{rate / 1e9:.3g}", "-" if share is None else f"{share:.1%}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"


def verdict_table(verdicts: list[Verdict]) -> list[str]:
    """Promise, figure, limit, outcome."""
    if not verdicts:
        return ["None: the promises are about f32 on a CPU and bf16 on a GPU."]
    lines = ["| promise | shape | threads | found | promised | verdict |", "|---|---|---|---|---|---|"]
    unknown: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.outcome == "not measured":
            where = verdict.shape if verdict.threads == 0 else f"{verdict.shape} with {_threads(verdict.threads)}"
            unknown.setdefault((verdict.promise, verdict.reason), []).append(where)
            continue
        found = "-" if verdict.value is None else f"{verdict.value:.2f}"
        limit = f"{'at least' if verdict.at_least else 'at most'} {verdict.limit:g}"
        outcome = f"{verdict.outcome} ({verdict.reason})" if verdict.reason else verdict.outcome
        threads = verdict.threads or "GPU"
        lines.append(f"| {verdict.promise} | {verdict.shape} | {threads} | {found} | {limit} | {outcome} |")
    if unknown:
        lines.append("")
    lines += [f"- {promise}: not measured ({why}): {', '.join(where)}" for (promise, why), where in unknown.items()]
    return lines
