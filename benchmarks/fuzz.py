"""Call `fit`, and what takes a posterior, with random arguments, and count how the calls end.

    python benchmarks/fuzz.py --cases 10000

Cases are made by `tests/fuzzing/cases.py`, of which `tests/integration/test_fuzz.py` tries some
hundred in each run of the tests. Never may a call return NaN or infinity without a status that says
so, raise another error than the documented ones (a TypeError or ValueError that the library itself
raises), issue another warning than the documented ones, or not end. Case number n is repeated by

    python benchmarks/fuzz.py --only n

Cases run in processes of their own, a hundred in each: TensorFlow keeps what it has compiled. A
process that is silent for five minutes is ended, and its case counted as a violation.
"""

import argparse
import collections
import json
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

CASES_PER_FRAME = 50
CASES_PER_PROCESS = 100
SILENCE = 300.0  # seconds
RESULTS = pathlib.Path(__file__).parent / "results" / "fuzz.json"


def case_of(number: int):
    """Return a case by its number; cases that follow each other share a frame, and programs."""
    import numpy as np
    from fuzzing.cases import any_case, any_frame, wide_space
    from fuzzing.operations import OPERATIONS

    def choose_by(rng: np.random.Generator):
        return lambda values: values[rng.integers(len(values))]

    of_frame = choose_by(np.random.default_rng((0, number // CASES_PER_FRAME)))
    frame, space = any_frame(of_frame), wide_space(of_frame, tuple(OPERATIONS))
    return any_case(choose_by(np.random.default_rng((1, number))), frame, space)


def run_here(numbers: range) -> None:
    """Run cases in this process, and write a line before and after each."""
    from fuzzing.outcomes import outcomes_of

    for number in numbers:
        print(json.dumps({"begin": number}), flush=True)
        found = outcomes_of(case_of(number))
        print(json.dumps({"end": number, "outcomes": found}), flush=True)


def run_apart(numbers: range) -> Iterator[tuple[int, list]]:
    """Yield the number and the outcomes of cases that run in processes of their own."""
    first = numbers.start
    while first < numbers.stop:
        last = min(first + CASES_PER_PROCESS, numbers.stop)
        done = first
        for number, outcomes in _process(first, last):
            yield number, outcomes
            done = number + 1
        if done < last:
            yield done, [("fit", "violation", "the process ended, or was silent for 300 s")]
            done += 1
        first = done


def _process(first: int, last: int) -> Iterator[tuple[int, list]]:
    command = [sys.executable, __file__, "--inside", str(first), str(last)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines: queue.Queue = queue.Queue()

    def read() -> None:
        for line in child.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (line := lines.get(timeout=SILENCE)) is not None:
            found = json.loads(line) if line.startswith("{") else {}
            if "end" in found:
                yield found["end"], found["outcomes"]
    except queue.Empty:
        pass
    finally:
        child.kill()
        child.wait()


def tally(cases: Iterator[tuple[int, list]]) -> dict:
    """Count outcomes by call, kind and text, and keep the numbers of cases with violations."""
    counts: collections.Counter = collections.Counter()
    violations = collections.defaultdict(list)
    total = 0
    for number, outcomes in cases:
        total += 1
        for call, kind, text in outcomes:
            counts[(kind, call if kind != "status" else "fit", text)] += 1
            if kind == "violation":
                violations[f"{call}: {text}"].append(number)
                print(f"case {number}: {call}: {text}", flush=True)
        if total % CASES_PER_PROCESS == 0:
            write(total, counts, violations)
            print(f"{total} cases", flush=True)
    write(total, counts, violations)
    return {"cases": total, "counts": counts}


def write(total: int, counts: collections.Counter, violations: dict) -> None:
    """Write what has been counted so far."""
    from _common import versions

    by_kind: dict = collections.defaultdict(dict)
    for (kind, call, text), count in counts.most_common():
        by_kind[kind][f"{call}: {text}" if text else call] = count
    result = {
        "cases": total,
        "calls": sum(counts.values()),
        "violations": dict(violations),
        **{kind: by_kind[kind] for kind in ("status", "error", "returned")},
        "versions": versions(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--only", type=int, help="repeat one case, and show it")
    parser.add_argument("--inside", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        run_here(range(*given.inside))
    elif given.only is not None:
        print(case_of(given.only))
        run_here(range(given.only, given.only + 1))
    else:
        found = tally(run_apart(range(given.first, given.first + given.cases)))
        for (kind, call, text), count in sorted(found["counts"].items()):
            print(f"{count:7,d}  {kind:9}  {call}  {text}")


if __name__ == "__main__":
    main()
