"""The text that a model reads for a prompt: from its chat template, or the prompt unchanged."""

from collections.abc import Sequence

from adadpo_mini.errors import InputError, shown
from adadpo_mini.pairs.conversations import Message, dialogue_of
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
        messages: the conversation of each prompt; None leaves it to `chat_text`.
    """
    return encode_texts(prompt_texts(prompts, tokenizer, messages), tokenizer)


def prompt_texts(
    prompts: Sequence[str],
    tokenizer: Tokenizer,
    messages: Sequence[Sequence[Message] | None] | None = None,
) -> list[str]:
    """Return the texts that `encode_prompts` tokenises."""
    if not tokenizer.chat_template:
        return list(prompts)
    messages = messages or [None] * len(prompts)
    return [
        chat_text(prompt, tokenizer, said) for prompt, said in zip(prompts, messages, strict=True)
    ]


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, *, from_start: bool = True
) -> list[list[int]]:
    """Return the token ids of texts that a model reads.

    Args:
        from_start: whether the texts begin with a prompt. If so, the tokenizer adds the special
            tokens that begin a text, unless a chat template has already written them.
    """
    if not texts:
        return []
    special = from_start and not tokenizer.chat_template
    # verbose=False: `check_length` reports texts that are too long, with their line.
    return tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]


def chat_text(prompt: str, tokenizer: Tokenizer, messages: Sequence[Message] | None = None) -> str:
    """Return the prompt, or its conversation, as the model's chat template writes it.

    Without messages, a prompt in the form of Anthropic's HH is read as a dialogue, and any other
    as a single user message. A template that writes the date writes today's, so the same prompt
    may differ from one day to the next.

    Raises:
        InputError: the template rejects the prompt.
    """
    messages = messages or dialogue_of(prompt) or [{"role": "user", "content": prompt.strip()}]
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template is a program, and raises what it likes
        raise InputError(
            f"the model's chat template rejects the prompt {shown(messages[-1]['content'])} "
            f"({error}); fix its roles or drop the pair."
        ) from error


def end_token(tokenizer: Tokenizer) -> str | None:
    """Return the token that ends an answer.

    It is the token that the chat template writes after an answer; without a template or such a
    token, the tokenizer's end-of-sequence token. The two differ in instruct models made from a
    base model, whose own token ends a document, not a turn.
    """
    if not tokenizer.chat_template:
        return tokenizer.eos_token
    answer = "answer"
    turn = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(turn, tokenize=False)
    except Exception:  # it requires other roles, so how it ends an answer is unknown
        return tokenizer.eos_token
    after = tokenizer(text.rpartition(answer)[2].lstrip(), add_special_tokens=False)["input_ids"]
    if after and _is_special(after[0], tokenizer):
        return tokenizer.convert_ids_to_tokens(after[0])
    return tokenizer.eos_token


def _is_special(token: int, tokenizer: Tokenizer) -> bool:
    # `all_special_ids` lacks added special tokens without a role, such as "<|end|>".
    added = getattr(tokenizer, "added_tokens_decoder", {}).get(token)
    return token in tokenizer.all_special_ids or bool(added and added.special)


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
