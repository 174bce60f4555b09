"""The state of training: everything that a race needs to resume with identical numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adadpo_mini.errors import InputError
from adadpo_mini.types import Model

NUMBERS = "numbers"


@dataclass(frozen=True)
class TrainingState:
    """Weights, AdamW's moments, and counters, without any rounding.

    Attributes:
        tensors: tensors by name. The names of a method's tensors begin with its name and a slash.
        numbers: counters by name, in the same form.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]

    @classmethod
    def join(cls, parts: Mapping[str, "TrainingState"]) -> "TrainingState":
        """Combine several states, each under its name.

        >>> one = TrainingState({"w": torch.zeros(1)}, {"steps": 3})
        >>> TrainingState.join({"dpo": one}).numbers
        {'dpo/steps': 3}
        """
        return cls(
            {f"{name}/{key}": t for name, part in parts.items() for key, t in part.tensors.items()},
            {f"{name}/{key}": n for name, part in parts.items() for key, n in part.numbers.items()},
        )

    def part(self, name: str) -> "TrainingState":
        """Return the state that `join` stored under a name."""
        head = f"{name}/"
        return TrainingState(
            {key.removeprefix(head): t for key, t in self.tensors.items() if key.startswith(head)},
            {key.removeprefix(head): n for key, n in self.numbers.items() if key.startswith(head)},
        )

    @property
    def num_bytes(self) -> int:
        """The size on disk, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def save(self, file: Path) -> None:
        """Write the state as a safetensors file, with the numbers in its header."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, file, metadata={NUMBERS: json.dumps(dict(self.numbers))})

    @classmethod
    def load(cls, file: Path) -> "TrainingState":
        """Read a file that `save` wrote.

        Raises:
            InputError: the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(file), "pt") as stream:
                numbers = json.loads(stream.metadata()[NUMBERS])
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file} is damaged ({error}); delete it to restart the run at step 0."
            ) from error
        return cls(tensors, numbers)


def trained_weights(model: Model) -> dict[str, Tensor]:
    """Return the weights that training changes, by name; with LoRA, only those of the adapter."""
    return {f"weights/{n}": p.detach() for n, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def restore_weights(model: Model, tensors: Mapping[str, Tensor]) -> None:
    """Load the weights that `trained_weights` returned.

    Raises:
        InputError: the weights belong to another model.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            copy_into(weight, tensors, f"weights/{name}")


def copy_into(target: Tensor, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copy the tensor with this name into a target of the same shape.

    Raises:
        InputError: the tensor does not exist or has a different shape.
    """
    found = tensors.get(name)
    if found is None or found.shape != target.shape:
        raise InputError(f"the saved state does not fit the model ({name}); race again.")
    target.copy_(found)


def adamw_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's moments and step counts, by index of the weight."""
    kept = optimizer.state_dict()["state"]
    return {f"adamw/{i}/{key}": value for i, own in kept.items() for key, value in own.items()}


def restore_adamw(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors that `adamw_state` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adamw/"):
            _, number, key = name.split("/")
            state.setdefault(int(number), {})[key] = value.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
