"""The two answers of a pair: alone, after a shared conversation, or after their prompt as text."""

from adadpo_mini.errors import shown
from adadpo_mini.pairs.columns import SIDES
from adadpo_mini.pairs.conversations import TURN, Message, dialogue_of
from adadpo_mini.pairs.messages import decode, read_conversation, with_line_feeds
from adadpo_mini.pairs.prompts import Prompt, as_text, is_same, two_prompts
from adadpo_mini.pairs.remarks import DECODED, REPEATED, Remarks
from adadpo_mini.pairs.unusable import UnusableRow

SEVERAL_TURNS = "with an answer of several turns"
LAST = "\n\nAssistant:"
Side = str | list[Message]


def read_sides(where: str, row: dict, remarks: Remarks) -> list[Side]:
    """Return chosen and rejected, each as text or messages.

    Messages that are stored as text are decoded only if both sides are such: otherwise one answer
    may simply be in JSON.
    """
    sides = [row["chosen"], row["rejected"]]
    if all(isinstance(side, str) for side in sides):
        stored = [decode(where, name, side) for name, side in zip(SIDES, sides, strict=True)]
        if None in stored:
            return [with_line_feeds(where, side, remarks) for side in sides]
        remarks.count(DECODED, where)
        sides = stored
    return [
        as_text(where, name, side, remarks)
        if isinstance(side, str)
        else read_conversation(where, name, side, remarks) or as_text(where, name, side, remarks)
        for name, side in zip(SIDES, sides, strict=True)
    ]


def answer_of(where: str, name: str, side: Side) -> str:
    """Return the text of an answer without its prompt.

    Raises:
        UnusableRow: it includes the user's next turn, which a model would learn to write itself,
            or is not the assistant's.
    """
    if isinstance(side, str):
        return side
    if len(side) != 1:
        raise several_turns(where, name)
    if (role := side[0]["role"]) != "assistant":
        raise UnusableRow(
            f"{where}: the last message of {name} has the role {shown(role)}; end it with an "
            "assistant message or drop the pair.",
            "with an answer that is not the assistant's",
        )
    return side[0]["content"]


def several_turns(where: str, side: str) -> UnusableRow:
    """Return the error for a side with more than one answer."""
    return UnusableRow(
        f"{where}: {side} has several turns after the shared prompt; keep one answer or drop the "
        "pair.",
        SEVERAL_TURNS,
    )


def after_prompt(
    where: str, prompt: Prompt, answers: list[str], remarks: Remarks
) -> tuple[Prompt, list[str]]:
    """Return the prompt and the answers without it, if both begin with it: as dialogues in the
    form of Anthropic's HH, or because they repeat the text of the prompt.

    Raises:
        UnusableRow: the answers are dialogues that do not end with the prompt.
    """
    head = _dialogue_head(*answers)
    asked = prompt.text or prompt.messages
    if head and not (prompt.text and dialogue_of(prompt.text)):
        if asked and not is_same(prompt, Prompt(messages=dialogue_of(head) or [], text=head)):
            raise two_prompts(where, "the prompt's column", "the beginning of both sides")
        if asked:
            remarks.count(REPEATED, where)
        return Prompt(head), [answer[len(head) :] for answer in answers]
    if prompt.text and _repeat(prompt.text, answers):
        remarks.count(REPEATED, where)
        return _without_repetition(prompt, answers)
    return prompt, answers


def _dialogue_head(chosen: str, rejected: str) -> str:
    """Return what two dialogues in the form of Anthropic's HH share up to the last "Assistant:".

    It is "" if the texts are not such dialogues.
    """
    for text in (chosen, rejected):
        if not text.lstrip().startswith("Human:"):
            return ""
    shared = _common_beginning(chosen, rejected)
    return shared[: shared.rindex(LAST) + len(LAST)] if LAST in shared else ""


def _common_beginning(some: str, other: str) -> str:
    """Search by halving: comparing character by character is slow on long texts."""
    least, most = 0, min(len(some), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if some[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return some[:least]


def _repeat(prompt: str, answers: list[str]) -> bool:
    """Return whether both answers begin with the prompt and go on after it.

    A greeting may be answered by the same word, so a prompt of one or two words counts only if it
    is a question or a line by itself.
    """
    asked = prompt.strip()
    rests = []
    for answer in answers:
        text = answer.lstrip()
        if not text.startswith(asked):
            return False
        rests.append(text[len(asked) :])
    if not all(rest.strip() for rest in rests):
        return False
    is_line = all(rest.lstrip(" ").startswith("\n") for rest in rests)
    is_long = len(asked.split()) > 2 or (not asked.isascii() and len(asked) > 5)
    return is_line or is_long or asked.endswith(("?", ":", "=", "？", "："))


def _without_repetition(prompt: Prompt, answers: list[str]) -> tuple[Prompt, list[str]]:
    if all(answer.startswith(prompt.text) for answer in answers):
        rests = [answer[len(prompt.text) :] for answer in answers]
    else:
        asked = prompt.text.strip()
        rests = [answer.lstrip()[len(asked) :] for answer in answers]
        if prompt.text[-1].isspace():
            rests = [rest.lstrip() for rest in rests]
    if all(rest.startswith("\n") for rest in rests):  # what separates them is not the answer's
        gap = min((rest[: len(rest) - len(rest.lstrip("\n"))] for rest in rests), key=len)
        prompt = prompt._replace(text=prompt.text + gap)
        rests = [rest[len(gap) :] for rest in rests]
    return prompt, rests


def check_texts(where: str, fields: dict[str, str]) -> None:
    """Raise an UnusableRow unless these texts are a preference."""
    for name, text in fields.items():
        if not text or text.isspace():
            raise UnusableRow(
                f"{where}: {name} is empty; add text or drop the pair.",
                "with an empty side",
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnusableRow(
                f"{where}: {name} has half a character (a lone surrogate such as \\ud83d); fix it "
                "or drop the pair.",
                "with half a character",
            ) from error
    if fields["chosen"] == fields["rejected"]:
        raise UnusableRow(
            f"{where}: chosen and rejected are equal, so there is no preference; drop the pair.",
            "with chosen equal to rejected",
        )


def check_one_turn(where: str, answers: list[str]) -> None:
    """Raise an UnusableRow if an answer in a dialogue goes on with the next turn."""
    for name, answer in zip(SIDES, answers, strict=True):
        if TURN.search(answer):
            raise several_turns(where, name)
