"""The page: its layout, and serving it."""

from pathlib import Path

import gradio as gr
import plotly

from app.engine import Engine
from app.runs import writable_root
from app.tabs import chat, train

STATIC = Path(__file__).parent / "static"
PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)


def build(engine: Engine) -> gr.Blocks:
    """The whole page."""
    gr.set_static_paths([PLOTLY_JS])
    with gr.Blocks(title="adadpo_mini", analytics_enabled=False) as page:
        gr.Markdown(
            "# DPO and AdaDPO, side by side\n"
            "Both learn from the same pairs of a **chosen** and a **rejected** answer. Watch what "
            "happens to the probability of each."
        )
        # The browser remembers the race it started; what it watches may be somebody else's.
        mine = gr.BrowserState(None, storage_key="adadpo_mini_run")
        watched = gr.State(None)
        with gr.Tab("Train", id="train"):
            train.build(page, engine, mine, watched, PLOTLY_JS)
        with gr.Tab("Chat", id="chat"):
            chat.build(engine, watched)
    return page


def serve(host: str, port: int, runs: Path) -> None:
    """Serve the page until interrupted.

    Args:
        runs: the folder of run folders, to which races are written.

    Raises:
        OSError: the port is taken.
    """
    engine = Engine(writable_root(runs))
    page = build(engine)
    page.launch(
        server_name=host,
        server_port=port,
        theme=THEME,
        css_paths=[STATIC / "theme.css"],
        footer_links=[],
        run_history=False,
        share=False,
        show_error=True,
        prevent_thread_lock=True,
        quiet=True,
    )
    print(f"The dashboard is on http://{host}:{port} (Ctrl-C stops it).", flush=True)
    engine.warm_up()  # after the page is up: importing transformers would slow its start
    page.block_thread()
