"""Run all benchmarks, one after the other, and write docs/benchmarks.md."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.processes import ROOT
from benchmarks.report import busy_warning

SCRIPTS = (
    "startup",
    "exact_search",
    "memory",
    "indexing",
    "query",
    "verification",
    "metrics",
    "protocol_memory",
    "explore",
    "collect",
    "cleaning",
    "augmentation",
    "training",
    "serving",
    "serving_load",
    "search_page",
    "browsing",
)


def main() -> int:
    if warning := busy_warning():
        print(warning, file=sys.stderr)
    page = str(ROOT / "docs" / "benchmarks.md")
    failed = []
    for script in SCRIPTS:
        print(f"\n{script}\n", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{script}", "--docs", page, *sys.argv[1:]]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(script)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
