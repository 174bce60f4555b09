"""The text that a model reads for a prompt: from its chat template, or the prompt unchanged."""

from collections.abc import Iterator, Sequence

from adadpo_mini.errors import InputError, shown
from adadpo_mini.pairs.conversations import Message, answer_text, dialogue_of
from adadpo_mini.pairs.unusable import UnusableRow
from adadpo_mini.tokens.rendering import ChatTemplate, Written
from adadpo_mini.tokens.special import begin, beginning, end_texts, without_end
from adadpo_mini.types import Tokenizer

LINE, HUMAN, AS_IS = "{}\n", "\n\nHuman: {}\n\nAssistant:", "{}"


def encode_prompts(
    prompts: Sequence[str],
    tokenizer: Tokenizer,
    messages: Sequence[Sequence[Message] | None] | None = None,
) -> list[list[int]]:
    """Return the token ids of prompts as the model reads them, in training and when it answers.

    Args:
        prompts: read unchanged by a model without a chat template.
        messages: the conversation of each prompt; None leaves it to `messages_of`.
    """
    return encode_texts(prompt_texts(prompts, tokenizer, messages), tokenizer)


def prompt_texts(
    prompts: Sequence[str],
    tokenizer: Tokenizer,
    messages: Sequence[Sequence[Message] | None] | None = None,
) -> list[str]:
    """Return the texts that `encode_prompts` tokenises.

    Raises:
        InputError: the chat template rejects a prompt, or was already applied to it.
    """
    if not tokenizer.chat_template:
        return list(prompts)
    messages = messages or [None] * len(prompts)
    template = ChatTemplate(tokenizer)
    return [
        template.prompt("", said or messages_of(prompt))
        for prompt, said in zip(prompts, messages, strict=True)
    ]


def written_texts(
    prompts: Sequence[str],
    sides: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    messages: Sequence[Sequence[Message] | None] | None = None,
    where: Sequence[str] | None = None,
) -> Iterator[Written | UnusableRow]:
    """Yield the texts that a model reads for each prompt and its answers, or what is wrong.

    An answer may end with the end token's text, as in data prepared for a model: it is removed,
    because every answer gets one end token.

    Args:
        sides: the answers, one sequence for each side, as long as `prompts`.
        messages: as for `encode_prompts`.
        where: what messages call each prompt.
    """
    ends = end_texts(tokenizer)
    template = tokenizer.chat_template and ChatTemplate(tokenizer)
    unnamed = [None] * len(prompts)
    for place, prompt, said, *answers in zip(
        where or unnamed, prompts, messages or unnamed, *sides, strict=True
    ):
        bare = tuple(without_end(answer, ends) for answer in answers)
        if not template:
            yield Written(prompt, bare)
            continue
        try:
            said = said or messages_of(prompt)
            bare = [answer_text(prompt, answer) for answer in bare]
            yield template.answers(place or "", said, bare)
        except UnusableRow as fault:
            yield fault


def messages_of(prompt: str) -> list[Message]:
    """Return the messages of a prompt in text.

    A prompt in the form of Anthropic's HH is a dialogue, any other a single user message.
    """
    return dialogue_of(prompt) or [Message(role="user", content=prompt.strip())]


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, *, from_start: bool = True
) -> list[list[int]]:
    """Return the token ids of texts that a model reads.

    Args:
        from_start: whether the texts begin with a prompt. If so, they get the special tokens that
            begin a text, unless the text or a chat template has already written them.
    """
    if not texts:
        return []
    # verbose=False: `too_long` reports texts that are too long, with their line.
    ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return begin(ids, beginning(tokenizer)) if from_start and not tokenizer.chat_template else ids


def chat_text(prompt: str, tokenizer: Tokenizer, messages: Sequence[Message] | None = None) -> str:
    """Return the prompt, or its conversation, as the model's chat template writes it.

    A template that writes the date writes today's, so the same prompt may differ from one day to
    the next.

    Raises:
        InputError: the template rejects the prompt, or was already applied to it.
    """
    return ChatTemplate(tokenizer).prompt("", messages or messages_of(prompt))


def end_token(tokenizer: Tokenizer) -> str | None:
    """Return the token that ends an answer.

    It is the token that the chat template writes after an answer; without a template or such a
    token, the tokenizer's end-of-sequence token. The two differ in instruct models made from a
    base model, whose own token ends a document, not a turn.
    """
    written = tokenizer.chat_template and ChatTemplate(tokenizer).end
    return written or tokenizer.eos_token


def check_form(form: object, where: str) -> None:
    """Raise an InputError unless this is a format string with one {}, as from `prompt_form`.

    Args:
        where: what the message calls it.
    """
    rest = form.replace("{}", "", 1) if isinstance(form, str) and "{}" in form else "{"
    if "{" in rest or "}" in rest:
        raise InputError(f"{where} must be text with one {{}} for the prompt, not {shown(form)}.")


def typed_prompt(prompt: str, form: str) -> str:
    """Return a typed prompt as a model without a chat template reads it.

    Raises:
        InputError: the prompt is not valid UTF-8, or `form` is not a format string with one {}.
    """
    check_form(form, "the form of a prompt")
    text = form.format(prompt.strip())
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the prompt {shown(prompt)} is not valid UTF-8; fix it.") from error
    return text


def prompt_form(prompts: Sequence[str]) -> str:
    r"""Return the format string that turns a typed question into a prompt like these.

    >>> prompt_form(["Why?\n", "How?\n"])
    '{}\n'
    >>> prompt_form(["\n\nHuman: Why?\n\nAssistant:"]) == HUMAN  # Anthropic HH
    True
    >>> prompt_form(["Once upon a time"])
    '{}'
    """
    if prompts and all(prompt.endswith("\n\nAssistant:") for prompt in prompts):
        return HUMAN
    if prompts and all(prompt.endswith("\n") for prompt in prompts):
        return LINE
    return AS_IS
