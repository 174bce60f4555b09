"""What a visitor does, in a real browser: race, watch, stop, reload, chat."""

import re
import time

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from tests.browser.live import GRAPH, POINTS, browser, served  # noqa: E402

WAIT = 90_000  # ms; generous, since timing belongs to the bench
TRACES = {"dpo chosen", "dpo rejected", "adadpo chosen", "adadpo rejected"}


@pytest.fixture(scope="module")
def url():
    with served() as address:
        yield address


@pytest.fixture(scope="module")
def chrome():
    try:
        with browser() as running:
            yield running
    except playwright.Error as problem:
        pytest.skip(f"no Chromium on this machine: {str(problem).splitlines()[0]}")


@pytest.fixture
def page(chrome, url):
    """A new visitor's page; it records the addresses it requests and its errors."""
    context = chrome.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT)
    page = context.new_page()
    page.addresses, page.problems = [], []
    page.on("request", lambda request: page.addresses.append(request.url))
    page.on("websocket", lambda socket: page.addresses.append(socket.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url)
    page.wait_for_selector(GRAPH)
    yield page
    assert page.problems == []
    context.close()


def status(page) -> str:
    return page.locator("#run-status").inner_text()


def drawn_run(page) -> str | None:
    return page.locator(GRAPH).get_attribute("data-run")


def start(page, steps: int, click: str = "click") -> None:
    """Start a race and wait until the chart shows it, and not an earlier race."""
    before = drawn_run(page)
    page.locator("#run-steps input").fill(str(steps))
    page.locator("#run-steps input").press("Tab")
    getattr(page.locator("#run-start"), click)()
    page.wait_for_function(
        f"(before) => (document.querySelector('{GRAPH}').dataset.run ?? null) !== before",
        arg=before,
        timeout=WAIT,
    )


def wait_for_points(page, at_least: int) -> dict:
    page.wait_for_function(
        f"(n) => {{ const p = ({POINTS})(); const c = Object.values(p); "
        "return c.length >= 4 && c.every((k) => k >= n); }",
        arg=at_least,
        timeout=WAIT,
    )
    return page.evaluate(POINTS)


def wait_for_status(page, words: str) -> None:
    page.wait_for_function(
        "(words) => document.querySelector('#run-status').innerText.includes(words)",
        arg=words,
        timeout=WAIT,
    )


def last_replies(page) -> dict[str, str]:
    return {
        name: page.locator(f"#chat-{name} .bot.message").last.inner_text()
        for name in ("reference", "dpo", "adadpo")
    }


def test_a_race_grows_four_traces_finishes_and_three_models_answer(page, url):
    start(page, 30)
    early = wait_for_points(page, 1)
    assert set(early) == TRACES
    later = wait_for_points(page, max(early.values()) + 1)
    assert all(later[name] > early[name] for name in TRACES)
    wait_for_status(page, "Finished after 30 steps")
    page.wait_for_timeout(1000)
    assert page.evaluate(POINTS) == dict.fromkeys(TRACES, 16)  # steps 0, 2, ..., 30

    page.get_by_role("tab", name="Chat", exact=True).click()
    page.locator("#chat-prompt textarea").fill("How do I stir the vegan pasta?")
    page.locator("#chat-send").click()
    page.wait_for_function(
        "() => ['reference', 'dpo', 'adadpo'].every((name) => "
        "document.querySelector(`#chat-${name}`).innerText.includes('Judge:'))",
        timeout=WAIT,
    )
    replies = last_replies(page)
    assert all(len(reply) > 20 for reply in replies.values())

    outside = [a for a in page.addresses if not re.match(rf"{url}|{url.replace('http', 'ws')}", a)]
    assert [a for a in outside if not a.startswith(("data:", "blob:"))] == []


def test_the_chart_is_extended_not_redrawn_and_keeps_the_zoom(page):
    start(page, 5000)
    wait_for_points(page, 2)
    page.evaluate(f"() => {{ document.querySelector('{GRAPH}').marked = true; }}")
    page.evaluate(
        f"() => Plotly.relayout(document.querySelector('{GRAPH}'), {{'yaxis.range': [-7, 3]}})"
    )
    wait_for_points(page, 6)
    assert page.evaluate(f"() => document.querySelector('{GRAPH}').marked") is True
    axis = page.evaluate(f"() => document.querySelector('{GRAPH}').layout.yaxis.range")
    assert axis == [-7, 3]
    page.locator("#run-stop").click()
    wait_for_status(page, "Stopped")


def test_stop_stops_and_a_new_race_can_start(page):
    start(page, 5000)
    wait_for_points(page, 2)
    page.locator("#run-stop").click()
    wait_for_status(page, "Stopped at step")
    said = status(page)
    page.wait_for_timeout(1500)
    assert status(page) == said
    start(page, 2)
    wait_for_status(page, "Finished after 2 steps")


def test_a_second_click_on_start_leaves_the_first_race_alone(page):
    start(page, 5000, click="dblclick")
    run = drawn_run(page)
    wait_for_points(page, 2)
    assert page.locator("#run-start").is_disabled()
    assert drawn_run(page) == run
    steps = page.evaluate(f"() => document.querySelector('{GRAPH}').data.map((t) => t.x)")
    assert all(xs == list(range(0, 2 * len(xs), 2)) for xs in steps)
    page.locator("#run-stop").click()
    wait_for_status(page, "Stopped")


def test_reloading_keeps_the_run_and_another_browser_can_watch(page, chrome, url):
    start(page, 5000)
    wait_for_points(page, 2)
    page.reload()
    before = wait_for_points(page, 2)
    assert "of 5000" in status(page)
    assert page.locator("#run-steps input").input_value() == "5000"

    other = chrome.new_context().new_page()
    other.goto(url)
    seen = wait_for_points(other, max(before.values()))
    assert set(seen) == TRACES
    assert "started in another window" in status(other)
    assert other.locator("#run-stop").is_disabled()
    other.context.close()

    page.locator("#run-stop").click()
    wait_for_status(page, "Stopped")


def test_a_restart_of_the_server_keeps_its_runs_and_their_models_answer(chrome, tmp_path):
    with served(tmp_path) as address:
        page = chrome.new_context().new_page()
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.wait_for_selector(GRAPH)
        start(page, 6)
        wait_for_status(page, "Finished after 6 steps")
        page.wait_for_timeout(1000)
        drawn, said = page.evaluate(POINTS), status(page)
        page.context.close()
    with served(tmp_path) as address:
        page = chrome.new_context().new_page()
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.wait_for_selector(GRAPH)
        wait_for_status(page, "Finished after 6 steps")
        page.wait_for_timeout(1000)
        assert said.split("(")[1] in status(page) and page.evaluate(POINTS) == drawn
        assert page.locator("#run-steps input").input_value() == "6"
        page.get_by_role("tab", name="Chat", exact=True).click()
        page.locator("#chat-send").click()
        page.wait_for_function(
            "() => ['reference', 'dpo', 'adadpo'].every((name) => "
            "document.querySelector(`#chat-${name}`).innerText.includes('Judge:'))",
            timeout=WAIT,
        )
        page.context.close()


def test_text_in_the_chat_is_shown_literally_and_loads_nothing(page, url):
    page.get_by_role("tab", name="Chat", exact=True).click()
    typed = "<img src=nothing> **hi** ![a](http://127.0.0.1:9/a.png)"
    page.locator("#chat-prompt textarea").fill(typed)
    page.locator("#chat-send").click()
    page.locator("#chat-reference .bot.message").last.wait_for(timeout=WAIT)
    page.wait_for_timeout(3000)
    assert page.locator("#chat-reference .user.message").last.inner_text().strip() == typed
    assert not [address for address in page.addresses if "nothing" in address or ":9/" in address]


def test_bad_settings_are_explained_in_words(page):
    page.locator("#run-beta input").fill("0")
    page.locator("#run-start").click()
    page.get_by_text("beta must be positive", exact=False).first.wait_for(timeout=WAIT)


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("tab", ["Train", "Chat"])
def test_nothing_is_cut_off_at_any_width(page, width, tab):
    page.set_viewport_size({"width": width, "height": 900})
    page.get_by_role("tab", name=tab, exact=True).click()
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if tab == "Train":
        box = page.locator(GRAPH).bounding_box()
        plot = page.evaluate(f"document.querySelector('{GRAPH}')._fullLayout.width")
        assert plot <= box["width"] + 1 and box["x"] + box["width"] <= width


def test_the_seed_decides_the_numbers(page):
    def last_values():
        start(page, 4)
        wait_for_status(page, "Finished after 4 steps")
        page.wait_for_timeout(1000)
        return page.evaluate(
            f"() => document.querySelector('{GRAPH}').data.map((t) => t.y.slice(-1)[0])"
        )

    first = last_values()
    time.sleep(0.5)
    assert last_values() == first
