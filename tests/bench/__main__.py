"""`make bench`: measure this machine and print the tables. Let nothing else run beside it."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from adadpo_mini.errors import InputError
from adadpo_mini.system.files import check_can_write, replace_text
from tests.bench import growth, keeping, page, speed
from tests.bench.tables import bench_tables

PARTS = ("speed", "growth", "waits", "page", "keeping")


def machine() -> dict[str, object]:
    """Return what the measurements were made on: processor, system, versions, matmul speed."""
    import transformers
    import trl

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "fp32 matmul GFLOP/s": round(speed.matmul_peak(False) / 1e9),
        "bf16 matmul GFLOP/s": round(speed.matmul_peak(True) / 1e9),
    }


def measure(part: str, repeats: int) -> object:
    """Measure one part, and print what takes long as it comes."""
    whole = {"waits": growth.waits, "page": page.measure, "keeping": keeping.measure}
    if part in whole:
        return whole[part](repeats)
    rows = []
    for row in speed.measure(repeats) if part == "speed" else growth.growth():
        rows.append(row)
        half = "bf16" if row["half"] else "fp32"
        seconds = sorted(row["seconds"])[len(row["seconds"]) // 2]
        print(f"{row['work']}, {row['engine']}, {half}: {seconds:.3f} s a step", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="file for the results")
    arguments = parser.parse_args()
    try:
        run(arguments.parts, arguments.repeats, arguments.out)
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(bench_tables(arguments.out))


def run(parts: Sequence[str], repeats: int, out: Path) -> None:
    """Measure these parts; in `out` they replace earlier measurements of the same parts.

    Raises:
        InputError: `out` is another file; it is left unchanged.
        WriteError: `out` cannot be written; nothing has been measured.
    """
    found = measured_before(out)
    check_can_write(out)
    found["machine"] = machine()
    found["works"] = [asdict(work) for work in speed.WORKS]
    for part in parts:
        found[part] = measure(part, repeats)
        replace_text(out, json.dumps(found, indent=1) + "\n")


def measured_before(out: Path) -> dict:
    """Return the contents of a file of results; empty if the file does not exist.

    Raises:
        InputError: the file is not one of the bench's.
    """
    try:
        if not out.exists():
            return {}
        found = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{out} cannot be read ({error}); give another file.") from error
    if not isinstance(found, dict) or "machine" not in found:
        raise InputError(f"{out} does not contain results of the bench; give another file.")
    return found


if __name__ == "__main__":
    main()
