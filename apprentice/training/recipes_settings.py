"""What a recipe is told: one JSON file beside its data, the same for every tool. Says how SFT trainers spell it."""

import math
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from apprentice.training.adapters.schedule import evaluation_every

RECIPE, RUN = "recipe.json", "run"
"""The recipe in a job's work folder, and the folder below it that the tool writes into."""
ADAPTER, HISTORY = "adapter", "history.json"
"""What a script leaves there: the finished adapter, and what was logged on the way."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""
CHECKPOINTS_KEPT = 2


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training, with everything decided."""

    base_model: str
    offline: bool
    """Whether the base model lies here, so that nothing is ever downloaded."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"]
    tokens: str
    """JSONL of rows to learn: ``input_ids``, ``attention_mask``, ``labels`` (-100 where nothing is learned)."""
    held_back: str | None
    """Rows of the same form that tell when to stop early."""
    rows: int
    """Rows to learn; ``rows_in_all`` with those held back."""
    rows_in_all: int
    rows_too_long: int
    tokens_total: int
    work: str
    """Where checkpoints go; the finished adapter too."""
    parent: str | None
    """The folder of the adapter to start from."""
    scratch: str | None
    """Why there is none although the version has a parent."""
    rank: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]
    learning_rate: float
    epochs: int
    max_steps: int | None
    batch_size: int
    gradient_accumulation: int
    gradient_checkpointing: bool
    packing: bool
    max_length: int
    four_bit: bool
    early_stopping: int
    """Evaluations without a lower loss after which training ends; 0: never."""
    save_steps: int
    seed: int
    processes: int
    gpus: int
    """GPUs of all processes together; 0: the CPU."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file. Raises ``OSError`` and ``msgspec.DecodeError``."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @property
    def targets(self) -> str | list[str]:
        """The layers in PEFT's form."""
        return "all-linear" if self.target_modules == ("all-linear",) else list(self.target_modules)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass. With packing it is an estimate: as many sequences as all tokens would fill."""
        sequences = math.ceil(self.tokens_total / self.max_length) if self.packing else self.rows
        return max(1, math.ceil(sequences / (self.batch_size * self.gradient_accumulation * self.processes)))

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        planned = self.steps_per_epoch * self.epochs
        return planned if self.max_steps is None else min(planned, self.max_steps)

    @property
    def warm_up_steps(self) -> int:
        """Steps in which the learning rate rises."""
        return max(1, round(self.steps * WARM_UP))

    @property
    def evaluate_steps(self) -> int:
        """Steps between evaluations, each of which is a checkpoint too, so that the best one can be gone back to."""
        return min(self.save_steps, evaluation_every(self.steps))


def sft_arguments(recipe: Recipe, *, bf16: bool, fp16: bool, packing: bool) -> dict[str, Any]:
    """The arguments of TRL's ``SFTConfig``. Number formats depend on what the hardware has."""
    evaluates = recipe.held_back is not None
    arguments: dict[str, Any] = {
        "output_dir": recipe.work,
        "seed": recipe.seed,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": recipe.warm_up_steps,
        "num_train_epochs": recipe.epochs,
        "max_steps": -1 if recipe.max_steps is None else recipe.max_steps,
        "optim": "adamw_torch",
        "max_length": recipe.max_length,
        "packing": packing,
        "bf16": bf16,
        "fp16": fp16,
        "use_cpu": recipe.gpus == 0,
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": recipe.evaluate_steps if evaluates else recipe.save_steps,
        "save_total_limit": CHECKPOINTS_KEPT,
        "eval_strategy": "steps" if evaluates else "no",
    }
    if evaluates:
        arguments |= {
            "eval_steps": recipe.evaluate_steps,
            "load_best_model_at_end": recipe.early_stopping > 0,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return arguments
