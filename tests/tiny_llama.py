"""A language model for tests: a Llama of about a million parameters, made and pretrained on the spot in seconds.

It answers in JSON by the rule 0 of a toy task, tickets to be sorted. The other rules, which need the same reading but
name other values, are what adapters are trained for. Its SentencePiece tokenizer (byte fallback, no blank put in front)
is written twice: ``tokenizer.json`` for transformers and vLLM, ``tokenizer.model`` for llama.cpp's converter.

``python -m tests.tiny_llama FOLDER`` makes one by hand. Needs torch, transformers and sentencepiece.
"""

import io
import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from apprentice.local.chat import messages, target
from apprentice.schema import Schema
from apprentice_actors.ports import Example, JsonObject, Question
from tests.made_once import made_once

TOPICS = {
    "billing": ("invoice", "refund", "charge", "receipt", "payment", "discount"),
    "technical": ("crash", "error", "bug", "freeze", "timeout", "outage"),
    "shipping": ("parcel", "courier", "delivery", "package", "tracking", "address"),
    "account": ("password", "login", "profile", "username", "signup", "email"),
}
CATEGORIES = tuple(TOPICS)
URGENCY = {
    1: ("now", "urgent", "immediately"),
    2: ("today", "soon", "tomorrow"),
    3: ("sometime", "eventually", "later"),
}
OPENINGS = ("hello", "dear team", "good morning", "hi there", "please help", "to whom it may concern")
MIDDLES = ("there is something about my", "i write because of the", "a question on this", "we have trouble with our")
ENDINGS = ("thank you", "best wishes", "kind regards", "awaiting your reply", "cheers")

TASK = "tickets"
DESCRIPTION = "Sort the ticket into a category and say how urgent it is."
NOTATION: JsonObject = {
    "category": list(CATEGORIES),
    "priority": {"type": "int", "minimum": min(URGENCY), "maximum": max(URGENCY)},
}
"""The output schema as a configuration writes it."""
SCHEMA = Schema.parse(NOTATION, closed=True).json_schema

STEPS = 220
_BRANCHES = 16
_OTHER_DESCRIPTIONS = ("", "Read the ticket.", "Say what the ticket is about and when it has to be answered.")
_SPECIAL = ("<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


# ---------------------------------------------------------------- the toy task


def ticket(chance: random.Random) -> JsonObject:
    """An input: words around one that tells the topic and one that tells the urgency."""
    topic, urgency = chance.choice(CATEGORIES), chance.choice(tuple(URGENCY))
    words = f"{chance.choice(MIDDLES)} {chance.choice(TOPICS[topic])}", chance.choice(URGENCY[urgency])
    around = chance.choice(OPENINGS), *(words if chance.random() < 0.5 else words[::-1]), chance.choice(ENDINGS)
    return {"text": f"{' '.join(around)} {chance.randrange(100)}"}


def answer(asked: JsonObject, rule: int = 1) -> JsonObject:
    """The right output under a rule: by each, topics have another category; odd rules turn the priorities round."""
    words = set(asked["text"].split())
    topic = next(at for at, known in enumerate(TOPICS.values()) if words & {*known})
    urgency = next(level for level, known in URGENCY.items() if words & {*known})
    category = CATEGORIES[(topic + rule) % len(CATEGORIES)]
    return {"category": category, "priority": len(URGENCY) + 1 - urgency if rule % 2 else urgency}


def examples(count: int, *, seed: int = 0, rule: int = 1, avoid: Iterable[JsonObject] = ()) -> list[Example]:
    """Rows whose inputs differ from each other and from ``avoid``."""
    chance = random.Random(seed)
    seen = {asked["text"] for asked in avoid}
    rows: list[Example] = []
    while len(rows) < count:
        asked = ticket(chance)
        if asked["text"] not in seen:
            seen.add(asked["text"])
            rows.append(Example(request=f"r{seed}-{len(rows)}", input=asked, output=answer(asked, rule)))
    return rows


def question(asked: JsonObject) -> Question:
    """The input as a model is asked about it."""
    return Question(task=TASK, input=asked, description=DESCRIPTION, output_schema=SCHEMA)


# ---------------------------------------------------------------- the model


def make_base(folder: Path, *, steps: int = STEPS, seed: int = 0, vocab: int = 768) -> Path:
    """Make a base model, pretrain it for ``steps`` steps and save it in ``folder``. The same call, the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder, vocab)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model gains nothing from more, and sums come out alike everywhere
    try:
        _pretrain(model, tokenizer, steps, random.Random(seed))
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    return folder


def cached_base() -> Path:
    """A base model of default settings, made once and kept among the temporary files of this machine."""
    import torch
    import transformers

    versions = f"{torch.__version__} {transformers.__version__}"
    return made_once("tiny-llama", Path(__file__), versions, make_base)


def make_tokenizer(folder: Path, vocab: int) -> Any:
    """Train a SentencePiece model on the task's prompts and write it in both forms; returns the tokenizer."""
    import sentencepiece
    from transformers import AutoTokenizer

    chance = random.Random(0)
    texts = [line for at in range(400) for line in _prompt_lines(ticket(chance), chance, whole=at < 20)]
    learned = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=learned,
        vocab_size=vocab,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        control_symbols=list(_SPECIAL),
        pad_id=3,
        split_digits=True,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(learned.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=learned.getvalue())
    _fast_tokenizer(pieces).save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": _SPECIAL[1],
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "chat_template": _TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return AutoTokenizer.from_pretrained(str(folder))


def _prompt_lines(asked: JsonObject, chance: random.Random, *, whole: bool) -> list[str]:
    """What a chat is made of, line by line; without the system message, which never changes, unless ``whole``."""
    told = messages(question(asked))[0 if whole else 1 :]
    text = target(answer(asked, chance.randrange(4)), SCHEMA)
    return [line for message in told for line in message["content"].splitlines() if line] + [text, "user", "assistant"]


def _fast_tokenizer(pieces: Any) -> Any:
    """The same tokenizer in the form of the tokenizers library: merges in the order of the pieces' ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    ids = {pieces.id_to_piece(at): at for at in range(len(pieces))}
    merges = [
        (ids[piece], at, piece[:at], piece[at:])
        for piece in ids
        for at in range(1, len(piece))
        if piece[:at] in ids and piece[at:] in ids and not piece.startswith("<")
    ]
    made = Tokenizer(
        BPE(
            vocab=ids,
            merges=[(left, right) for *_, left, right in sorted(merges)],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>", "<pad>", *_SPECIAL)])
    return made


# ---------------------------------------------------------------- pretraining


def _pretrain(model: Any, tokenizer: Any, steps: int, chance: random.Random) -> None:
    """Fit rule 0. The examples of a step all see the tokens of one system message, but not each other."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, max(steps, 10), pct_start=0.1)
    model.train()
    for _ in range(steps):
        description = DESCRIPTION if chance.random() < 0.6 else chance.choice(_OTHER_DESCRIPTIONS)
        batch = _shared_prefix(tokenizer, description, [ticket(chance) for _ in range(_BRANCHES)])
        labels = batch.pop("labels")
        logits = model(**batch).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[labels >= 0], labels[labels >= 0])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def _shared_prefix(tokenizer: Any, description: str, asked: Sequence[JsonObject]) -> dict[str, Any]:
    """One sequence: the system message, then every example as a branch of its own; labels are of the next tokens."""
    import torch

    told = messages(Question(task=TASK, input={}, description=description, output_schema=SCHEMA))
    prefix = _ids(tokenizer, f"<|im_start|>system\n{told[0]['content']}<|im_end|>\n")
    ids, positions, owners, labels = [*prefix], [*range(len(prefix))], [0] * len(prefix), [-1] * len(prefix)
    for at, value in enumerate(asked, 1):
        text = messages(Question(task=TASK, input=value))[-1]["content"]
        shown = _ids(tokenizer, f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")
        learned = _ids(tokenizer, f"{target(answer(value, 0), SCHEMA)}<|im_end|>")
        ids += shown + learned
        positions += range(len(prefix), len(prefix) + len(shown) + len(learned))
        owners += [at] * (len(shown) + len(learned))
        labels += [-1] * (len(shown) - 1) + learned + [-1]
    owner = torch.tensor(owners)
    seen = (owner[:, None] == owner[None, :]) | (owner[None, :] == 0)
    mask = torch.tril(seen)[None, None]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min),
        "labels": torch.tensor(labels),
    }


def _ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return found


if __name__ == "__main__":
    make_base(Path(sys.argv[1]))
