"""The run folder: config.json, <method>/metrics.jsonl, <method>/model/, summary.json."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.trainer import Event


@dataclass(frozen=True)
class RunFolder:
    """What a race leaves on disk. Every event is on disk as soon as it has happened."""

    path: Path

    @staticmethod
    def check_free(path: str | Path) -> Path:
        """The path, if a run can be written there.

        Raises:
            InputError: the folder already holds a run.
        """
        path = Path(path).expanduser()
        if (path / "config.json").exists() or any(path.glob("*/metrics.jsonl")):
            raise InputError(f"{path}: already holds a run; give another folder or delete it.")
        return path

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, object]) -> "RunFolder":
        """Make the folder and write config.json.

        Raises:
            InputError: the folder already holds a run, or cannot be made.
        """
        path = cls.check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path}: cannot make this folder ({error.strerror}); give another one."
            ) from error
        _write_json(path / "config.json", config)
        return cls(path)

    def append(self, method: str, event: Event) -> None:
        """Add one line to the method's metrics.jsonl."""
        file = self.path / method / "metrics.jsonl"
        file.parent.mkdir(exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(to_json(event) + "\n")

    def save_model(self, method: str, model, tokenizer) -> None:
        """Save a trained model so that `from_pretrained` loads it with its tokenizer."""
        folder = self.path / method / "model"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        _write_json(self.path / "summary.json", summary)

    def config(self) -> dict:
        """The settings of the run.

        Raises:
            InputError: there is no run in this folder.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise InputError(f"{self.path}: holds no run; give a folder that a race wrote.")
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file}: is damaged ({error}); race again.") from error

    def events(self) -> dict[str, list[Event]]:
        """All events, by method, in the order of the race."""
        logs = {method: self.path / method / "metrics.jsonl" for method in self.config()["methods"]}
        return {
            method: [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            for method, log in logs.items()
            if log.is_file()
        }


def to_json(value: object, **options) -> str:
    """JSON with null for what JSON cannot say (infinity, not a number)."""
    return json.dumps(_finite(value), ensure_ascii=False, **options)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(to_json(value, indent=2) + "\n", encoding="utf-8")
