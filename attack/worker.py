"""The process in which the cases of an attack run.

It reads the numbers of cases, and writes one JSON object a case. A case may crash this process.
Then the process that started it notes the crash and starts another.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from attack.case import Attack, Case, PromiseBroken, load


def main() -> None:
    name, seed, shared, folder = sys.argv[1:]
    faulthandler.enable()
    # Libraries of the cases may print; the answers have a stream of their own.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        attack = load(name)
        signal.signal(signal.SIGALRM, _out_of_time)
        for line in sys.stdin:
            case = Case(name, int(seed), int(line), Path(shared), Path(folder) / line.strip())
            case.folder.mkdir()
            print(json.dumps(run_case(attack, case)), file=answers, flush=True)


def run_case(attack: Attack, case: Case) -> dict[str, Any]:
    """Run a case; return its number, kind, outcome, seconds, and what broke, if anything."""
    started = time.monotonic()
    broken = None
    signal.alarm(attack.seconds)
    try:
        attack.run(case)
    except PromiseBroken as error:
        broken = str(error)
    except Exception:
        broken = traceback.format_exc()
    finally:
        signal.alarm(0)
    if broken:
        case.note(f"\nPromise broken: {broken}")
    return {
        "number": case.number,
        "kind": case.kind,
        "outcome": "promise broken" if broken else case.outcome,
        "tries": case.tries,
        "seconds": round(time.monotonic() - started, 3),
        "broken": broken,
    }


def _out_of_time(_: int, frame: FrameType | None) -> None:
    stack = "".join(traceback.format_stack(frame, limit=4))
    raise PromiseBroken(f"out of time; it was in\n{stack}")


if __name__ == "__main__":
    main()
