"""The Chat tab: one prompt for the reference, DPO and AdaDPO, with the answers side by side."""

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from adadpo_mini.errors import InputError
from adadpo_mini.models.generate import stream_answers
from adadpo_mini.toyworld.grammar import all_topics, find_topic
from adadpo_mini.toyworld.judge import judge

from ..engine import Engine
from ..markup import render
from ..runs import Run

Turns = list[dict[str, str]]
"""A conversation in one pane: messages with role and content."""

PANES = {"reference": "Reference (before)", "dpo": "DPO", "adadpo": "AdaDPO"}
KIND_IN_WORDS = {
    "short": "helps",
    "detailed": "helps in detail",
    "rude": "rude",
    "plain_no": "declines plainly",
    "soft_no": "declines evasively",
}


def suggested_prompts() -> list[str]:
    """Return a held-out prompt from each domain of the toy world; no model was trained on it."""
    by_domain = {topic.domain: topic for topic in all_topics() if topic.held_out}
    return [topic.prompts[0].strip() for topic in by_domain.values()]


def verdict_line(prompt: str, answer: str) -> str:
    """Return what the toy world's judge says; nothing for a prompt from outside the toy world."""
    if find_topic(prompt) is None:
        return ""
    verdict = judge(prompt, answer)
    if verdict.on_topic:
        return f"Judge: {KIND_IN_WORDS[verdict.kind]}, reward {verdict.reward} of 3"
    wrong = "about something else" if verdict.well_formed else "not a well-formed answer"
    return f"Judge: {wrong}, reward {verdict.reward}".replace(" -", " −")


def why_silent(name: str, run: Run | None) -> str:
    """Return why a pane has no model to answer with."""
    if run is None:
        return "Nothing trained yet: start a race in the Train tab."
    if name not in run.methods:
        return f"{PANES[name]} is not in this race: select it in the Train tab and start again."
    if run.status == "preparing":
        return "The race is still being prepared: ask again in a moment."
    return f"The race did not save a model. {run.problem}".rstrip()


def bubble(text: str, verdict: str = "") -> str:
    """Return the HTML of a chat bubble: typed or sampled text, escaped, and the judge's verdict.

    Gradio shows HTML in a bubble; unescaped, a text could make the browser load something.

    >>> bubble("<img src=x>", "Judge: rude")
    '&lt;img src=x&gt;<br><br><i>Judge: rude</i>'
    """
    return render("bubble.html", text=text, verdict=verdict)


INTRODUCTION = (
    "All models get the same prompt and sample with the same seed. The toy model knows only its "
    "small world of everyday help, and it does not remember earlier prompts. While a race runs, "
    "you talk to the models as they are at that moment. At temperature 1 they answer as often in "
    "each way as the curves say; below, they keep more to their likeliest answers."
)


def build(engine: Engine, watched: gr.State) -> None:
    """Lay out the tab and connect it.

    Args:
        watched: the id of the run that the page shows.
    """
    gr.Markdown(INTRODUCTION, elem_classes="caption")
    with gr.Row(elem_id="chat-panes"):
        panes = [_pane(name, label) for name, label in PANES.items()]
    with gr.Row():
        prompt = gr.Textbox(
            label="Prompt",
            placeholder="How do I …",
            value=suggested_prompts()[0],
            scale=6,
            elem_id="chat-prompt",
            max_length=500,
        )
        send = gr.Button("Send", variant="primary", scale=1, min_width=90, elem_id="chat-send")
    with gr.Row():
        temperature = gr.Slider(0, 1.5, 0.7, step=0.1, label="Temperature", min_width=160)
        seed = gr.Number(
            0, precision=0, minimum=0, maximum=2**31, label="Sampling seed", min_width=120
        )
    gr.Examples(suggested_prompts(), prompt, label="Held-out prompts to try")
    options = {"concurrency_limit": 4, "show_progress": "hidden", "trigger_mode": "once"}
    for event in (send.click, prompt.submit):
        event(
            Handlers(engine).answer,
            [prompt, temperature, seed, watched, *panes],
            panes,
            api_visibility="private",
            **options,
        )


def _pane(name: str, label: str) -> gr.Chatbot:
    return gr.Chatbot(
        label=label,
        elem_id=f"chat-{name}",
        height=380,
        min_width=240,
        buttons=[],
        feedback_options=None,
        render_markdown=False,
        placeholder="",
        elem_classes=f"pane-{name}",
    )


@dataclass(frozen=True)
class Handlers:
    """What the tab does when a prompt is sent."""

    engine: Engine

    def answer(
        self, prompt: str | None, heat: float, seed: int | None, shown: str | None, *history: Turns
    ) -> Iterator[list[Turns]]:
        """Stream the answers of all models; yields the conversation of each pane."""
        prompt = (prompt or "").strip()
        if not prompt:
            raise gr.Error("Type a prompt first.", print_exception=False)
        run = self.engine.get(shown)
        asked = [[*(turns or []), _message("user", bubble(prompt))] for turns in history]
        try:
            here = self.engine.chat_models(run)
            models = {name: here.models[name] for name in PANES if name in here.models}
            answers = dict.fromkeys(models, "")
            sampling = {"temperature": heat, "seed": int(seed or 0), "form": here.form}
            for answers in stream_answers(models, here.tokenizer, prompt, **sampling):
                yield _with_replies(asked, answers, run)
        except (FloatingPointError, InputError) as problem:
            raise gr.Error(str(problem), print_exception=False) from problem
        yield _with_replies(asked, answers, run, judged_for=prompt)


def _with_replies(
    asked: list[Turns], answers: dict[str, str], run: Run | None, judged_for: str = ""
) -> list[Turns]:
    """Return the conversations with an answer in each, and the verdicts once all is said."""
    shown = []
    for name, turns in zip(PANES, asked, strict=True):
        reply = answers.get(name, why_silent(name, run))
        verdict = verdict_line(judged_for, reply) if judged_for and name in answers else ""
        content = bubble(reply or ("(nothing)" if judged_for else ""), verdict)
        shown.append([*turns, _message("assistant", content)])
    return shown


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
