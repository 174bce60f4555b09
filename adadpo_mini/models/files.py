"""Checks of the files of a saved model, without loading it.

The messages of transformers for these mistakes are long and often misleading.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from adadpo_mini.errors import InputError, shown
from adadpo_mini.pairs.readers import check_is_file, not_read

SAVED = "use the folder of a saved model"
JSON_FILES = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
BESIDE = ("merges.txt", "chat_template.jinja")  # what some tokenizers need, too
FLOATS = {"F64", "F32", "F16", "BF16"}
LABELS = 100_000
LFS = b"version https://git-lfs"  # how a pointer file begins
OTHER_TASKS = re.compile(r"For(\w+Classification|QuestionAnswering|MultipleChoice|MaskedLM)$")


def check_model_files(folder: Path) -> None:
    """Check that a folder has the files of a causal language model.

    Raises:
        InputError: a file is missing, is damaged, or has the wrong format.
    """
    files = {path.name: path for path in folder.iterdir()}
    for name in (ADAPTER, *JSON_FILES, *TOKENIZERS, *BESIDE):
        _check_is_here(files.get(name))
    if ADAPTER in files:
        raise _adapter(folder, files[ADAPTER])
    if "config.json" not in files:
        raise InputError(_instead_of_config(folder, files))
    found = {name: _read_object(files[name]) for name in JSON_FILES if name in files}
    _check_config(folder, found["config.json"])
    if INDEX in files and WEIGHTS not in files:
        shards = _shards(files[INDEX], found[INDEX])
    elif WEIGHTS in files:
        shards = [WEIGHTS]
    else:
        raise InputError(_instead_of_weights(folder, files))
    for shard in shards:
        if shard not in files:
            raise InputError(
                f"{folder} lacks {shard}, which {INDEX} lists; download or copy it, too."
            )
        _check_is_here(files[shard])
        _check_quantised(folder, found["config.json"], _types_in(files[shard]))
    if not {*files} & {*TOKENIZERS}:
        raise InputError(
            f"{folder} has no tokenizer (tokenizer.json); save that of its base model there: "
            f"AutoTokenizer.from_pretrained(BASE).save_pretrained({str(folder)!r})."
        )


def _check_is_here(file: Path | None) -> None:
    """Check that a file is not a pointer that git leaves in the place of a large file."""
    if file and file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(LFS):
        raise InputError(
            f"{file} is only a git-lfs pointer, not the file itself; download it: git lfs pull."
        )


def _adapter(folder: Path, file: Path) -> InputError:
    config = _read_object(file)
    base = config.get("base_model_name_or_path")
    kind = {"LORA": "LoRA adapter"}.get(config.get("peft_type"), "adapter")
    merged = f"{folder.resolve().name}-merged"
    return InputError(
        f"{folder} is {'a' if kind[0] == 'L' else 'an'} {kind}{f' of {base}' if base else ''}, not "
        'a whole model; merge it into its base and use the result: python -c "from peft import '
        f"AutoPeftModelForCausalLM as M; M.from_pretrained({str(folder)!r}).merge_and_unload()."
        f"save_pretrained({merged!r}); from transformers import AutoTokenizer as T; "
        f'T.from_pretrained({str(base or folder)!r}).save_pretrained({merged!r})".'
    )


def _instead_of_config(folder: Path, files: Mapping[str, Path]) -> str:
    """Return the message about a folder without config.json."""
    if not files:
        return f"{folder} is empty; {SAVED}."
    if gguf := _named(files, (".gguf",)):
        return _gguf(folder, gguf)
    if inner := _model_inside(files.values()):
        return f"{folder} has no config.json, but a folder in it has: use {inner}."
    if _named(files, (".safetensors", *PICKLES)):
        return f"{folder} has weights but no config.json; copy that of the model there, too."
    return f"{folder} has no config.json; {SAVED}."


def _instead_of_weights(folder: Path, files: Mapping[str, Path]) -> str:
    """Return the message about a folder with config.json, but without weights."""
    if pickled := _named(files, PICKLES):
        return (
            f"{folder} has only pickled weights ({pickled}), which can run any code when they are "
            'loaded; if you trust them, save them as safetensors: python -c "from transformers '
            f"import AutoModelForCausalLM as M; M.from_pretrained({str(folder)!r})."
            f'save_pretrained({str(folder)!r})".'
        )
    if gguf := _named(files, (".gguf",)):
        return _gguf(folder, gguf)
    if other := _named(files, (".safetensors",)):
        return f"{folder} has {other} but no {WEIGHTS} and no {INDEX}; rename it, or copy those."
    if inner := _model_inside(files.values()):
        return f"{folder} has no weights, but a folder in it may have some: use {inner}."
    return (
        f"{folder} has no weights ({WEIGHTS}), only their config.json; download or copy them, too."
    )


def _gguf(folder: Path, name: str) -> str:
    return (
        f"{folder} has only {name}, a format for running a model, not for training it; use the "
        "model it was made from, as safetensors."
    )


def _named(names: Iterable[str], endings: tuple[str, ...]) -> str | None:
    return min((name for name in names if name.endswith(endings)), default=None)


def _model_inside(paths: Iterable[Path]) -> Path | None:
    """Return the latest checkpoint in a training folder, or the first model in a run folder."""
    folders = [path for path in paths if path.is_dir()]
    inner = [path for top in folders for path in (top, top / "model")]
    models = [path for path in inner if (path / "config.json").is_file()]
    return max(models, key=lambda path: (path / "config.json").stat().st_mtime, default=None)


def _check_config(folder: Path, config: dict) -> None:
    labels = config.get("num_labels", 2)
    if not isinstance(labels, int) or labels > LABELS:  # transformers makes a name for each
        raise InputError(f"{folder}: num_labels in config.json is {shown(labels)}; fix it.")
    if config.get("is_encoder_decoder") is True:
        raise InputError(
            f"{folder} is an encoder-decoder model ({config.get('model_type')}); use a causal "
            "language model."
        )
    kinds = config.get("architectures")
    kind = kinds[0] if isinstance(kinds, list) and kinds else None
    if isinstance(kind, str) and OTHER_TASKS.search(kind):
        raise InputError(
            f"{folder} contains a {kind}, which cannot write text; use a causal language model."
        )


def _shards(file: Path, index: dict) -> list[str]:
    names = index.get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{file} has no weight_map of file names; save the model again.")
    return sorted({*names.values()})


def _check_quantised(folder: Path, config: dict, types: Collection[str]) -> None:
    quantised = config.get("quantization_config")  # may also be left over in a restored model
    if quantised and not FLOATS.issuperset(types):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise InputError(
            f"{folder} has quantised weights ({method}), which cannot be trained here; use the "
            "model from before quantisation."
        )


def _types_in(file: Path) -> set[str]:
    """Return the types of a file's tensors, after checking that it is as long as it should be."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        header = int.from_bytes(opened.read(8), "little")
        content = opened.read(header) if header <= size - 8 else b""
    try:
        tensors = json.loads(content)
        tensors.pop("__metadata__", None)
        ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
        types = {tensor["dtype"] for tensor in tensors.values()}
        whole = 8 + header + max(ends, default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        raise InputError(
            f"{file} is not a whole safetensors file ({size:,} bytes); download or copy it again."
        ) from None
    if size < whole:
        raise InputError(
            f"{file} is incomplete, {size:,} of {whole:,} bytes; download or copy it again."
        )
    return types


def _read_object(file: Path) -> dict:
    check_is_file(file, "a file that save_pretrained wrote")
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise not_read(str(file), error) from error
    if not isinstance(value, dict):
        raise InputError(f"{file} must be a JSON object, not {shown(value)}; save it again.")
    return value
