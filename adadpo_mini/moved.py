"""Old module names: what has moved can still be imported from where it was, for now."""

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "cache": "system.cache",
    "claims": "paper.claims paper.control_claims paper.ablation_claims paper.claim_tables "
    "paper.findings paper.verdict",
    "commands": "cli.commands cli.makers",
    "comparisons": "paper.comparisons paper.ablation_claims paper.selection paper.verdict "
    "paper.intervals",
    "console": "cli.console cli.progress",
    "contest": "lockstep prepare",
    "conversations": "pairs.conversations",
    "evidence": "doctor.series",
    "experiments": "paper.experiments paper.plans",
    "family": "methods.reference_based methods.controls",
    "files": "system.files",
    "generate": "models.generate",
    "hub": "pairs.hub",
    "judge": "toyworld.judge",
    "keeper": "store.keeper event",
    "lazy": "pairs.on_disk",
    "logs": "doctor.logs",
    "mass": "measure measure.mass measure.kl measure.probe",
    "memory": "models.memory",
    "meters": "measure.slow",
    "optimizer": "models.optimizer",
    "packed": "tokens.table models.reference",
    "policies": "models.policies",
    "presets": "doctor.presets",
    "race": "run store.summary event",
    "readers": "pairs.readers",
    "reference_free": "methods.reference_free",
    "report": "paper.report",
    "report_figures": "paper.report_figures",
    "results": "paper.results paper.results_writer paper.intervals",
    "resuming": "run",
    "reward_model": "rlhf.reward_model",
    "rows": "pairs.rows errors",
    "rules": "doctor.rules",
    "run_writer": "store.writer",
    "runs": "store.folder store.records",
    "scoring": "models.reference",
    "screening": "pairs.screening",
    "settings": "config",
    "sharding": "trl.sharding",
    "shared_prompt": "models.shared_prompt",
    "signals": "system.signals",
    "state": "models.state",
    "sweep": "paper.sweep paper.planned paper.workers",
    "tables": "paper.tables paper.set_tables",
    "templates": "tokens.templates",
    "threads": "system.threads",
    "trl_engine": "trl.engine",
    "trl_events": "trl.events",
}
"""The new modules by old module, all inside the package."""

RENAMED = {
    "LazyPairs": "PairsOnDisk",
    "Meters": "SlowMeasurements",
    "PackedTokens": "TokenTable",
    "Verdict": "Judgement",
    "told": "loading_note",
}
"""New name by old name, for what is not found under its old one."""


class OldModule(ModuleType):
    """A module that looks for every name in the new modules."""

    def __getattr__(self, name: str) -> object:
        package, _, module = self.__name__.partition(".")
        if name.startswith("__"):
            raise AttributeError(name)
        for new in MOVED[module].split():
            home = import_module(f"{package}.{new}")
            for candidate in (name, RENAMED.get(name, name)):
                if hasattr(home, candidate):
                    text = f"{self.__name__}.{name} is now {home.__name__}.{candidate}"
                    warnings.warn(text, DeprecationWarning, stacklevel=2)
                    return getattr(home, candidate)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class OldNames:
    """Finds modules under their old names; the last of the import system's finders."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return a spec if the name is an old one."""
        package, _, module = name.partition(".")
        return ModuleSpec(name, OldNames) if package == __package__ and module in MOVED else None

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        """Return the module that looks in the new ones."""
        return OldModule(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Do nothing: the names are found when they are asked for."""


def find_at_their_old_names() -> None:
    """Let the import system find modules that have moved."""
    if OldNames not in sys.meta_path:
        sys.meta_path.append(OldNames)
    # An import would put this module in the place of the function `race`; one that is loaded
    # already stays out of its way.
    sys.modules.setdefault(f"{__package__}.race", OldModule(f"{__package__}.race"))
