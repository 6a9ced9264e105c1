#!/usr/bin/env python3
"""Makes the PyTorch run that training is held against.

    python make.py MODEL_FOLDER CORPUS.jsonl[.gz]

CORPUS is in BEIR layout; the committed file comes from Cranfield, a public research set. Writes
`losses.json` beside this script: 20 batches of eight titles with their abstracts and a hard negative
for each (another batch's abstract), as token ids, the learning rate of each step and its loss. Needs
infra/bench/training/requirements.txt.
"""

import gzip
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from tokenizers import Tokenizer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[3] / "infra/bench/training"))

from contrastive import Peer

STEPS, BATCH, LONGEST, WARM_UP = 20, 8, 24, 4


def main() -> None:
    folder, corpus = sys.argv[1:]
    opener = gzip.open if corpus.endswith(".gz") else open
    with opener(corpus, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    ids = lambda text: tokenizer.encode(text).ids
    # In Cranfield a text begins with its title.
    pairs = [
        (ids(d["title"]), ids(d["text"].removeprefix(d["title"]).lstrip(" .")))
        for d in documents
        if d["title"] and len(d["text"]) > 2 * len(d["title"]) + 100
    ][: STEPS * BATCH]
    assert len(pairs) == STEPS * BATCH
    peer = Peer(folder, fused=False)
    steps = []
    for step in range(STEPS):
        rows = pairs[step * BATCH : (step + 1) * BATCH]
        others = pairs[(step + 1) % STEPS * BATCH :][:BATCH]
        sequences = [q for q, _ in rows] + [p for _, p in rows] + [p for _, p in others]
        rate = 5e-5 * (step + 1) / WARM_UP if step < WARM_UP else 5e-5 * (STEPS - step) / (STEPS - WARM_UP)
        loss = peer.step(BATCH, sequences, rate)
        steps.append({"queries": BATCH, "sequences": sequences, "learning_rate": rate, "loss": loss})
        print(f"{step + 1:2} {rate:.2e} {loss:.6f}")
    (HERE / "losses.json").write_text(json.dumps(steps, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
