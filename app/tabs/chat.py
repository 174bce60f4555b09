"""Tab Chat: one prompt to the reference, the DPO and the AdaDPO model, answers side by side."""

import html

import gradio as gr

from adadpo_mini.errors import InputError
from adadpo_mini.models.generate import stream_answers
from adadpo_mini.toyworld.grammar import all_topics, find_topic
from adadpo_mini.toyworld.judge import judge
from app.engine import Engine
from app.runs import Run

PANES = {"reference": "Reference (before)", "dpo": "DPO", "adadpo": "AdaDPO"}
KIND_IN_WORDS = {
    "short": "helps",
    "detailed": "helps in detail",
    "rude": "rude",
    "plain_no": "declines plainly",
    "soft_no": "declines evasively",
}


def suggested_prompts() -> list[str]:
    """One held-out prompt from each domain of the toy world: no model was trained on them."""
    by_domain = {topic.domain: topic for topic in all_topics() if topic.held_out}
    return [topic.prompts[0].strip() for topic in by_domain.values()]


def verdict_line(prompt: str, answer: str) -> str:
    """What the toy world's judge says, or nothing outside the toy world."""
    if find_topic(prompt) is None:
        return ""
    verdict = judge(prompt, answer)
    if verdict.on_topic:
        return f"Judge: {KIND_IN_WORDS[verdict.kind]}, reward {verdict.reward} of 3"
    wrong = "about something else" if verdict.well_formed else "not a well-formed answer"
    return f"Judge: {wrong}, reward {verdict.reward}".replace(" -", " −")


def why_silent(name: str, run: Run | None) -> str:
    """Why a pane has no model to answer with."""
    if run is None:
        return "Nothing trained yet: start a race in the Train tab."
    if name not in run.methods:
        return f"{PANES[name]} is not in this race: tick it in the Train tab and start again."
    if run.status == "preparing":
        return "The race is still being prepared: ask again in a moment."
    return f"The race has left no model. {run.problem}".rstrip()


def as_text(text: str) -> str:
    """Typed or sampled text for a chat bubble, which takes HTML: shown as it is, so that nobody's
    text can make the browser load anything.

    >>> as_text("<img src=x>")
    '&lt;img src=x&gt;'
    """
    return html.escape(text, quote=False)


def build(engine: Engine, watched) -> None:
    """Lay out the tab and wire it up."""
    gr.Markdown(
        "Every model gets the same prompt and samples with the same seed. The toy model knows only "
        "its small world of everyday help; each prompt is answered on its own. While a race runs, "
        "you talk to the models as they are at that moment.",
        elem_classes="caption",
    )
    with gr.Row(elem_id="chat-panes"):
        panes = {
            name: gr.Chatbot(
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
            for name, label in PANES.items()
        }
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

    def answer(text, heat, sampling_seed, run_id, *history):
        text = (text or "").strip()
        if not text:
            raise gr.Error("Type a prompt first.", print_exception=False)
        run = engine.get(run_id)
        try:
            here = engine.chat_models(run)
        except InputError as problem:
            raise gr.Error(str(problem), print_exception=False) from problem
        models = {name: here.models[name] for name in PANES if name in here.models}
        before = {
            name: [*(turns or []), {"role": "user", "content": as_text(text)}]
            for name, turns in zip(PANES, history, strict=True)
        }

        def turns(answers: dict[str, str], final: bool) -> list:
            shown = []
            for name, messages in before.items():
                reply = answers.get(name, why_silent(name, run))
                verdict = verdict_line(text, reply) if final and name in answers else ""
                reply = as_text(reply or ("(nothing)" if final else ""))
                if verdict:
                    reply += f"<br><br><i>{verdict}</i>"
                shown.append([*messages, {"role": "assistant", "content": reply}])
            return shown

        answers: dict[str, str] = dict.fromkeys(models, "")
        sampling = {"temperature": heat, "seed": int(sampling_seed or 0), "form": here.form}
        try:
            for answers in stream_answers(models, here.tokenizer, text, **sampling):
                yield turns(answers, final=False)
        except (FloatingPointError, InputError) as problem:
            raise gr.Error(str(problem), print_exception=False) from problem
        yield turns(answers, final=True)

    inputs = [prompt, temperature, seed, watched, *panes.values()]
    for event in (send.click, prompt.submit):
        event(
            answer,
            inputs,
            list(panes.values()),
            concurrency_limit=4,
            show_progress="hidden",
            trigger_mode="once",
            api_visibility="private",
        )
