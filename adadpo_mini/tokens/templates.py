"""What a model reads for a prompt: its chat template's form, or the text as it is."""

from collections.abc import Sequence

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.conversations import Message, dialogue_of
from adadpo_mini.pairs.rows import shown

LINE, HUMAN, AS_IS = "{}\n", "\n\nHuman: {}\n\nAssistant:", "{}"


def encode_prompts(
    prompts: Sequence[str], tokenizer, messages: Sequence[Sequence[Message] | None] | None = None
) -> list[list[int]]:
    """The token ids of prompts as the model reads them, in training and in answering alike.

    Args:
        prompts: taken as they are by a model without a chat template.
        messages: for each prompt the conversation that it is; None where `chat_text` is to tell.
    """
    return encode_texts(prompt_texts(prompts, tokenizer, messages), tokenizer)


def prompt_texts(
    prompts: Sequence[str], tokenizer, messages: Sequence[Sequence[Message] | None] | None = None
) -> list[str]:
    """The texts of `encode_prompts`, not yet tokenised."""
    if not tokenizer.chat_template:
        return list(prompts)
    messages = messages or [None] * len(prompts)
    return [
        chat_text(prompt, tokenizer, said) for prompt, said in zip(prompts, messages, strict=True)
    ]


def encode_texts(texts: Sequence[str], tokenizer, *, from_start: bool = True) -> list[list[int]]:
    """The token ids of texts that a model reads.

    Args:
        from_start: whether they begin with a prompt. The tokenizer then adds the special tokens
            that it begins a text with, unless a chat template has written them already.
    """
    if not texts:
        return []
    special = from_start and not tokenizer.chat_template
    # What is too long is told elsewhere, with its line.
    return tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]


def chat_text(prompt: str, tokenizer, messages: Sequence[Message] | None = None) -> str:
    """The prompt, or the conversation that it is, in the form of the model's chat template.

    Without messages, a prompt in the form of Anthropic's HH is the dialogue that it writes down,
    and any other is one user's message. A template that names the day names today's; what is
    trained on one day and asked on another differs in that.
    """
    messages = messages or dialogue_of(prompt) or [{"role": "user", "content": prompt.strip()}]
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template is a program, and can fail like one
        raise InputError(
            f"the model's chat template refuses the prompt {shown(messages[-1]['content'])} "
            f"({error}); mend its roles or drop the pair."
        ) from error


def end_token(tokenizer) -> str | None:
    """The token that ends an answer: the one that the chat template writes after it, or, without a
    template or such a token, the tokenizer's end-of-sequence token.

    They differ where an instruct model was made from a base model: the base model's token ends a
    document, the template's a turn.
    """
    if not tokenizer.chat_template:
        return tokenizer.eos_token
    answer = "answer"
    turn = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(turn, tokenize=False)
    except Exception:  # it wants other roles, which says nothing of how it ends an answer
        return tokenizer.eos_token
    after = tokenizer(text.rpartition(answer)[2].lstrip(), add_special_tokens=False)["input_ids"]
    if after and _is_special(after[0], tokenizer):
        return tokenizer.convert_ids_to_tokens(after[0])
    return tokenizer.eos_token


def _is_special(token: int, tokenizer) -> bool:
    # One that was added as special but has no role, such as "<|end|>", is not in `all_special_ids`.
    added = getattr(tokenizer, "added_tokens_decoder", {}).get(token)
    return token in tokenizer.all_special_ids or bool(added and added.special)


def check_form(form: object, where: str) -> None:
    """Raise InputError unless this is a format string with one {}, as `prompt_form` gives.

    Args:
        where: what to call it in the message.
    """
    rest = form.replace("{}", "", 1) if isinstance(form, str) and "{}" in form else "{"
    if "{" in rest or "}" in rest:
        raise InputError(f"{where} must be a text with one {{}} for the prompt, not {shown(form)}.")


def typed_prompt(prompt: str, form: str) -> str:
    """What a typed prompt becomes for a model without a chat template.

    Raises:
        InputError: it holds what no tokenizer reads, or `form` is none.
    """
    check_form(form, "the form of a prompt")
    text = form.format(prompt.strip())
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the prompt {shown(prompt)} is not valid UTF-8; mend it.") from error
    return text


def prompt_form(prompts: Sequence[str]) -> str:
    r"""How a typed question becomes a prompt like these, as a format string.

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
