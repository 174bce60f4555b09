"""Modules that have moved can still be imported by their old names, for now."""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "cache": "system.cache",
    "claims": "paper.claims",
    "commands": "cli.commands",
    "comparisons": "paper.comparisons",
    "console": "cli.console",
    "contest": "lockstep",
    "conversations": "pairs.conversations",
    "evidence": "doctor.series",
    "experiments": "paper.experiments",
    "family": "methods.reference_based",
    "files": "system.files",
    "generate": "models.generate",
    "hub": "pairs.hub",
    "judge": "toyworld.judge",
    "keeper": "store.keeper",
    "lazy": "pairs.on_disk",
    "logs": "doctor.logs",
    "mass": "measure",
    "memory": "models.memory",
    "meters": "measure.slow",
    "optimizer": "models.optimizer",
    "packed": "tokens.table",
    "policies": "models.policies",
    "presets": "doctor.presets",
    "readers": "pairs.readers",
    "reference_free": "methods.reference_free",
    "report": "paper.report",
    "report_figures": "paper.report_figures",
    "results": "paper.results",
    "resuming": "run",
    "reward_model": "rlhf.reward_model",
    "rows": "pairs.rows",
    "rules": "doctor.rules",
    "run_writer": "store.writer",
    "runs": "store.folder",
    "scoring": "models.reference",
    "screening": "pairs.screening",
    "settings": "config",
    "sharding": "trl.sharding",
    "shared_prompt": "models.shared_prompt",
    "signals": "system.signals",
    "state": "models.state",
    "sweep": "paper.sweep",
    "tables": "paper.tables",
    "templates": "tokens.templates",
    "threads": "system.threads",
    "trl_engine": "trl.engine",
    "trl_events": "trl.events",
}
"""New name by old name, both inside the package."""


class OldNames(MetaPathFinder, Loader):
    """Finds a module under its old name, with a DeprecationWarning."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The import system asks this where no file has that name."""
        package, _, module = name.partition(".")
        if package != "adadpo_mini" or module not in MOVED:
            return None
        return ModuleSpec(name, self)

    def exec_module(self, module: ModuleType) -> None:
        """Put the moved module in the place of this one."""
        old = module.__name__
        new = f"adadpo_mini.{MOVED[old.partition('.')[2]]}"
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)


def find_at_their_old_names() -> None:
    """Let the import system find moved modules, after everything else."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
