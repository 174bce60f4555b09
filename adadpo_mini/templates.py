"""What a model reads for a prompt: its chat template's form, or the text as it is."""

from collections.abc import Mapping, Sequence

from adadpo_mini.errors import InputError

LINE, HUMAN, AS_IS = "{}\n", "\n\nHuman: {}\n\nAssistant:", "{}"

Message = Mapping[str, str]


def encode_prompts(
    prompts: Sequence[str], tokenizer, messages: Sequence[Sequence[Message] | None] | None = None
) -> list[list[int]]:
    """The token ids of prompts as the model reads them, in training and in answering alike.

    Args:
        prompts: taken as they are by a model without a chat template.
        messages: for each prompt the conversation that it is, or None if it is one user's message.
    """
    quiet = {"verbose": False}  # what is too long is told elsewhere, with its line
    if not tokenizer.chat_template:
        return tokenizer(list(prompts), **quiet)["input_ids"] if prompts else []
    messages = messages or [None] * len(prompts)
    texts = [
        chat_text(prompt, tokenizer, said) for prompt, said in zip(prompts, messages, strict=True)
    ]
    # The template has written the special tokens already.
    return tokenizer(texts, add_special_tokens=False, **quiet)["input_ids"] if texts else []


def chat_text(prompt: str, tokenizer, messages: Sequence[Message] | None = None) -> str:
    """The prompt, or the conversation that it is, in the form of the model's chat template."""
    from jinja2 import TemplateError

    messages = messages or [{"role": "user", "content": prompt.strip()}]
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        raise InputError(
            f"the model's chat template refuses the prompt {messages[-1]['content']!r:.60} "
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
    text = tokenizer.apply_chat_template(turn, tokenize=False)
    after = tokenizer(text.rpartition(answer)[2].lstrip(), add_special_tokens=False)["input_ids"]
    if after and after[0] in tokenizer.all_special_ids:
        return tokenizer.convert_ids_to_tokens(after[0])
    return tokenizer.eos_token


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
