"""`python -m app`: serve the dashboard."""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m app", description="Serve the dashboard.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="the folder of run folders (default: runs)"
    )
    arguments = parser.parse_args()

    # Before torch is imported: live races share the cores by having one thread a method.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from app.page import serve

    try:
        serve(arguments.host, arguments.port, arguments.runs)
    except OSError:
        print(
            f"python -m app: cannot listen on {arguments.host}:{arguments.port}; if something runs "
            "there already, give another port with --port.",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
