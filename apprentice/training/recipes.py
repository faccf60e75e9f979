"""The training backends that hand the work to a tool: ``huggingface`` (TRL), ``unsloth`` and ``axolotl``.

Three stages: the examples become tokens, the tool trains on them, what it made is measured and written. The first and
the last are ours and the same for every backend, so that a version does not tell which tool trained it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from apprentice.config import LocalConfig, TrainingConfig
from apprentice.errors import InvalidConfig
from apprentice.local import leash
from apprentice.training.adapters.plan import PLAN, Plan, Reply, parse_reply
from apprentice.training.honoured import refuse_unhonoured
from apprentice.training.lora import PACKAGES, command, surroundings
from apprentice.training.process import PYTHON
from apprentice.training.recipes_axolotl import CONFIGURATION, MODULE, Listener
from apprentice.training.stages import Stage, StagedTrainer, require

type Tool = Literal["huggingface", "unsloth", "axolotl"]

_READ, _TRAINED = 0.05, 0.85
"""How far a job is, as a fraction, after reading and training."""
_ALL = frozenset(TrainingConfig.model_fields) - {"weights", "balance", "token_price"}


class _About(msgspec.Struct, frozen=True):
    """What is particular to a tool."""

    packages: tuple[str, ...]
    """Needed beside those of every backend for adapters."""
    script: str
    honoured: frozenset[str]
    listener: Callable[[Path], Callable[[str], Reply | None]] = lambda work: parse_reply


_TOOLS: Mapping[Tool, _About] = {
    "huggingface": _About(("trl", "datasets"), "apprentice.training.recipes_trl", _ALL),
    "unsloth": _About(
        ("unsloth", "trl", "datasets"),
        "apprentice.training.recipes_unsloth",
        _ALL - {"processes", "accelerate_config"},
    ),
    "axolotl": _About(("axolotl",), MODULE, _ALL - {"save_steps"}, Listener),
}


class RecipeTrainer(StagedTrainer):
    """Trains LoRA adapters with somebody else's tool. Implements :class:`apprentice_actors.ports.Trainer`."""

    def __init__(self, local: LocalConfig, backend: Tool) -> None:
        """Raises :class:`InvalidConfig` for settings that the tool does not have, :class:`MissingExtra` without it."""
        about = _TOOLS[backend]
        refuse_unhonoured(local.training, backend, about.honoured)
        if backend == "unsloth":
            _refuse_without_one_gpu(local.training)
        packages = (*PACKAGES, *about.packages)
        require(packages, f"the training backend {backend}", f"pip install 'apprentice[{backend}]'")
        super().__init__(local, functools.partial(stages, backend))


def _refuse_without_one_gpu(training: TrainingConfig) -> None:
    problems = []
    if not training.gpus:
        problems.append("local.training.gpus: missing: unsloth needs a GPU")
    if len(training.gpus) > 1 and training.gpus_per_job != 1:
        problems.append("local.training.gpus_per_job: a job of unsloth has one GPU; write 1")
    if problems:
        raise InvalidConfig(problems)


def stages(tool: Tool, plan: Plan) -> Sequence[Stage]:
    """The commands of a job, in their order."""
    about, told = _TOOLS[tool], str(Path(plan.work) / PLAN)
    around = surroundings(plan)
    return (
        Stage((*PYTHON, "-m", "apprentice.training.recipes_rows", told, tool), around, until=_READ),
        Stage(_training(tool, plan), _around(tool, around), read=about.listener(Path(plan.work)), until=_TRAINED),
        Stage((*PYTHON, "-m", "apprentice.training.recipes_finish", told), around),
    )


def _training(tool: Tool, plan: Plan) -> Sequence[str]:
    """A single process needs no launcher. Axolotl does not notice when its trainer is gone, so it runs on a leash."""
    launch = (*PYTHON, "-m", "accelerate.commands.launch")
    program = ("-m", _TOOLS[tool].script)
    alone = plan.processes == 1 and plan.settings.accelerate_config is None
    *words, told = (*program, str(Path(plan.work) / PLAN)) if alone else command(plan, program)
    if tool == "axolotl":
        told = str(Path(plan.work) / CONFIGURATION)
    held = (*PYTHON, leash.__file__) if tool == "axolotl" else ()
    return (*held, *(PYTHON if alone else launch), *words, told)


def _around(tool: Tool, around: Mapping[str, str]) -> Mapping[str, str]:
    return {**around, "AXOLOTL_DO_NOT_TRACK": "1"} if tool == "axolotl" else around
