"""Writing answers with transformers: the base model once, adapters by name, many questions in one batch.

Everything here blocks and belongs into one thread. Decoding is greedy. Where xgrammar is installed, the text is kept to
the answer's schema; the log-probabilities are those of the model itself, before anything is forbidden.
"""

import importlib.util
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from tokenizers.decoders import DecodeStream

from apprentice.local import chat
from apprentice.local.confidence import Token
from apprentice.local.replies import Reply
from apprentice_actors.ports import JsonObject, LocalFailure, Question

logger = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"
_GRAMMARS_MAX = 64
"""Compiled schemas that are kept."""


class Generator:
    """One base model and the adapters on it."""

    def __init__(
        self,
        base_model: str,
        *,
        dtype: str = "auto",
        device_map: str = "auto",
        quantization: str = "none",
        context: int | None = None,
    ) -> None:
        """Load the base model. Raises :class:`LocalFailure`."""
        more = {"quantization_config": _quantized(quantization)} if quantization != "none" else {}
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(base_model, padding_side="left")
            self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                base_model, dtype=dtype, device_map=device_map, use_safetensors=True, **more
            )
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise LocalFailure(f"the base model {base_model} cannot be loaded: {error}") from error
        if self._tokenizer.chat_template is None:
            raise LocalFailure(f"the base model {base_model} has no chat template; take one that was trained to chat")
        self._model.eval()
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._context = min(filter(None, (limit, context)), default=None)
        self._ends = _ends(self._model, self._tokenizer)
        self._pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else self._ends[0]
        # The settings that came with the base model are for chatting: penalties and temperatures change what is said.
        self._model.generation_config = transformers.GenerationConfig(
            do_sample=False, eos_token_id=self._ends, pad_token_id=self._pad
        )
        self._adapted: PeftModel | None = None
        self._names: dict[str, str] = {}
        self._numbers = itertools.count()
        self._guide = _Guide(self._tokenizer, self._model.config.get_text_config().vocab_size)

    def add(self, version: str, folder: Path) -> None:
        """Put an adapter beside the others. Raises :class:`LocalFailure`."""
        name = f"adapter_{next(self._numbers)}"  # as modules are named: a version's name has characters they refuse
        try:
            if not (folder / WEIGHTS).is_file():
                raise LocalFailure(f"{folder / WEIGHTS} is missing: it is no adapter, or none in safetensors")
            if self._adapted is None:
                self._adapted = PeftModel.from_pretrained(self._model, str(folder), adapter_name=name)
            else:
                self._adapted.load_adapter(str(folder), adapter_name=name)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise LocalFailure(f"{version} cannot be put on the base model: {error}") from error
        self._adapted.eval()
        self._names[version] = name

    def remove(self, version: str) -> None:
        """Take an adapter away."""
        name = self._names.pop(version, None)
        if name is None or self._adapted is None:
            return
        if self._names:
            self._adapted.set_adapter(next(iter(self._names.values())))
            self._adapted.delete_adapter(name)
        else:
            self._model = self._adapted.unload()
            self._adapted = None

    def answer(self, questions: Sequence[Question], version: str | None) -> list[Reply | LocalFailure]:
        """Answer all in one go, as a version or, with None, as the base; a question that does not fit fails alone."""
        prompts = [self._prompt(question) for question in questions]
        found: list[Reply | LocalFailure] = [
            prompt if isinstance(prompt, LocalFailure) else Reply(text="") for prompt in prompts
        ]
        fitting = [at for at, prompt in enumerate(prompts) if not isinstance(prompt, LocalFailure)]
        if fitting:
            asked = [questions[at] for at in fitting]
            ids = [prompt for prompt in prompts if not isinstance(prompt, LocalFailure)]
            for at, reply in zip(fitting, self._write(asked, ids, version), strict=True):
                found[at] = reply
        return found

    def _prompt(self, question: Question) -> list[int] | LocalFailure:
        try:
            told = self._tokenizer.apply_chat_template(
                chat.messages(question), tokenize=False, add_generation_prompt=True
            )
        except LocalFailure as failure:
            return failure
        ids: list[int] = self._tokenizer(told, add_special_tokens=False)["input_ids"]
        if self._context is not None and len(ids) >= self._context:
            return LocalFailure(
                f"the prompt has {len(ids)} tokens, the base model takes {self._context} with the answer; the input "
                "is too long for it"
            )
        return ids

    def _write(self, questions: Sequence[Question], prompts: Sequence[list[int]], version: str | None) -> list[Reply]:
        width = max(map(len, prompts))
        device = self._model.device
        filled = torch.tensor([[self._pad] * (width - len(ids)) + ids for ids in prompts], device=device)
        seen = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        limits = [self._room(question, ids) for question, ids in zip(questions, prompts, strict=True)]
        recorder = _Recorder()
        processors = [recorder, *self._guide.processors([chat.answer_schema(question) for question in questions])]
        with torch.inference_mode():
            written = self._as(version).generate(
                input_ids=filled,
                attention_mask=seen,
                max_new_tokens=max(limits),
                logits_processor=transformers.LogitsProcessorList(processors),
            )
        probabilities = recorder.finish(written)
        return [
            self._reply(row[width:].tolist(), logprobs, limit)
            for row, logprobs, limit in zip(written, probabilities, limits, strict=True)
        ]

    def _as(self, version: str | None) -> Any:
        """The model with the one adapter, or with none."""
        if self._adapted is None:
            return self._model
        if version is None:
            return _WithoutAdapter(self._adapted)
        self._adapted.set_adapter(self._names[version])
        return self._adapted

    def _room(self, question: Question, prompt: list[int]) -> int:
        left = question.max_output_tokens if self._context is None else self._context - len(prompt)
        return min(question.max_output_tokens, left)

    def _reply(self, ids: list[int], logprobs: list[float], limit: int) -> Reply:
        end = next((at for at, token in enumerate(ids[:limit]) if token in self._ends), None)
        kept = ids[: limit if end is None else end]
        stream = DecodeStream(skip_special_tokens=True)
        texts = [stream.step(self._tokenizer.backend_tokenizer, token) or "" for token in kept]
        tokens = [Token(text, logprob) for text, logprob in zip(texts, logprobs, strict=False)]
        return Reply(text="".join(texts), tokens=tokens, cut_off=end is None)


class _WithoutAdapter:
    """The base model beneath its adapters."""

    def __init__(self, adapted: PeftModel) -> None:
        self._adapted = adapted

    def generate(self, **told: Any) -> Any:
        with self._adapted.disable_adapter():
            return self._adapted.generate(**told)


class _Recorder(transformers.LogitsProcessor):  # type: ignore[misc]  # the package has no types
    """Notes the log-probability of every chosen token, one step late, so that one step is in memory at most."""

    def __init__(self) -> None:
        self._steps: list[list[float]] = []
        self._last: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._note(input_ids[:, -1:])
        self._last = torch.log_softmax(scores.float(), dim=-1)
        return scores

    def finish(self, written: Any) -> list[list[float]]:
        """The log-probabilities of each row of a batch."""
        self._note(written[:, -1:])
        return [list(row) for row in zip(*self._steps, strict=True)]

    def _note(self, chosen: Any) -> None:
        if self._last is not None:
            found = self._last.gather(1, chosen.to(self._last.device))[:, 0].clamp(min=-100.0)
            self._steps.append(found.tolist())


class _Guide:
    """Keeps texts to their schemas, where xgrammar is installed and knows the tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._compiled: dict[str, Any] = {}
        self._compiler: Any = None
        if importlib.util.find_spec("xgrammar") is None:
            return
        import xgrammar

        try:
            info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
            self._compiler = xgrammar.GrammarCompiler(info)
        except (ValueError, RuntimeError) as error:
            logger.warning("answers are not kept to their schemas while they are written: %s", error)

    def processors(self, schemas: Sequence[JsonObject | None]) -> list[Any]:
        """What a batch needs: one grammar for each of its rows, or nothing."""
        if self._compiler is None:
            return []
        try:
            grammars = [self._grammar(schema or {"type": "object"}) for schema in schemas]
        except (ValueError, RuntimeError) as error:
            logger.warning("a schema cannot be enforced while an answer is written: %s", error)
            return []
        from xgrammar.contrib.hf import LogitsProcessor

        return [LogitsProcessor(grammars)]

    def _grammar(self, schema: JsonObject) -> Any:
        written = json.dumps(schema)  # the order of properties is the order of the answer
        if written not in self._compiled:
            if len(self._compiled) >= _GRAMMARS_MAX:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[written] = self._compiler.compile_json_schema(
                written, any_whitespace=False, separators=(",", ":")
            )
        return self._compiled[written]


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: what the model says, and the end of a turn."""
    said = model.generation_config.eos_token_id
    found = said if isinstance(said, list) else [said]
    return [token for token in dict.fromkeys([tokenizer.eos_token_id, *found]) if token is not None]


def _quantized(quantization: str) -> Any:
    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        raise LocalFailure(
            f"`local.quantization: {quantization}` needs a CUDA GPU and the package bitsandbytes; without them write "
            "`quantization: none`"
        )
    if quantization == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
