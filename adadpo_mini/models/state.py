"""What a race needs to go on, after a kill or a reboot, as if nothing had happened."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adadpo_mini.errors import InputError

NUMBERS = "numbers"


@dataclass(frozen=True)
class TrainingState:
    """Weights, AdamW's moments and counters, all to the last bit.

    Attributes:
        tensors: by name; those of a method begin with its name and a slash.
        numbers: counters and such, by names of the same form.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]

    @classmethod
    def join(cls, parts: Mapping[str, "TrainingState"]) -> "TrainingState":
        """Several states in one, each under its name.

        >>> one = TrainingState({"w": torch.zeros(1)}, {"steps": 3})
        >>> TrainingState.join({"dpo": one}).numbers
        {'dpo/steps': 3}
        """
        return cls(
            {f"{name}/{key}": t for name, part in parts.items() for key, t in part.tensors.items()},
            {f"{name}/{key}": n for name, part in parts.items() for key, n in part.numbers.items()},
        )

    def part(self, name: str) -> "TrainingState":
        """What `join` was given under this name."""
        head = f"{name}/"
        return TrainingState(
            {key.removeprefix(head): t for key, t in self.tensors.items() if key.startswith(head)},
            {key.removeprefix(head): n for key, n in self.numbers.items() if key.startswith(head)},
        )

    @property
    def num_bytes(self) -> int:
        """How much of a disk it takes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def save(self, file: Path) -> None:
        """Write it as safetensors, the numbers in its header."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, file, metadata={NUMBERS: json.dumps(dict(self.numbers))})

    @classmethod
    def load(cls, file: Path) -> "TrainingState":
        """Read what `save` wrote.

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
                f"{file}: is damaged ({error}); delete it, and the run starts again at step 0."
            ) from error
        return cls(tensors, numbers)


def trained_weights(model) -> dict[str, Tensor]:
    """The weights of a model that training changes, by name: of an adapter, only its own."""
    return {f"weights/{n}": p.detach() for n, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def restore_weights(model, tensors: Mapping[str, Tensor]) -> None:
    """Give a model the weights of `trained_weights`.

    Raises:
        InputError: they are those of another model.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            copy_into(weight, tensors, f"weights/{name}")


def copy_into(target: Tensor, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copy the tensor of that name into another of the same shape.

    Raises:
        InputError: there is no such tensor, or it has another shape.
    """
    found = tensors.get(name)
    if found is None or found.shape != target.shape:
        raise InputError(f"the kept state does not fit the model ({name}); race again.")
    target.copy_(found)


def adamw_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, by number of the weight."""
    kept = optimizer.state_dict()["state"]
    return {f"adamw/{i}/{key}": value for i, own in kept.items() for key, value in own.items()}


def restore_adamw(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give AdamW the moments of `adamw_state`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adamw/"):
            _, number, key = name.split("/")
            state.setdefault(int(number), {})[key] = value.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
