"""One thread a test, nothing from the hub, nothing sent anywhere, nothing left behind."""

import atexit
import copy
import logging
import os
import shutil
import signal
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Everything that tests, libraries and the processes they start would leave in the temp folder or
# under the home folder goes to one folder, and goes with it when the session ends. To look at what
# a failed test wrote, run it with --basetemp FOLDER: pytest keeps what is there.
SCRATCH = tempfile.mkdtemp(prefix="adadpo-")  # short, for sockets get paths in it
tempfile.tempdir = SCRATCH
TEMPORARY = ("TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR")
OWN = {
    "cache": ("ADADPO_MINI_CACHE",),
    "config": ("XDG_CONFIG_HOME",),  # of Chromium
    "huggingface": ("HF_HOME",),
    "ipython": ("IPYTHONDIR",),
    "jupyter": ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"),
}
os.environ |= dict.fromkeys(TEMPORARY, SCRATCH)
os.environ |= {name: f"{SCRATCH}/{folder}" for folder, names in OWN.items() for name in names}


@atexit.register  # before any library is imported, so that it runs after what they register
def _leave_nothing(session: int = os.getpid()) -> None:
    if os.getpid() == session:  # and not a fork of it
        shutil.rmtree(SCRATCH, ignore_errors=True)


import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def transformers_says():
    """What transformers logs. It writes to the stderr of the process, which capsys does not see;
    caplog would see it, but also what any other library says meanwhile."""
    messages = []
    listener = logging.Handler()
    listener.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("transformers").addHandler(listener)
    yield messages
    logging.getLogger("transformers").removeHandler(listener)


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, even if a shell started pytest in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def toy():
    """(model, tokenizer) of the bundled toy; not to be trained in place."""
    from adadpo_mini import load_model

    return load_model()


@pytest.fixture(scope="session")
def tiny(toy, tmp_path_factory):
    """A folder with a tiny random GPT-2, saved with dropout on, and the toy's tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = copy.deepcopy(toy[1])
    tokenizer.backend_tokenizer.no_padding()  # its file would say how to pad, and with what
    folder = tmp_path_factory.mktemp("tiny")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=2, n_head=2,
                resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, initializer_range=0.2,
                bos_token_id=0, eos_token_id=0, pad_token_id=1,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


GOOD_LINE = b'{"prompt": "Why?\\n", "chosen": "Because.", "rejected": "No."}\n'
# What a file may hold that is no preference pairs, and what the message must then say.
BAD_FILES = {
    "missing field": (b'{"prompt": "Why?\\n", "chosen": "a"}\n', ("line 1", "'rejected'")),
    "empty completion": (
        GOOD_LINE + b'{"prompt": "Why?\\n", "chosen": " ", "rejected": "b"}\n',
        ("line 2", "chosen is empty"),
    ),
    "no preference": (
        b'{"prompt": "Why?\\n", "chosen": "a", "rejected": "a"}\n',
        ("line 1", "equal"),
    ),
    "not a string": (
        b'{"prompt": "Why?\\n", "chosen": "a", "rejected": 3}\n',
        ("line 1", "rejected", "int"),
    ),
    "broken JSON on line 7": (6 * GOOD_LINE + b'{"prompt": \n', ("line 7", "not valid JSON")),
    "half a character": (
        GOOD_LINE + b'{"prompt": "Why?\\n", "chosen": "a\\ud83d", "rejected": "b"}\n',
        ("line 2", "chosen"),
    ),
    "a list": (GOOD_LINE + b"\n[1, 2]\n", ("line 3", "expected an object")),
    "empty file": (b"", ("has no pairs",)),
    "only blank lines": (b"\n \n\n", ("has no pairs",)),
    "not UTF-8": (b'{"prompt": "Gr\xfc\xdfe"}\n', ("UTF-8",)),
    "missing file": (None, ("no such file",)),
    "longer than the context": (
        GOOD_LINE + GOOD_LINE.replace(b"Because.", 300 * b"x!"),
        ("line 2", "tokens long", "256"),
    ),
}


@pytest.fixture(params=BAD_FILES.values(), ids=BAD_FILES.keys())
def bad_file(request, tmp_path):
    """(path, what the message about it must say)."""
    content, words = request.param
    path = tmp_path / "pairs.jsonl"
    if content is not None:
        path.write_bytes(content)
    return path, (str(path), *words)
