"""The README's first screen, made from one race: a pair, a picture, three answers, the finding.

    python -m tests.bench.readme           write text and picture from the committed race and sweep
    python -m tests.bench.readme --race    run the race again first (a minute)

The race has the default settings and seed 0, so the page shows the same after Start. The pair is
the first held-out one, and the models answer its prompt: nothing is picked by eye. Also writes the
table of presets in the data card. The picture needs a Chromium.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly
import plotly.graph_objects as go

from adadpo_mini.doctor.presets import PRESETS
from adadpo_mini.figures import LABELS, trajectory_figure
from adadpo_mini.paper.control_claims import CONTROLS, FAIR
from adadpo_mini.paper.findings import AGAINST_DPO, standing
from adadpo_mini.paper.results import read_measurements
from adadpo_mini.paper.tables import write_between
from adadpo_mini.system.files import replace_text
from adadpo_mini.system.markdown import markdown_table
from adadpo_mini.toyworld import data_dir

RESULTS = data_dir() / "results"
README, DATA_CARD = data_dir().parent / "README.md", data_dir() / "README.md"
RACE, PICTURE = RESULTS / "race.json", RESULTS / "race.svg"
METHODS = ("dpo", "adadpo", "fixed_ratio")
DRAWN = ("step", "eval_loss", "eval_shift/chosen", "eval_shift/rejected")
QUESTIONS = {
    "against DPO at equal settings": AGAINST_DPO["At equal settings, against DPO"],
    "where DPO beats its own reference": AGAINST_DPO["Only where DPO beats its own reference"],
}
AT_ITS_BEST = {
    "against a constant of its own mean ρ": "Beats the constant that equals its own mean ρ",
    "against DPO + NLL": "Beats DPO + NLL (RPO)",
}
"""What the finding says, by its words: over the grid, and at DPO's best setting."""
SHOWN = {"reference": "before training", "dpo": "after **DPO**", "adadpo": "after **AdaDPO**"}
WIDTH, HEIGHT = 800, 280  # of the picture, pixels
MARGIN = {"l": 62, "r": 186, "t": 8, "b": 40}
LINE = 16  # pixels between two labels


def run_race() -> dict:
    """Run the race; return its settings, one pair, answers to its prompt, and what is drawn."""
    from adadpo_mini import race
    from adadpo_mini.models.generate import stream_answers
    from adadpo_mini.pairs import load_pairs

    result = race("tone", methods=METHODS, seed=0, match_ratio=True)
    pair = load_pairs("tone", split="test")[0]
    models = {"reference": result.reference, **result.models}
    *_, answers = stream_answers(models, result.tokenizer, pair["prompt"].strip())
    events = {
        method: [{name: event[name] for name in DRAWN} for event in log if "eval_loss" in event]
        for method, log in result.events.items()
    }
    return {
        "settings": result.config.as_dict(),
        "pair": dict(pair),
        "answers": answers,
        "methods": result.summary["methods"],
        "events": events,
    }


def pair_table(found: Mapping) -> str:
    """Return the pair and the answers to its prompt, in Markdown."""
    pair, answers = found["pair"], found["answers"]
    rows = [("chosen", pair["chosen"]), ("rejected", pair["rejected"])]
    rows += [(label, answers[name]) for name, label in SHOWN.items()]
    return markdown_table(("", pair["prompt"].strip()), rows)


def finding(results: Path) -> str:
    """Return the result of the sweep of the paper, in one sentence; AdaDPO is its subject."""
    rows = read_measurements(results)
    rivals = {claim.title: claim for claim in CONTROLS[FAIR]}
    said = {title: standing(claim, rows) for title, claim in QUESTIONS.items()}
    said |= {title: standing(rivals[claim], rows) for title, claim in AT_ITS_BEST.items()}
    text = "; ".join(f"{title}: {words}" for title, words in said.items())
    return f"**The finding** on this toy, for AdaDPO {text} ([intervals](data/results/claims.md))."


def presets_table() -> str:
    """Return what people ask about their runs, with the preset that reproduces it, in Markdown."""
    rows = [(preset.question, f"`{name}`") for name, preset in PRESETS.items()]
    return markdown_table(("what you ask", "preset"), rows)


def texts() -> list[tuple[Path, str, str]]:
    """Return (document, name of the markers, text) of everything that is written into documents."""
    found = json.loads(RACE.read_text(encoding="utf-8"))
    return [
        (README, "pair", pair_table(found)),
        (README, "finding", finding(RESULTS / "paper.csv")),
        (DATA_CARD, "presets", presets_table()),
    ]


def race_picture(events: Mapping[str, Sequence[Mapping]]) -> go.Figure:
    """Return the race's figure with each line named at its end, as a picture has no hover text."""
    figure = trajectory_figure(events)
    figure.update_traces(line_simplify=False)  # so that every point is in the file
    values = [y for trace in figure.data for y in trace.y]
    low, high = min(values) - 4, max(values) + 4
    steps = max(x for trace in figure.data for x in trace.x)
    figure.update_layout(
        width=WIDTH, height=HEIGHT, margin=MARGIN, showlegend=False, font_family="sans-serif"
    )
    figure.update_xaxes(range=[0, steps])
    figure.update_yaxes(range=[low, high], title="change in log-prob (nats)")
    per_nat = (HEIGHT - MARGIN["t"] - MARGIN["b"]) / (high - low)
    above = float("-inf")
    for trace in sorted(figure.data, key=lambda trace: -trace.y[-1]):
        method, side = trace.name.split()
        wanted = (high - trace.y[-1]) * per_nat
        above = max(wanted, above + LINE)
        figure.add_annotation(
            x=steps, y=trace.y[-1], xanchor="left", yanchor="middle", xshift=6,
            yshift=wanted - above, showarrow=False, font={"color": trace.line.color, "size": 13},
            text=f"<b>{LABELS[method]} {side}</b> {_signed(trace.y[-1])}",
        )  # fmt: skip
    return figure


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def draw(figure: go.Figure, out: Path) -> None:
    """Write the figure as SVG, drawn by plotly.js in a Chromium; no request leaves the machine."""
    from tests.browser.live import browser

    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    with browser() as running:
        page = running.new_page()
        page.set_content("<div id=plot></div>")
        page.add_script_tag(path=script)
        address = page.evaluate(
            """async ([figure, size]) => {
              await Plotly.newPlot("plot", figure.data, figure.layout);
              return Plotly.toImage("plot", {format: "svg", ...size});
            }""",
            [json.loads(figure.to_json()), {"width": WIDTH, "height": HEIGHT}],
        )
        svg = page.evaluate(
            "(address) => decodeURIComponent(address.slice(address.indexOf(',') + 1))", address
        )
    replace_text(out, svg + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.readme",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--race", action="store_true", help="run the race again")
    arguments = parser.parse_args()
    if arguments.race:
        replace_text(RACE, json.dumps(run_race(), indent=1, ensure_ascii=False) + "\n")
    for document, name, text in texts():
        write_between(document, name, text)
    draw(race_picture(json.loads(RACE.read_text(encoding="utf-8"))["events"]), PICTURE)


if __name__ == "__main__":
    main()
