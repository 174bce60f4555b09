"""How long someone on the page waits, measured in a browser; a part of `make bench`."""

import time

import torch

from adadpo_mini.config import RaceConfig
from adadpo_mini.lockstep import Race
from tests.browser.live import GRAPH, browser, served

WAIT = 300_000  # ms
STEPS = 120


def open_page(context, url: str):
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector(GRAPH)
    return page


def set_steps(page, steps: int) -> None:
    page.locator("#run-steps input").fill(str(steps))
    page.locator("#run-steps input").press("Tab")


def time_race(page, steps: int) -> tuple[float, float]:
    """Return the seconds from Start to the first points, and to the end of the race."""
    set_steps(page, steps)
    before = page.locator(GRAPH).get_attribute("data-run")
    began = time.perf_counter()
    page.locator("#run-start").click()
    page.wait_for_function(
        f"""(before) => {{
          const graph = document.querySelector("{GRAPH}");
          return graph.dataset.run !== (before ?? undefined)
            && graph.data.length >= 4 && graph.data.every((trace) => trace.x?.length);
        }}""",
        arg=before,
        polling=20,
    )
    first = time.perf_counter() - began
    page.wait_for_function(
        "document.querySelector('#run-status').innerText.includes('Finished')", polling=50
    )
    return first, time.perf_counter() - began


def time_answer(page) -> float:
    """Return the seconds from Send to the first words in all three panes."""
    page.get_by_role("tab", name="Chat", exact=True).click()
    page.wait_for_selector("#chat-send")
    count = page.locator("#chat-panes .bot.message").count()
    began = time.perf_counter()
    page.locator("#chat-send").click()
    page.wait_for_function(
        """(n) => {
          const all = [...document.querySelectorAll("#chat-panes .bot.message")];
          return all.length >= n + 3 && all.every((m) => m.innerText.trim());
        }""",
        arg=count,
        polling=10,
    )
    taken = time.perf_counter() - began
    page.wait_for_timeout(3000)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.wait_for_selector(GRAPH)
    return taken


def time_stop(page) -> float:
    """Return the seconds from Stop until the status says so."""
    set_steps(page, 5000)
    page.locator("#run-start").click()
    page.wait_for_timeout(4000)
    began = time.perf_counter()
    page.locator("#run-stop").click()
    page.wait_for_function(
        "document.querySelector('#run-status').innerText.includes('Stopped')", polling=20
    )
    return time.perf_counter() - began


def time_headless(**settings) -> float:
    """Return the seconds of the same race without a page."""
    began = time.perf_counter()
    for _ in Race(RaceConfig(steps=STEPS, eval_every=2, **settings)).events():
        pass
    return time.perf_counter() - began


def measure(repeats: int) -> dict[str, list[float]]:
    """Return `repeats` of each wait, in seconds."""
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        times.setdefault(name, []).append(seconds)

    for _ in range(repeats):
        note("120-step race, headless", time_headless())
        note("the same without the slow measurements", time_headless(measure_every=0))
        with browser() as running:
            began = time.perf_counter()
            with served() as url:
                page = open_page(running.new_context(), url)
                note("python -m app until the page is usable", time.perf_counter() - began)
                note("click on Start at once until first points", time_race(page, 10)[0])
                first, whole = time_race(page, STEPS)
                note("click on Start until first points", first)
                note("120-step race, on the page", whole)
                note("click on Send until three answers begin", time_answer(page))
                note("click on Stop until stopped", time_stop(page))
    return times
