"""The ``local`` section: what serves local answers, what trains versions, and when."""

from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from apprentice.config.types import (
    Count,
    CountOrNone,
    Cron,
    Findings,
    Gpu,
    HourlyPrice,
    Hours,
    Minutes,
    Pause,
    PositiveShare,
    Rate,
    Seconds,
    Section,
    Share,
    SourceWeights,
    Text,
    Url,
    Variables,
    Where,
)

BackendName = Literal["embedded", "vllm", "ollama", "llama_cpp", "transformers", "openai"]
FineTuneBackendName = Literal["embedded", "lora", "unsloth", "axolotl", "huggingface", "openai"]
Quantization = Literal["none", "8bit", "4bit"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]

ADAPTER_TRAINERS = ("lora", "unsloth", "axolotl", "huggingface")
"""Training backends that make LoRA adapters for an open-weight base model."""


class ServerConfig(Section):
    """The server of a local model that is not in this process."""

    url: Url | None = Field(
        None,
        description="Where the server listens. Without `command` it is somebody else's to start and stop.",
        json_schema_extra={"default_text": "the backend's usual address on this machine"},
    )
    managed: bool = Field(
        False, description="Whether the server is started, watched, restarted and stopped by the runtime."
    )
    command: tuple[Text, ...] = Field(
        (),
        description="The words of the command that starts a managed server; for llama_cpp those in front of the "
        "options that are made from the keys.",
        json_schema_extra={"default_text": "made from the keys of this section"},
    )
    args: tuple[Text, ...] = Field((), description="Further words for the command that is made from the keys.")
    environment: Variables = Field({}, description="Environment variables for a managed server.")
    start_timeout_s: Seconds = Field(600.0, description="How long a managed server may take to become healthy.")
    model_dir: Path | None = Field(
        None,
        description="Where the server sees the folder `model_dir`, if it runs in a container or on another machine.",
        json_schema_extra={"default_text": "the same path"},
    )
    adapter_slots: Count = Field(
        8, description="Versions held by the server at once; the one asked longest ago leaves first."
    )
    api_key_env: Text | None = Field(None, description="The environment variable that holds the server's API key.")
    gpus: tuple[Gpu, ...] = Field((), description="GPUs of a managed server; all visible ones if left out.")
    tensor_parallel: Count = Field(1, description="GPUs that one copy of the model is split over.")
    context: Count | None = Field(
        None, description="Longest prompt and answer together, in tokens; the model's own limit if left out."
    )
    lora_converter: Path | None = Field(
        None,
        description="llama.cpp's convert_lora_to_gguf.py: for llama_cpp, and for ollama beyond the llama and gemma2 "
        "families.",
    )


class TrainingConfig(Section):
    """How adapters are trained."""

    rank: Count = Field(16, description="Rank of the LoRA matrices: 8 for style, 32 for knowledge.")
    alpha: Count | None = Field(
        None, description="Scale of the LoRA update.", json_schema_extra={"default_text": "twice the rank"}
    )
    dropout: Share = Field(0.05, description="Dropout on the LoRA branch.")
    target_modules: tuple[Text, ...] = Field(
        ("all-linear",), description="Layers that get LoRA matrices, by name; or all-linear."
    )
    learning_rate: PositiveShare = Field(2e-4, description="Highest learning rate; it warms up and falls as a cosine.")
    epochs: Count = Field(3, description="Passes over the examples.")
    max_steps: Count | None = Field(None, description="Most optimizer steps; a hard cap.")
    max_minutes: Minutes = Field(
        120.0,
        description="Longest training, in minutes; a hard cap.",
        json_schema_extra={"default_text": "120, and 15 for embedded"},
    )
    stuck_after_s: Seconds = Field(900.0, description="Seconds without a sign of life after which a job is stopped.")
    batch_size: Count = Field(8, description="Sequences per process and step.")
    gradient_accumulation: Count = Field(1, description="Steps whose gradients are summed before the weights change.")
    gradient_checkpointing: bool = Field(True, description="Whether activations are computed twice to save memory.")
    packing: bool = Field(True, description="Whether short examples share a sequence, without seeing each other.")
    max_length: Count = Field(1024, description="Longest sequence in tokens; longer examples are left out and counted.")
    quantization: Literal["none", "4bit"] = Field("none", description="`4bit` trains on a quantized base (QLoRA).")
    continue_from_parent: bool = Field(True, description="Whether a version starts from the adapter of the one before.")
    early_stopping: CountOrNone = Field(
        3, description="Evaluations without a lower loss after which training ends; 0: never."
    )
    save_steps: Count = Field(50, description="Steps between checkpoints, from which an interrupted job goes on.")
    weights: SourceWeights = Field(
        {"remote": 1.0, "correction": 1.0, "import": 1.0},
        description="Weight of an example's loss, by its source.",
        json_schema_extra={"default_text": "all 1.0"},
    )
    balance: bool = Field(False, description="Whether examples of rare answers weigh more, up to four times.")
    processes: Count | None = Field(
        None,
        description="Processes of a job.",
        json_schema_extra={"default_text": "one per GPU, one without GPUs"},
    )
    gpus: tuple[Gpu, ...] = Field((), description="GPUs to train on; the CPU if left out.")
    gpus_per_job: Count | None = Field(
        None,
        description="GPUs of one job; several jobs then run side by side.",
        json_schema_extra={"default_text": "all of `gpus`"},
    )
    beside_server: bool = Field(False, description="Whether a job may use a GPU that the local server uses too.")
    accelerate_config: Path | None = Field(
        None, description="A configuration file of accelerate, for DeepSpeed or FSDP."
    )
    token_price: Rate | None = Field(
        None,
        description="What a million trained tokens cost, in US dollars; counted against the caps. Only for openai, "
        "which needs it.",
    )


class TriggersConfig(Section):
    """When versions are trained, beside `fine_tune_batch_size`. There must always be new examples."""

    cron: Cron | None = Field(
        None, description="When to train on whatever is new, in the time zone of the budget; missed times are made up."
    )
    max_wait_hours: Hours | None = Field(
        None, description="Hours after which the first new example is trained on even if the batch is not full."
    )
    quality_drop: bool = Field(True, description="Whether coaching triggers a training on a quarter of a batch.")
    cooldown_minutes: Pause = Field(
        0.0, description="Least minutes between the triggers of two trainings; what an operator asks for does not wait."
    )


class LocalConfig(Section):
    """The student: what serves local answers and how it is trained."""

    compared: ClassVar = frozenset({"backend"})

    backend: BackendName = Field(
        "embedded", description="What serves local versions; embedded needs no server, no GPU and no download."
    )
    base_model: Text | None = Field(
        None, description="The open-weight model that versions are trained from: a folder or a name; not for embedded."
    )
    server_model: Text | None = Field(
        None,
        description="The base model as the server knows it: a served name, an Ollama tag, a GGUF file.",
        json_schema_extra={"default_text": "as base_model"},
    )
    fine_tune_backend: FineTuneBackendName = Field("embedded", description="What trains versions.")
    fine_tune_batch_size: Count = Field(100, description="New examples that trigger the next training.")
    model_dir: Path = Field(Path("./models/"), description="Where versions are kept, as TASK/vN/.")
    encoder: Text | None = Field(
        None,
        description="A sentence encoder: a folder (`./encoder`) or an installed package with a sentence-transformers "
        "or ONNX model, or an `.onnx` file; n-grams if left out.",
    )
    encoder_tuning: Literal["none", "lora"] = Field(
        "none",
        description="Whether the encoder is fine-tuned on the task's answers as they double in number, from 300 on; "
        "minutes of CPU each time.",
    )
    price_per_hour: HourlyPrice = Field(
        Decimal(0), description="What an hour of local compute costs, in US dollars; counted against the caps."
    )
    keep_versions: Count = Field(3, description="Versions of each task that are kept for rolling back.")
    batch_size: Count = Field(8, description="Requests that the transformers backend answers together.")
    quantization: Quantization = Field("none", description="How the base model is loaded for answering.")
    dtype: Dtype = Field("auto", description="Number format of the base model.")
    device_map: Text = Field("auto", description="Where the transformers backend puts the base model.")
    server: ServerConfig = Field(ServerConfig(), description="The server that answers, for the other backends.")
    training: TrainingConfig = Field(TrainingConfig(), description="How adapters are trained.")
    triggers: TriggersConfig = Field(TriggersConfig(), description="When versions are trained.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        found = [*self._pairing(), *self._addresses(), *self._devices()]
        if found:
            raise Findings(found)
        return self

    def _pairing(self) -> list[tuple[Where, str]]:
        """Serving and training have to fit, and a base model is there or not."""
        found: list[tuple[Where, str]] = []
        alike = self.backend if self.backend in ("embedded", "openai") else None
        fits = self.fine_tune_backend == alike if alike else self.fine_tune_backend in ADAPTER_TRAINERS
        if not fits:
            other = f"`{alike}`" if alike else "another one, such as `lora`"
            text = f"`{self.fine_tune_backend}` does not train for the backend {self.backend}; write {other}"
            found.append((("fine_tune_backend",), text))
        embedded = self.backend == "embedded"
        if not embedded and self.base_model is None:
            found.append((("base_model",), f"missing: {self.backend} needs an open-weight model to start from"))
        if embedded and self.base_model is not None:
            found.append((("base_model",), "is not read by the embedded backend; remove it or choose another backend"))
        if self.encoder is not None and not embedded:
            found.append((("encoder",), f"is not read by the backend {self.backend}; remove it"))
        if self.encoder_tuning != "none" and (self.encoder is None or self.encoder.endswith(".onnx")):
            text = "tunes a sentence-transformers encoder; name its folder or package as `encoder`, or remove this"
            found.append((("encoder_tuning",), text))
        if self.training.token_price is not None and self.fine_tune_backend != "openai":
            text = f"is not read by the training backend {self.fine_tune_backend}; remove it"
            found.append((("training", "token_price"), text))
        return found

    def _addresses(self) -> list[tuple[Where, str]]:
        found: list[tuple[Where, str]] = []
        server = self.server
        if server.command and not server.managed:
            found.append((("server", "command"), "is only run for a managed server; write `managed: true`"))
        if server.command and server.url is None and self.backend != "llama_cpp":
            found.append((("server", "url"), "missing: write where the server that `command` starts will listen"))
        if server.managed and self.backend not in ("vllm", "llama_cpp"):
            text = f"the runtime does not start servers for the backend {self.backend}; start it yourself"
            found.append((("server", "managed"), text))
        if self.backend == "llama_cpp" and not server.managed:
            text = "llama.cpp takes adapters only when it starts, so its server has to be `managed: true`"
            found.append((("server", "managed"), text))
        return found

    def _devices(self) -> list[tuple[Where, str]]:
        found: list[tuple[Where, str]] = []
        training, server = self.training, self.server
        shared = sorted({*training.gpus} & {*server.gpus})
        if shared and not training.beside_server:
            text = f"GPU {shared[0]} is the server's too; give it to one of them, or write `beside_server: true`"
            found.append((("training", "gpus"), text))
        if training.gpus_per_job is not None and training.gpus_per_job > max(1, len(training.gpus)):
            text = f"a job cannot have {training.gpus_per_job} of {len(training.gpus)} GPUs"
            found.append((("training", "gpus_per_job"), text))
        elif training.gpus_per_job is not None and training.gpus and len(training.gpus) % training.gpus_per_job:
            rest = len(training.gpus) % training.gpus_per_job
            text = f"leaves {rest} of {len(training.gpus)} GPUs without a job; write a number that divides them evenly"
            found.append((("training", "gpus_per_job"), text))
        if len({*training.gpus}) < len(training.gpus):
            found.append((("training", "gpus"), "names a GPU twice"))
        return found
