"""The training itself: steps, evaluations, checkpoints and the reasons to end. Runs in every process of a job alike."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy

from apprentice.training.adapters import checkpoint
from apprentice.training.adapters.checkpoint import Point, Progress
from apprentice.training.adapters.model import Tensors, adapter_weights, put_weights
from apprentice.training.adapters.packing import PADDING, SHARED, Layout, Row, lay_out, shared_prefix
from apprentice.training.adapters.plan import Plan
from apprentice.training.adapters.schedule import TRAINING_SHARE, evaluation_every, learning_rate, share_of, steps_of
from apprentice.training.worker import Refused

_CLIP = 1.0

type Ending = Literal["steps", "early_stopping", "time"]
type Told = Callable[[float, str], None]


class AnswerLoss:
    """The weighted loss of the learned tokens. Logits are computed for them alone: the others are most of a sequence.

    That is done before the model's last layer, so that whatever the model does to its logits is still done.
    """

    def __init__(self, model: Any, adapted: Any) -> None:
        """``model`` is called, perhaps through a wrapper of several processes; ``adapted`` is the model inside."""
        self._model = model
        self._at: Any = None
        self._additive = adapted.config._attn_implementation != "sdpa"
        adapted.get_output_embeddings().register_forward_pre_hook(self._select)

    def __call__(self, layout: Layout, device: Any, *, packed: bool) -> Any:
        """The sum over the learned tokens of loss times weight; divide by the weights' sum for the mean."""
        owners = torch.tensor(layout.owners, device=device)
        self._at = torch.tensor(layout.at, device=device)
        try:
            logits = self._model(
                input_ids=torch.tensor(layout.ids, device=device),
                position_ids=torch.tensor(layout.positions, device=device),
                attention_mask=self._mask(owners) if packed else (owners != PADDING).long(),
                use_cache=False,
            ).logits
        finally:
            self._at = None
        targets = torch.tensor(layout.targets, device=device)
        losses = cross_entropy(logits[0].float(), targets, reduction="none")
        return (losses * torch.tensor(layout.weights, device=device)).sum()

    def _mask(self, owners: Any) -> Any:
        """Every token sees those before it that are its own example's or shared."""
        seen = (owners[:, :, None] == owners[:, None, :]) | (owners[:, None, :] == SHARED)
        mask = torch.tril(seen)[:, None]
        if not self._additive:
            return mask
        return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float16).min)

    def _select(self, module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._at is None:
            return inputs
        hidden, *rest = inputs
        return (hidden.reshape(-1, hidden.shape[-1])[self._at][None], *rest)


class Training:
    """One job's training in this process."""

    def __init__(self, plan: Plan, rows: Sequence[Row], held: Sequence[Row], adapted: Any, accelerator: Any) -> None:
        """``held`` is the slice of training rows that tells when to stop; ``adapted`` is the base with its adapter."""
        settings = plan.settings
        self._plan, self._rows, self._held = plan, rows, held
        self._adapted, self._accelerator = adapted, accelerator
        self.shared = shared_prefix([*rows, *held])
        """How many tokens all prompts begin with; packed sequences hold them once."""
        self._width = getattr(adapted.config.get_text_config(), "hidden_size", 1024)
        named = [(name, value) for name, value in adapted.named_parameters() if value.requires_grad]
        self._names = [name for name, _ in named]
        fused = accelerator.device.type == "cuda"
        optimizer = torch.optim.AdamW([value for _, value in named], weight_decay=0.0, fused=fused)
        if (deepspeed := getattr(accelerator.state, "deepspeed_plugin", None)) is not None:  # it sees no data loader
            deepspeed.deepspeed_config["train_micro_batch_size_per_gpu"] = settings.batch_size
        self._model, self._optimizer = accelerator.prepare(adapted, optimizer)
        self._loss = AnswerLoss(self._model, adapted)
        self._per_step = settings.batch_size * settings.gradient_accumulation * accelerator.num_processes
        self._progress = Progress(seed=plan.job.seed)
        self._best: Tensors | None = None

    @property
    def in_pieces(self) -> bool:
        """Whether the weights are spread over the processes (FSDP, DeepSpeed)."""
        return self._accelerator.distributed_type in ("FSDP", "DEEPSPEED")

    def resume(self) -> int:
        """Go on from the job's checkpoint, if there is one; returns the step."""
        found = checkpoint.load(Path(self._plan.work))
        if found is None or self.in_pieces:
            return 0
        self._progress, adapter, self._best, moments = found
        put_weights(self._adapted, adapter)
        checkpoint.put_moments(self._optimizer.optimizer, self._names, moments)
        return self._progress.step

    def run(self, told: Told) -> tuple[Progress, Ending, Tensors]:
        """Train to the end; returns how it went and the adapter's weights: the best by evaluation, or the last."""
        settings, progress = self._plan.settings, self._progress
        steps = steps_of(
            len(self._rows),
            epochs=settings.epochs,
            per_step=self._per_step,
            seed=progress.seed,
            max_steps=settings.max_steps,
        )
        deadline = self._plan.ends_at - settings.max_minutes * 60.0 * (1.0 - TRAINING_SHARE)
        before_s, start = progress.seconds, time.monotonic()
        ending: Ending = "steps"
        every = evaluation_every(len(steps))
        while progress.step < len(steps):
            rate = learning_rate(progress.step, len(steps), settings.learning_rate)
            loss, late = self._step(steps[progress.step], rate, late=time.time() >= deadline)
            progress.seconds = before_s + time.monotonic() - start
            progress.step += 1
            progress.losses.append(Point(progress.step, loss, rate))
            told(progress.step / len(steps), f"step {progress.step} of {len(steps)}, loss {loss:.4f}")
            if self._held and settings.early_stopping and progress.step % every == 0:
                self._evaluate()
                if progress.worse >= settings.early_stopping:
                    ending = "early_stopping"
                    break
            if late:
                ending = "time"
                break
            if progress.step % settings.save_steps == 0 and progress.step < len(steps):
                self._save()
        progress.seconds = before_s + time.monotonic() - start
        return progress, ending, self._best if self._best is not None else self._weights()

    def _step(self, members: Sequence[int], rate: float, *, late: bool) -> tuple[float, bool]:
        """One optimizer step over all processes; returns the mean loss, and whether any process says it is late."""
        settings, accelerator, progress = self._plan.settings, self._accelerator, self._progress
        whole = sum(self._rows[at].weight * len(self._rows[at].answer) for at in members)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batches = share_of(
            members,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            batch=settings.batch_size,
            accumulation=settings.gradient_accumulation,
        )
        total = torch.zeros((), device=accelerator.device)
        for turn, batch in enumerate(batches):
            self._draw(turn)
            with accelerator.accumulate(self._model):
                loss = self._sum([self._rows[at] for at in batch])
                total += loss.detach()
                # Gradients are averaged over the processes and the turns; the loss is a mean over the whole step.
                parts = accelerator.num_processes * settings.gradient_accumulation
                accelerator.backward(loss * (parts / whole))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self._model.parameters(), _CLIP)
                self._optimizer.step()
                self._optimizer.zero_grad()
        progress.tokens += sum(self._rows[at].tokens for at in members)
        both = accelerator.reduce(torch.stack([total, torch.full_like(total, float(late))]), reduction="sum")
        mean = float(both[0]) / whole
        if not math.isfinite(mean):
            raise Refused(f"the loss of step {progress.step + 1} is not a number; lower learning_rate, or use float32")
        return mean, bool(both[1] > 0)

    def _sum(self, rows: Sequence[Row]) -> Any:
        """The summed loss of some rows; a process without any takes part with one that weighs nothing."""
        settings = self._plan.settings
        if not rows:
            shortest = min(self._rows, key=lambda row: row.tokens)
            rows = [Row(shortest.prompt, shortest.answer, 0.0)]
        layout = lay_out(
            rows,
            shared=self.shared,
            length_max=settings.max_length,
            packing=settings.packing,
            width=self._width,
        )
        return self._loss(layout, self._accelerator.device, packed=settings.packing)

    def _draw(self, turn: int) -> None:
        """Chance that depends on nothing but where the training is."""
        at = self._progress.step * self._plan.settings.gradient_accumulation + turn
        torch.manual_seed((self._progress.seed * 1_000_003 + at) * 1009 + self._accelerator.process_index)

    def _evaluate(self) -> None:
        accelerator, progress = self._accelerator, self._progress
        mine = list(self._held[accelerator.process_index :: accelerator.num_processes])
        each, batch = -(-len(self._held) // accelerator.num_processes), self._plan.settings.batch_size
        with _judging(self._model):  # in every process equally often, as wrappers that gather weights need it
            sums = [self._sum(mine[at : at + batch]) for at in range(0, each, batch)]
        total = accelerator.reduce(torch.stack(sums).sum(), reduction="sum")
        loss = float(total) / sum(row.weight * len(row.answer) for row in self._held)
        best = min((point.loss for point in progress.evaluations), default=math.inf)
        progress.evaluations.append(Point(progress.step, loss))
        if loss < best:
            progress.best_step, progress.worse, self._best = progress.step, 0, self._weights()
        else:
            progress.worse += 1

    def _weights(self) -> Tensors:
        state = self._accelerator.get_state_dict(self._model) if self.in_pieces else None
        return adapter_weights(self._adapted, state)

    def _save(self) -> None:
        if self._accelerator.is_main_process and not self.in_pieces:
            moments = checkpoint.moments_of(self._optimizer.optimizer, self._names)
            checkpoint.save(Path(self._plan.work), self._progress, self._weights(), self._best, moments)


@contextmanager
def _judging(model: Any) -> Iterator[None]:
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()
