"""The training backend ``lora``: peft under ``accelerate launch``, one process per GPU of the job."""

import os
from collections.abc import Sequence
from pathlib import Path

from apprentice.config import LocalConfig
from apprentice.training.adapters.plan import PLAN, Plan
from apprentice.training.process import PYTHON, environment
from apprentice.training.stages import Stage, StagedTrainer, require

PACKAGES = ("torch", "transformers", "peft", "accelerate", "matplotlib", "numpy", "safetensors")
EXTRA = "pip install 'apprentice[train]'"
_WORKER = ("-m", "apprentice.training.adapters.worker")
_ONE_MACHINE = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")


class LoraTrainer(StagedTrainer):
    """Trains LoRA adapters for ``vllm``, ``ollama``, ``llama_cpp`` and ``transformers``."""

    def __init__(self, local: LocalConfig) -> None:
        """Raises :class:`apprentice.errors.MissingExtra` where a package is missing."""
        require(PACKAGES, "the training backend lora", EXTRA)
        super().__init__(local, stages)


def stages(plan: Plan) -> Sequence[Stage]:
    """One command that trains, measures and writes the version."""
    return (Stage((*PYTHON, "-m", "accelerate.commands.launch", *command(plan)), surroundings(plan)),)


def command(plan: Plan, program: Sequence[str] = _WORKER) -> tuple[str, ...]:
    """The words after ``accelerate launch``. The ``program`` itself decides about the number format.

    With ``--cpu`` accelerate starts one process, whatever number it is given: several are started by torch's launcher
    below it. For GPUs a configuration is written for the job; without one the user's default would be read.
    """
    work, settings, count = Path(plan.work), plan.settings, str(plan.processes)
    worker = (*program, str(work / PLAN))
    if settings.accelerate_config is not None:
        number = ("--num_processes", count) if settings.processes is not None or plan.job.devices else ()
        return ("--config_file", settings.accelerate_config, *number, "--main_process_port", "0", *worker)
    if plan.job.devices:
        return ("--config_file", str(_own_configuration(plan, work)), *worker)
    several = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count) if plan.processes > 1 else ()
    return ("--cpu", "--num_processes", count, *_ONE_MACHINE, *several, *worker)


def surroundings(plan: Plan) -> dict[str, str]:
    """The environment of a stage: the job's GPUs and no others, its share of the CPU, no network without need."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // plan.processes))
    offline = {"HF_HUB_OFFLINE": "1"} if plan.settings.local else {}
    return environment(
        network=not plan.settings.local,
        CUDA_VISIBLE_DEVICES=",".join(map(str, plan.job.devices)),
        OMP_NUM_THREADS=threads,
        OMP_WAIT_POLICY="PASSIVE",  # threads that wait actively take the cores from whoever answers
        PYTHONSAFEPATH="1",
        **offline,
    )


def _own_configuration(plan: Plan, work: Path) -> Path:
    path = work / "accelerate.yaml"
    kind = "MULTI_GPU" if plan.processes > 1 else "'NO'"
    path.write_text(
        f"compute_environment: LOCAL_MACHINE\ndistributed_type: {kind}\nnum_machines: 1\nmachine_rank: 0\n"
        f"num_processes: {plan.processes}\nmain_process_port: 0\nmixed_precision: 'no'\nuse_cpu: false\ngpu_ids: all\n",
        encoding="ascii",
    )
    return path
