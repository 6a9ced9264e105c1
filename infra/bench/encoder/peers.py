"""The peers of the encoder benchmark, one process each.

    peers.py onnxruntime|sentence_transformers MODEL_FOLDER THREADS TEXTS.jsonl CACHE_FOLDER

Same protocol as `models/examples/bench_encoder.rs`. Each peer is set up as its makers advise:
fp32, batches of 32, all threads within the operators; ONNX Runtime with the graph fused by its own
transformer optimiser. In `sorted` every engine has all texts at once, longest first; in `arrival` it
has 32 at a time, as a stream brings them (sentence-transformers would sort them otherwise).
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

BATCH = 32
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"


def batches(texts: list[str]) -> list[list[str]]:
    return [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]


class SentenceTransformers:
    def __init__(self, folder: Path, threads: int, _cache: Path):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(str(folder), device="cpu")

    def encode(self, texts: list[str]):
        return self.model.encode(
            texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )


class OnnxRuntime:
    def __init__(self, folder: Path, threads: int, cache: Path):
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(fused_graph(folder, cache)), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [value.name for value in self.session.get_inputs()]
        limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(limit)
        self.tokenizer.enable_padding()

    def encode(self, texts: list[str]):
        import numpy

        vectors = []
        for batch in batches(texts):
            encoded = self.tokenizer.encode_batch(batch)
            mask = numpy.array([e.attention_mask for e in encoded], dtype=numpy.int64)
            feed = {
                "input_ids": numpy.array([e.ids for e in encoded], dtype=numpy.int64),
                "attention_mask": mask,
                "token_type_ids": numpy.zeros_like(mask),
            }
            feed = {
                value.name: feed[value.name].astype(
                    numpy.int32 if "int32" in value.type else numpy.int64
                )
                for value in self.session.get_inputs()
            }
            hidden = self.session.run(None, feed)[0]
            weights = mask[:, :, None].astype(numpy.float32)
            means = (hidden * weights).sum(1) / weights.sum(1)
            vectors.append(means / numpy.linalg.norm(means, axis=1, keepdims=True))
        return numpy.concatenate(vectors)


def fused_graph(folder: Path, cache: Path) -> Path:
    """Exports the model once and fuses it; refuses to measure against an unfused graph."""
    fused = cache / "fused.onnx"
    if fused.exists():
        return fused
    import torch
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions
    from transformers import AutoModel

    cache.mkdir(parents=True, exist_ok=True)
    # The optimiser knows the attention that PyTorch writes out operator by operator.
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    plain = cache / "plain.onnx"
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = torch.ones(2, 8, dtype=torch.int64)
    torch.onnx.export(
        Hidden(),
        (example, example, torch.zeros_like(example)),
        plain,
        input_names=names,
        output_names=["hidden"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in [*names, "hidden"]},
        opset_version=17,
        dynamo=False,
    )
    config = model.config
    optimised = optimizer.optimize_model(
        str(plain),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=FusionOptions("bert"),
        opt_level=1,
    )
    found = optimised.get_fused_operator_statistics()
    print(f"onnxruntime's fused operators: {found}", file=sys.stderr)
    layers = config.num_hidden_layers
    gelu = found.get("BiasGelu", 0) + found.get("Gelu", 0)
    norms = found.get("SkipLayerNormalization", 0)
    if found.get("Attention", 0) != layers or gelu != layers or norms < 2 * layers - 1:
        sys.exit(f"the graph of {layers} layers is not fused: {found}; the comparison would be unfair")
    optimised.save_model_to_file(str(fused))
    return fused


PEERS = {"onnxruntime": OnnxRuntime, "sentence_transformers": SentenceTransformers}


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    name, folder, threads, texts, cache = sys.argv[1:]
    arrival = [json.loads(line) for line in open(texts, encoding="utf-8")]
    by_length = sorted(arrival, key=len, reverse=True)
    peer = PEERS[name](Path(folder), int(threads), Path(cache))
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        wall, cpu = time.perf_counter(), cpu_seconds()
        if command == "arrival":
            for batch in batches(arrival):
                peer.encode(batch)
        elif command == "sorted":
            peer.encode(by_length)
        elif command == "vectors":
            peer.encode(arrival).astype("<f4").tofile(argument)
        else:
            sys.exit(f"unknown command `{command}`")
        answer = {
            "texts": len(arrival),
            "wall_seconds": time.perf_counter() - wall,
            "cpu_seconds": cpu_seconds() - cpu,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
