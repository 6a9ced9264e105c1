#!/usr/bin/env python3
"""Makes the reference scores that the cross-encoder is held against.

    python make_cross_encoder.py MODEL_FOLDER

MODEL_FOLDER is all-MiniLM-L6-v2's. Its layers and pooler get a classifier whose weights are sines,
as `tests/fixture/cross_encoder.rs` does; sentence-transformers' `CrossEncoder` scores 60 pairs of the
texts in `texts.jsonl`, some of them longer together than the model reads. Writes beside this script:

    pair_scores.json    60 entries of [index of the query, index of the text, logit]

Needs sentence-transformers (see infra/bench/encoder/requirements.txt).
"""

import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

# A short query and texts of all lengths, then two long texts, so that both or one are cut.
PAIRS = [(index % 20, index * 5 % 200) for index in range(40)] + [
    (199 - index, 199 - index * 3) for index in range(20)
]


def build(model: Path, folder: Path) -> None:
    for file in model.iterdir():
        if file.suffix in {".json", ".txt"} and file.name not in {
            "modules.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
        }:
            shutil.copy(file, folder / file.name)
    config = json.loads((model / "config.json").read_text())
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(model / "model.safetensors")
    tensors = {f"bert.{name}": value for name, value in tensors.items() if name != "embeddings.position_ids"}
    tensors["classifier.weight"] = torch.tensor([[math.sin(index) for index in range(384)]], dtype=torch.float32)
    tensors["classifier.bias"] = torch.tensor([0.1], dtype=torch.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    here = Path(__file__).parent
    texts = [json.loads(line) for line in (here / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        build(Path(sys.argv[1]), Path(folder))
        model = CrossEncoder(folder, device="cpu", max_length=512)
        tokenizer = model.tokenizer
        cut = sum(len(tokenizer(texts[a], texts[b])["input_ids"]) > 512 for a, b in PAIRS)
        pairs = [(texts[a], texts[b]) for a, b in PAIRS]
        scores = model.predict(pairs, batch_size=1, activation_fn=torch.nn.Identity())
    rows = [[a, b, round(float(score), 6)] for (a, b), score in zip(PAIRS, scores)]
    (here / "pair_scores.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(f"{len(rows)} pairs, {cut} of them cut, scores {min(scores):.3f} to {max(scores):.3f}")


if __name__ == "__main__":
    main()
