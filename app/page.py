"""The page: its layout, and the server."""

import time
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import plotly

from .engine import Engine
from .runs import warn, writable_root
from .tabs import chat, train

STATIC = Path(__file__).parent / "static"
SAVING = 10  # seconds that races have to save what they learned, once the page is stopped
PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)


def build(engine: Engine) -> gr.Blocks:
    """Return the whole page."""
    gr.set_static_paths([PLOTLY_JS])
    with gr.Blocks(title="adadpo_mini", analytics_enabled=False) as page:
        gr.Markdown(
            "# DPO and AdaDPO, side by side\n"
            "Both learn from the same pairs of a **chosen** and a **rejected** answer. Watch what "
            "happens to the probability of each."
        )
        # The browser remembers the race it started; it may watch another one.
        mine = gr.BrowserState(None, storage_key="adadpo_mini_run")
        watched = gr.State(None)
        with gr.Tab("Train", id="train"):
            train.build(page, engine, mine, watched, PLOTLY_JS)
        with gr.Tab("Chat", id="chat"):
            chat.build(engine, watched)
    return page


def serve(
    host: str,
    port: int,
    runs: str | Path,
    *,
    when_up: Callable[[str], None] = lambda url: None,
    note: Callable[[str], None] = warn,
) -> None:
    """Serve the page until KeyboardInterrupt, which stops its races as their Stop button does.

    Args:
        host: an address, IPv6 without brackets, or a name of one.
        runs: the folder for run folders.
        when_up: called with the page's address once it can be opened.
        note: called with a sentence if the runs must go elsewhere.

    Raises:
        OSError: the port is taken, or the page cannot be reached.
    """
    engine = Engine(writable_root(runs, note))
    page = build(engine)
    host = f"[{host}]" if ":" in host else host
    try:
        page.launch(
            server_name=host,
            server_port=port,
            theme=THEME,
            css_paths=[STATIC / "theme.css"],
            footer_links=[],
            run_history=False,
            share=False,
            ssr_mode=False,  # a Space turns it on; the chart's script needs the browser
            show_error=True,
            prevent_thread_lock=True,
            quiet=True,
        )
    except ValueError as error:  # Gradio: the page does not answer, for example behind a proxy
        raise OSError(str(error)) from error
    when_up(f"http://{host}:{port}")
    engine.warm_up()  # after the page is up: importing transformers would slow its start
    try:
        while page.is_running:
            time.sleep(0.1)
    finally:
        _stop_races(engine)
        page.close(verbose=False)


def _stop_races(engine: Engine) -> None:
    """Stop the races of this server, and wait until they have saved what they learned."""
    own = engine.live_runs()
    for run in own:
        run.stop()
    deadline = time.monotonic() + SAVING
    while any(run.live for run in own) and time.monotonic() < deadline:
        time.sleep(0.05)
