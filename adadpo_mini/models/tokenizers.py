"""Loading the tokenizer of a model, and the errors of the libraries that read a model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from adadpo_mini.errors import InputError
from adadpo_mini.models.checks import SAVE_AGAIN, reason_of
from adadpo_mini.tokens.rendering import PROBE, ChatTemplate
from adadpo_mini.tokens.templates import end_token
from adadpo_mini.types import Tokenizer


@contextmanager
def reading(what: str, remedy: str = SAVE_AGAIN) -> Iterator[None]:
    """Turn an error about a part of a model into an InputError, and keep libraries from logging it.

    An OSError, which means that the part is missing, passes through.
    """
    import logging as python_logging

    from transformers.utils import logging

    python_logging.getLogger("huggingface_hub").setLevel(python_logging.ERROR)  # its retries
    logging.disable_progress_bar()  # transformers shows one even for 50 small tensors
    before = logging.get_verbosity()
    logging.set_verbosity(python_logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (InputError, OSError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of tokenizers is not an Exception
        raise InputError(f"{what} cannot be used ({reason_of(error)}); {remedy}.") from error
    finally:
        logging.set_verbosity(before)


def load_tokenizer(source: str, options: dict) -> Tokenizer:
    """Load a tokenizer whose end-of-sequence token ends an answer.

    Args:
        options: for `from_pretrained`.

    Raises:
        InputError: the tokenizer or its chat template cannot be used.
        OSError: it is not there.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    if not tokenizer("Why is that so?")["input_ids"]:
        raise InputError(f"{source}: its tokenizer returns no tokens for a text; {SAVE_AGAIN}.")
    _check_template(tokenizer, source)
    end = end_token(tokenizer)
    if end is None:
        raise InputError(
            f"{source}: its tokenizer has no end-of-sequence token, so a completion cannot end; "
            "set eos_token in its tokenizer_config.json."
        )
    tokenizer.eos_token = end
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = end
    return tokenizer


def _check_template(tokenizer: Tokenizer, source: str) -> None:
    """Check that there is one chat template to use, or none, and that it is a template."""
    from jinja2 import TemplateSyntaxError

    if not tokenizer.chat_template:
        return
    if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
        names = ", ".join(sorted(tokenizer.chat_template))
        raise InputError(
            f"{source}: its chat templates are named {names}, and none of them is the default; "
            "save the one to use as the tokenizer's chat_template."
        )
    try:
        ChatTemplate(tokenizer).render(PROBE)
    except TemplateSyntaxError as error:
        raise InputError(
            f"{source}: its chat template is not valid ({error}); use the tokenizer of the "
            "original model."
        ) from error
    except Exception:  # noqa: S110 (it may require a system message; each pair is checked later)
        pass
