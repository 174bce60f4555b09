"""`make bench`: measure this machine with nothing else running, and print the tables."""

import argparse
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from tests.bench import growth, page, speed
from tests.bench.tables import bench_tables

PARTS = ("speed", "growth", "waits", "page")


def machine() -> dict[str, object]:
    """What was measured on."""
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
    """One part's measurements, told as they come."""
    if part in ("waits", "page"):
        return (growth.waits if part == "waits" else page.measure)(repeats)
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
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="the results")
    said = parser.parse_args()
    # A part measured alone takes its place among those that were measured before.
    found = json.loads(said.out.read_text()) if said.out.is_file() else {}
    found["machine"] = machine()
    found["works"] = [asdict(work) for work in speed.WORKS]
    for part in said.parts:
        found[part] = measure(part, said.repeats)
        said.out.write_text(json.dumps(found, indent=1) + "\n")
    print(bench_tables(said.out))


if __name__ == "__main__":
    main()
