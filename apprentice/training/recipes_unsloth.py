"""The training script of the backend ``unsloth``: ``python -m apprentice.training.recipes_unsloth PLAN``.

Unsloth's model with its own kernels under TRL's ``SFTTrainer``, on rows that are tokenized and labelled already. It
needs a GPU. Rows are not packed: that Unsloth keeps packed rows apart could not be verified.
"""

from typing import Any

from apprentice.training.adapters.plan import Done, Plan
from apprentice.training.adapters.talk import serve
from apprentice.training.recipes_run import Told, callbacks, dataset, finish, number_format, recipe_of
from apprentice.training.recipes_settings import Recipe, sft_arguments

_COLUMNS = ("input_ids", "attention_mask", "labels")


def make_trainer(plan: Plan, recipe: Recipe, told: Told) -> Any:
    """The trainer of a recipe. Unsloth is imported first: it alters what is imported after it."""
    from unsloth import FastLanguageModel  # isort: skip
    from transformers import DataCollatorForSeq2Seq
    from trl import SFTConfig, SFTTrainer

    named = number_format(recipe)
    checkpointing = "unsloth" if recipe.gradient_checkpointing else False
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=recipe.parent or recipe.base_model,
        max_seq_length=recipe.max_length,
        dtype=_dtype(named),
        load_in_4bit=recipe.four_bit,
        use_gradient_checkpointing=checkpointing,
        random_state=recipe.seed,
    )
    if recipe.parent is None:  # otherwise it came with its adapter
        model = FastLanguageModel.get_peft_model(
            model,
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=recipe.targets,
            bias="none",
            use_gradient_checkpointing=checkpointing,
            random_state=recipe.seed,
        )
    arguments = sft_arguments(recipe, bf16=named == "bfloat16", fp16=named == "float16", packing=False)
    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments),
        train_dataset=dataset(recipe.tokens, _COLUMNS),
        eval_dataset=dataset(recipe.held_back, _COLUMNS) if recipe.held_back is not None else None,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=callbacks(plan, recipe, told),
    )


def _dtype(named: str) -> Any:
    import torch

    return getattr(torch, named)


def main(plan: Plan, told: Told) -> Done | None:
    """Train; the next stage measures what came of it."""
    recipe = recipe_of(plan)
    finish(make_trainer(plan, recipe, told), recipe)
    return None


if __name__ == "__main__":
    serve(main)
