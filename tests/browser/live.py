"""The real page in a real browser: serve it on a free port, open it in Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GRAPH = "#live-chart .js-plotly-plot"
POINTS = f"""() => {{
  const graph = document.querySelector("{GRAPH}");
  return Object.fromEntries((graph?.data ?? []).map((trace) => [trace.name, trace.x?.length ?? 0]));
}}"""
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Return the Chromium or Chrome of this machine; None leaves the choice to playwright."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def served(runs: Path | None = None) -> Iterator[str]:
    """Run `python -m app` on a free port; yield its address once it answers.

    Args:
        runs: the folder for its runs; by default a temporary one.
    """
    if runs is None:
        with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url:
            yield url
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", str(port), "--runs", str(runs)],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the page did not come up") from None
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


@contextmanager
def browser():
    """Yield a headless browser.

    Raises:
        playwright.sync_api.Error: no browser can be started.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        try:
            yield running
        finally:
            running.close()
