"""A prompt that somebody types, as token ids that leave room for an answer."""

from adadpo_mini.tokens.rendering import ChatTemplate
from adadpo_mini.tokens.special import beginning
from adadpo_mini.tokens.templates import encode_texts, messages_of, typed_prompt
from adadpo_mini.types import Tokenizer

CUT = " … "


def typed_ids(prompt: str, form: str, tokenizer: Tokenizer, room: int) -> list[int]:
    """Return the token ids of a typed prompt, at most `room` of them.

    Of a question that is too long, the middle is cut out if there is a chat template, so that the
    system message at its head and the roles around the question stay. Otherwise its first part is
    cut off; what the form and the tokenizer put before the question stays.

    Args:
        form: see `templates.prompt_form`.

    Raises:
        InputError: the prompt is not text, or the chat template rejects it.
    """
    text = typed_prompt(prompt, form)
    if tokenizer.chat_template:
        return _with_template(text, tokenizer, room)
    ids = encode_texts([text], tokenizer)[0]
    if len(ids) <= room:
        return ids
    head = form.partition("{}")[0]
    first = encode_texts([head], tokenizer)[0] if head else beginning(tokenizer)
    return [*first, *ids[len(first) - room :]] if len(first) < room else ids[-room:]


def _with_template(text: str, tokenizer: Tokenizer, room: int) -> list[int]:
    template, messages = ChatTemplate(tokenizer), messages_of(text)
    ids = encode_texts([template.prompt("", messages)], tokenizer)[0]
    if len(ids) <= room:
        return ids
    longest = max(messages, key=lambda message: len(message["content"]))
    words = encode_texts([longest["content"]], tokenizer)[0]
    keep = len(words)
    while (keep := keep - max(1, len(ids) - room)) > 0:
        halves = (words[: (keep + 1) // 2], words[len(words) - keep // 2 :])
        # A character of several tokens may be cut into U+FFFD.
        longest["content"] = CUT.join(tokenizer.decode(half).strip("\ufffd ") for half in halves)
        ids = encode_texts([template.prompt("", messages)], tokenizer)[0]
        if len(ids) <= room:
            return ids
    return ids[-room:]
