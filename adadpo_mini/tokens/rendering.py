"""What a chat template writes for a prompt and its answers, and whether it writes all of it."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adadpo_mini.errors import shown
from adadpo_mini.pairs.conversations import Message
from adadpo_mini.pairs.unusable import UnusableRow
from adadpo_mini.tokens.special import special_pattern
from adadpo_mini.types import Tokenizer

QUESTION, ANSWER = "Xqzj", "Zjqx"  # words that no template writes itself
PROBE = (Message(role="user", content=QUESTION), Message(role="assistant", content=ANSWER))
WITH_SYSTEM = (Message(role="system", content="Be kind."), *PROBE)
CLOSING_TAG = re.compile(r"</\w+>\s*\Z|\[/\w+\]\s*\Z")
REASONING = re.compile(r"<(think\w*)>.*?</\1>|\A.*</think\w*>", re.DOTALL)
# How a prompt begins if a well-known chat template has written it.
ANY_TEMPLATE = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>)?\s*(<\|im_start\|>|<\|start_header_id\|>|\[INST\]|"
    r"<start_of_turn>|<\|(?:user|User|system|start_of_role)\|>|<｜User｜>)"
)


@dataclass(frozen=True)
class Written:
    """What a model reads for a prompt and its answers, as text.

    Attributes:
        prompt: everything before the answers.
        answers: everything after it, without the end token.
        unreasoned: the template left the reasoning out of an answer.
    """

    prompt: str
    answers: tuple[str, ...]
    unreasoned: bool = False


class ChatTemplate:
    """A tokenizer's chat template.

    Attributes:
        in_parts: whether it reads the content of a message as a list of parts, not as text.
        end: the special token that it writes after an answer; None if there is none, or if the
            template rejects a plain question and answer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = special_pattern(tokenizer)
        self.in_parts, written = self._form()
        self.end = written and self._end_of(written)
        self._before, self._after = self._marks()

    def answers(self, where: str, messages: Sequence[Message], answers: Sequence[str]) -> Written:
        """Return what the template writes for a prompt and its answers.

        The prompt is what the template writes before an answer, whether it is asked for one or has
        one: the common prefix of both. They differ in templates for models that reason, which open
        a "<think>" when they ask, but leave the reasoning out of an answer.

        Raises:
            UnusableRow: the template rejects the conversation or leaves out a part of it, or the
                conversation contains special tokens or is already written by a template.
        """
        self._check_plain(where, messages)
        for answer in answers:
            self._check_special(where, "the answer", answer)
        asked = self._write(where, messages, generate=True)
        talks = [[*messages, Message(role="assistant", content=text)] for text in answers]
        whole = [self._write(where, talk) for talk in talks]
        prompt = asked
        if not all(text.startswith(asked) for text in whole):
            prompt = os.path.commonprefix([self.prompt_of(messages, asked), *whole])
        self._check_whole(where, messages, prompt)
        rest = tuple(self._body(text[len(prompt) :]) for text in whole)
        # The prompt may end with what an answer begins with, such as "<think>".
        opened = prompt.rpartition(messages[-1]["content"].strip())[2]
        dropped = [
            _lacks_reasoning(where, answer, opened, text)
            for answer, text in zip(answers, rest, strict=True)
        ]
        return Written(prompt, rest, any(dropped))

    def prompt(self, where: str, messages: Sequence[Message]) -> str:
        """Return what the template writes for a prompt before any answer.

        Raises:
            UnusableRow: as `answers`.
        """
        self._check_plain(where, messages)
        prompt = self.prompt_of(messages, self._write(where, messages, generate=True))
        self._check_whole(where, messages, prompt)
        return prompt

    def prompt_of(self, messages: Sequence[Message], asked: str) -> str:
        """Return the part of `asked` that the template also writes if there is an answer."""
        answer = self._try([*messages, PROBE[-1]])
        return asked if answer is None else os.path.commonprefix([asked, answer])

    def render(self, messages: Iterable[Message], *, generate: bool = False) -> str:
        """Return what the template writes.

        Args:
            generate: whether it is to write the beginning of an answer at the end.

        Raises:
            Exception: a template is a program, and raises what it likes.
        """
        talk = [dict(message) for message in messages]
        if self.in_parts:
            for message in talk:
                message["content"] = [{"type": "text", "text": message["content"]}]
        return self._tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=generate
        )

    def _try(self, messages: Iterable[Message], *, generate: bool = False) -> str | None:
        try:
            return self.render(messages, generate=generate)
        except Exception:
            return None

    def _write(self, where: str, messages: Sequence[Message], *, generate: bool = False) -> str:
        try:
            return self.render(messages, generate=generate)
        except Exception as error:
            asked = next((m for m in reversed(messages) if m["role"] != "assistant"), messages[-1])
            raise UnusableRow(
                f"{_at(where)}the model's chat template rejects the prompt "
                f"{shown(asked['content'])} ({error}); fix its roles or drop the pair.",
                "that the chat template rejects",
            ) from error

    def _form(self) -> tuple[bool, str | None]:
        """Return (in parts, what it writes for a question and an answer), if it writes both."""
        for talk in (PROBE, WITH_SYSTEM):
            for self.in_parts in (False, True):
                text = self._try(talk) or ""
                if ANSWER in text.partition(QUESTION)[2]:
                    return self.in_parts, text
        return False, None

    def _end_of(self, written: str) -> str | None:
        found = self._special and self._special.search(written.rpartition(ANSWER)[2])
        return found[0] if found else None

    def _marks(self) -> tuple[str, str]:
        """Return what the template writes before and after a question, special tokens excepted."""
        before, _, after = (self._try(PROBE[:1], generate=True) or "").partition(QUESTION)
        sides = (self._special.sub(" ", s) if self._special else s for s in (before, after))
        return tuple(side.strip() for side in sides)

    def _check_plain(self, where: str, messages: Sequence[Message]) -> None:
        """Check that no template has been applied to the prompt before."""
        for message in messages:
            text = message["content"]
            self._check_special(where, "the prompt", text)
            if message["role"] != "user":
                continue
            if found := ANY_TEMPLATE.match(text):
                raise _marked(where, "the prompt", shown(found[1]))
            if self._has_marks(text.strip()):
                raise _marked(where, "the prompt", f"{self._after!r} at its end")

    def _has_marks(self, text: str) -> bool:
        """Return whether a question is between the words that the template puts around one."""
        if not self._before or not self._after:
            return False
        first, last = self._before.split()[-1], self._after.split()[-1]
        if first.isalnum() or last.isalnum() or not text.endswith(last):
            return False
        return text.startswith((first, self._before)) and text not in (first, last)

    def _check_special(self, where: str, what: str, text: str) -> None:
        found = self._special and self._special.search(text)
        if found:
            raise _marked(where, what, shown(found[0]))

    def _check_whole(self, where: str, messages: Sequence[Message], prompt: str) -> None:
        """Check that a written prompt contains its messages, reasoning in old answers excepted."""
        for message in messages:
            text = message["content"]
            if message["role"] == "assistant":
                text = REASONING.sub("", text)
            if not _contains(prompt, text):
                what = {"user": "the question", "system": "the system message"}
                raise _incomplete(where, what.get(message["role"], "an earlier answer"), text)

    def _body(self, rest: str) -> str:
        """Return what the template writes of an answer before the token that ends it."""
        before, end, _ = rest.partition(self.end) if self.end else (rest, "", "")
        return before if end else rest.rstrip()


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _lacks_reasoning(where: str, answer: str, opened: str, written: str) -> bool:
    """Return whether the reasoning was left out of an answer; nothing else may be left out."""
    if _contains(written, answer) or _contains(opened + written, answer):
        return False
    said = written.strip()
    at = answer.rfind(said) if said else -1
    if at > 0 and CLOSING_TAG.search(answer[:at]):
        return True
    raise _incomplete(where, "a part of the answer", answer)


def _contains(written: str, text: str) -> bool:
    """Return whether a text was written; the template may change its white space."""
    return text.strip() in written or "".join(text.split()) in "".join(written.split())


def _marked(where: str, what: str, found: str) -> UnusableRow:
    return UnusableRow(
        f"{_at(where)}{what} contains {found}, which a chat template writes; use the text "
        "without a template, or drop the pair.",
        "that already contain special tokens or a chat template",
    )


def _incomplete(where: str, what: str, text: str) -> UnusableRow:
    return UnusableRow(
        f"{_at(where)}the model's chat template leaves out {what}, {shown(text.strip())}; drop the "
        "pair, or use a model whose template writes it.",
        "of which the chat template leaves out a part",
    )
