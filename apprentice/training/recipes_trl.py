"""The training script of the backend ``huggingface``: ``python -m apprentice.training.recipes_trl PLAN``.

TRL's ``SFTTrainer`` on rows that are tokenized and labelled already. Packed rows do not see each other: their positions
begin anew, and attention follows the positions.
"""

from typing import Any

from apprentice.training.adapters.plan import Done, Plan
from apprentice.training.adapters.talk import serve
from apprentice.training.recipes_run import Told, callbacks, dataset, device_map, finish, number_format, recipe_of
from apprentice.training.recipes_settings import Recipe, sft_arguments

_COLUMNS = ("input_ids", "labels")


def make_trainer(recipe: Recipe, listening: list[Any]) -> Any:
    """The ``SFTTrainer`` of a recipe; ``listening`` are its callbacks."""
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    named = number_format(recipe)
    arguments = sft_arguments(recipe, bf16=named == "bfloat16", fp16=named == "float16", packing=recipe.packing)
    return SFTTrainer(
        model=_adapted(_base(recipe, named), recipe),
        args=SFTConfig(**arguments),
        train_dataset=dataset(recipe.tokens, _COLUMNS),
        eval_dataset=dataset(recipe.held_back, _COLUMNS) if recipe.held_back is not None else None,
        processing_class=AutoTokenizer.from_pretrained(recipe.base_model, local_files_only=recipe.offline),
        callbacks=listening,
    )


def _base(recipe: Recipe, named: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, named)
    more: dict[str, Any] = {}
    if recipe.four_bit:
        from transformers import BitsAndBytesConfig

        quantized = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        more = {"quantization_config": quantized, "device_map": device_map()}
    return AutoModelForCausalLM.from_pretrained(
        recipe.base_model, dtype=dtype, local_files_only=recipe.offline, use_safetensors=True, **more
    )


def _adapted(base: Any, recipe: Recipe) -> Any:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

    if recipe.four_bit:
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=recipe.gradient_checkpointing)
    if recipe.parent is not None:
        return PeftModel.from_pretrained(base, recipe.parent, is_trainable=True)
    torch.manual_seed(recipe.seed)  # the adapter begins at random
    lora = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=recipe.targets,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, lora)


def main(plan: Plan, told: Told) -> Done | None:
    """Train; the next stage measures what came of it."""
    recipe = recipe_of(plan)
    finish(make_trainer(recipe, callbacks(plan, recipe, told)), recipe)
    return None


if __name__ == "__main__":
    serve(main)
