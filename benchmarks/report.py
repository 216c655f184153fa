"""What the benchmarks share: a percentile, and one table that is printed and written as JSON."""

import json
import os
import platform
import resource
from pathlib import Path

__all__ = ["percentile", "report"]

RESULTS = Path(__file__).parent / "results"


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def report(title: str, rows: list[tuple[str, str, str, str]], file: str) -> None:
    """Prints the rows (what, measured, bar, remark) and writes them to benchmarks/results."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{title} on {machine}: make bench")
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    RESULTS.mkdir(exist_ok=True)
    results = {"machine": machine, "command": "make bench", "rows": rows, "bench_peak_mb": peak}
    (RESULTS / file).write_text(json.dumps(results, indent=2))
