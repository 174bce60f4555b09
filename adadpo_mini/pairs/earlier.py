"""What comes before the question: a system message, and earlier turns of the conversation."""

from adadpo_mini.pairs.columns import HISTORY, Layout, is_blank
from adadpo_mini.pairs.conversations import Message, text_of
from adadpo_mini.pairs.messages import read_conversation
from adadpo_mini.pairs.prompts import Prompt, as_messages, as_text, words
from adadpo_mini.pairs.remarks import Remarks
from adadpo_mini.pairs.unusable import UnusableRow


def with_earlier(where: str, row: dict, layout: Layout, prompt: Prompt, remarks: Remarks) -> Prompt:
    """Return the prompt after the system message and the earlier turns in a row's columns.

    Raises:
        UnusableRow: there are two different system messages, or the turns cannot be read.
    """
    if not (layout.systems or layout.has_history):
        return prompt
    system = _system(where, row, layout, prompt, remarks)
    history = _history(where, row[HISTORY], remarks) if layout.has_history else []
    earlier = [*system, *history]
    if not earlier or not (prompt.text or prompt.messages):
        return prompt
    if history and prompt.messages and prompt.messages[0]["role"] == "system":
        return Prompt(messages=prompt.messages[:1] + history + prompt.messages[1:])
    if not prompt.text:
        return Prompt(messages=earlier + prompt.messages)
    gap = "" if prompt.text.startswith("\n") else "\n"
    text = f"{text_of(earlier)[:-1]}{gap}{prompt.text}"
    return Prompt(text, earlier + (prompt.messages or as_messages(prompt.text)))


def _system(
    where: str, row: dict, layout: Layout, prompt: Prompt, remarks: Remarks
) -> list[Message]:
    """Return the system message that is in a column and not yet in the prompt."""
    texts = {
        name: as_text(where, name, row[name], remarks)
        for name in layout.systems
        if not is_blank(row[name])
    }
    known = [m["content"] for m in prompt.messages if m["role"] == "system"]
    if len({words(text) for text in (*texts.values(), *known)}) > 1:
        raise UnusableRow(
            f"{where}: there are two different system messages, in {' and '.join(texts)}"
            f"{' and in the messages' if known else ''}; keep one.",
            "with two system messages",
        )
    remarks.use(*texts)
    return [] if known else [Message(role="system", content=t) for t in [*texts.values()][:1]]


def _history(where: str, value: object, remarks: Remarks) -> list[Message]:
    """Return earlier turns: messages, or pairs of a question and its answer."""
    if is_blank(value) or value == "[]":
        return []
    talk = read_conversation(where, HISTORY, value, remarks)
    if talk is None:
        talk = _turns(where, value)
    remarks.use(HISTORY)
    return talk


def _turns(where: str, value: object) -> list[Message]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    talk = []
    for turn in value if isinstance(value, (list, tuple)) else [None]:
        turn = turn.tolist() if hasattr(turn, "tolist") else turn
        is_turn = isinstance(turn, (list, tuple)) and len(turn) == 2
        if not is_turn or not all(isinstance(said, str) for said in turn):
            raise UnusableRow(
                f"{where}: history is neither a list of messages nor of [question, answer]; write "
                "it as messages.",
                "with a history that cannot be read",
            )
        talk += [Message(role="user", content=turn[0]), Message(role="assistant", content=turn[1])]
    return talk
