"""Fine-tuning of a sentence encoder on a task's answers, in the training worker: LoRA in the upper half of its layers.

Two losses add up. One draws texts with the same answer together and pushes others apart (Khosla et al.: Supervised
Contrastive Learning, NeurIPS 2020): the better one with few examples per answer. The other is the cross-entropy of a
choice among the answers' centres, which move along: the better one with many. A fifth of the rows is never shown, so
that something is left to tell by how sure the model may be; which rows these are depends on the input alone.
"""

import importlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import cos, pi
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from apprentice.errors import MissingExtra
from apprentice.local.encoder import as_texts
from apprentice.local.heads import plan, spelled
from apprentice.local.names import as_inputs, names
from apprentice.local.tuned import SEEN_FILE, Adapter, Seen, digest
from apprentice_actors.ports import Example, JsonObject

ROWS_MIN = 300
"""Fewer rows are not worth it: a fifth of them could not calibrate anything."""
GROWTH = 2.0
"""An encoder is tuned anew when there are so many times the rows of the last time."""
_FOLDS = 5
_RANK = 8
_LEARNING_RATE = 5e-4
_DROPOUT = 0.1
_WARM_UP = 0.1
_EPOCHS = 3
_STEPS_MAX = 200
_PAIRS = 16
"""Of a step: so many texts, and for each another one with the same answer."""
_WINDOW = 8 * _PAIRS
_DRAWN = 5
_TEMPERATURE = 0.1
"""Of cosines in the contrastive loss."""
_SCALE = 20.0
"""Of cosines in the cross-entropy."""
_SMOOTHING = 0.1
_CENTRE_RATE = 1e-3
_CHARACTERS_MAX = 400
"""Of a text in tuning: what a step takes grows with the longest text in it."""


class Lessons(NamedTuple):
    """Texts, each with the number of its group: texts of a group have the same answer."""

    texts: list[str]
    groups: list[int]


def due(rows: int, before: int) -> bool:
    """Whether ``rows`` training rows are enough to tune, when there were ``before`` of them the last time, or 0."""
    return rows >= max(ROWS_MIN, GROWTH * before)


def shown(rows: Sequence[Example]) -> list[Example]:
    """The four fifths of the rows that tuning sees."""
    return [row for row in rows if int(digest(row.input), 16) % _FOLDS]


def lessons(rows: Sequence[Example], schema: JsonObject | None, match_fields: Sequence[str]) -> Lessons | None:
    """The rows by their answers in the fields that count, and the names of answers; None where nothing repeats.

    Only fields with a choice of values group anything. Names join where there is a single such field.
    """
    outputs = [row.output for row in rows]
    heads = plan(outputs, schema)
    counted = [head for head in heads if head.kind == "choice" and (not match_fields or head.field in match_fields)]
    keys = [tuple(spelled(output, head.field) for head in counted) for output in outputs]
    inputs = [row.input for row in rows]
    if len(counted) == 1:
        values, found = counted[0].values, names(counted)
        keys += [(values[name.column],) for name in found]
        inputs += as_inputs(found)
    texts = [text[:_CHARACTERS_MAX] for text in as_texts(inputs)]
    sizes = Counter(keys)
    kept = [(text, key) for text, key in zip(texts, keys, strict=True) if sizes[key] > 1]
    number: Mapping[tuple[str, ...], int] = {key: at for at, key in enumerate(dict.fromkeys(key for _, key in kept))}
    if not counted or len(number) < 2:
        return None
    return Lessons([text for text, _ in kept], [number[key] for _, key in kept])


def batches(taught: Lessons, seed: int) -> list[list[int]]:
    """Positions of the texts of each step: every text once an epoch, and beside it another one of its group.

    Texts of similar length share a step, since all take as long as the longest.
    """
    chance = random.Random(seed)
    lengths = [len(text) for text in taught.texts]
    members = defaultdict(list)
    for at, group in enumerate(taught.groups):
        members[group].append(at)
    steps: list[list[int]] = []
    for _ in range(_EPOCHS):
        order = chance.sample(range(len(lengths)), len(lengths))
        windows = [order[begin : begin + _WINDOW] for begin in range(0, len(order), _WINDOW)]
        for window in windows:
            window.sort(key=lengths.__getitem__)
            halves = [window[begin : begin + _PAIRS] for begin in range(0, len(window), _PAIRS)]
            chance.shuffle(halves)
            steps += [
                half + [_partner(at, members[taught.groups[at]], lengths, chance) for at in half] for half in halves
            ]
    return steps[:_STEPS_MAX]


def _partner(at: int, members: Sequence[int], lengths: Sequence[int], chance: random.Random) -> int:
    """Another one of ``members``: of a few drawn, the nearest in length."""
    drawn = [other for other in chance.sample(members, min(_DRAWN, len(members))) if other != at]
    return min(drawn, key=lambda other: abs(lengths[other] - lengths[at]))


def rate(done: float) -> float:
    """The share of the full learning rate: it rises over the first tenth and falls as a cosine."""
    if done < _WARM_UP:
        return (done + 0.01) / (_WARM_UP + 0.01)
    return 0.5 * (1.0 + cos(pi * (done - _WARM_UP) / (1.0 - _WARM_UP)))


def tune(
    sentences: Any,
    taught: Lessons,
    *,
    seed: int,
    folder: Path,
    seconds_max: float,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Train matrices for ``sentences``, a ``SentenceTransformer`` that this uses up, and write them as peft does.

    Where ``seconds_max`` does not suffice for every step, the learning rate falls sooner and the last steps are left
    out. Raises :class:`MissingExtra` without peft.
    """
    torch, peft = importlib.import_module("torch"), _peft()
    torch.manual_seed(seed)
    body = sentences[0]
    config = peft.LoraConfig(
        r=_RANK, lora_alpha=2 * _RANK, lora_dropout=_DROPOUT, target_modules=_upper_half(body.auto_model, torch)
    )
    adapted = body.auto_model = peft.get_peft_model(body.auto_model, config)
    steps = batches(taught, seed)
    centres = torch.nn.Parameter(_centres(sentences, taught, torch))
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": trained, "full": _LEARNING_RATE}, {"params": [centres], "full": _CENTRE_RATE}], weight_decay=0.01
    )
    sentences.train()
    begun = time.monotonic()
    for at, places in enumerate(steps):
        done = max(at / len(steps), (time.monotonic() - begun) / seconds_max)
        if done >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * rate(done)
        features = sentences.preprocess([taught.texts[place] for place in places])
        units = torch.nn.functional.normalize(sentences(features)["sentence_embedding"], dim=-1)
        groups = torch.tensor([taught.groups[place] for place in places])
        loss = _contrast(units, groups, torch) + _choice(units, groups, centres, torch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(done)
    adapted.save_pretrained(str(folder), safe_serialization=True)


def note_seen(folder: Path, rows: Sequence[Example], encoder_sha256: str) -> Adapter:
    """Write beside the matrices in ``folder`` what they saw of ``rows``."""
    inputs = tuple(sorted({digest(row.input) for row in shown(rows)}))
    seen = Seen(encoder_sha256=encoder_sha256, rows=len(rows), inputs=inputs)
    (folder / SEEN_FILE).write_bytes(msgspec.json.encode(seen))
    return Adapter.read(folder)


def _peft() -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise MissingExtra(
            "fine-tuning an encoder needs peft; install it with: pip install 'apprentice[encoder]'"
        ) from error


def _upper_half(model: Any, torch: Any) -> list[str]:
    """Full names of the linear layers in the later half of those that texts run through."""
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    inner = [name for name in linear if not name.startswith("pooler")]  # of BERT, and not on the way to the vector
    return inner[len(inner) // 2 :]


def _centres(sentences: Any, taught: Lessons, torch: Any) -> Any:
    """The mean of each group's vectors, length 1."""
    vectors = torch.tensor(sentences.encode(taught.texts, normalize_embeddings=True, show_progress_bar=False))
    groups = torch.tensor(taught.groups)
    sums = torch.zeros(int(groups.max()) + 1, vectors.shape[1]).index_add_(0, groups, vectors)
    return torch.nn.functional.normalize(sums, dim=-1)


def _contrast(units: Any, groups: Any, torch: Any) -> Any:
    """Each vector is to tell the others of its group from the rest."""
    own = torch.eye(len(units), dtype=torch.bool)
    likeness = (units @ units.T / _TEMPERATURE).masked_fill(own, -torch.inf)
    alike = (groups[:, None] == groups[None, :]) & ~own
    share = (likeness - likeness.logsumexp(dim=1, keepdim=True)).masked_fill(~alike, 0.0)
    return -(share.sum(dim=1) / alike.sum(dim=1)).mean()


def _choice(units: Any, groups: Any, centres: Any, torch: Any) -> Any:
    """Each vector is to be nearest to the centre of its group."""
    scores = _SCALE * units @ torch.nn.functional.normalize(centres, dim=-1).T
    return torch.nn.functional.cross_entropy(scores, groups, label_smoothing=_SMOOTHING)
