"""`make screenshot`: a picture of the real page after a real race, in build/page.png."""

from pathlib import Path

from tests.browser.live import GRAPH, browser, served

OUT = Path(__file__).parents[2] / "build" / "page.png"


def main() -> None:
    """Take the picture and print where it is."""
    with served() as url, browser() as running:
        page = running.new_page(viewport={"width": 1280, "height": 760})
        page.set_default_timeout(300_000)
        page.goto(url)
        page.wait_for_selector(GRAPH)
        page.locator("#run-start").click()
        page.wait_for_function(
            "document.querySelector('#run-status').innerText.includes('Finished')"
        )
        page.wait_for_timeout(1500)
        page.mouse.move(1, 1)
        page.screenshot(path=OUT)
    print(OUT)


if __name__ == "__main__":
    main()
