#!/usr/bin/env python3
"""Makes the reference vectors that the encoder is held against.

    python make.py MODEL_FOLDER CORPUS.jsonl[.gz]

CORPUS is in BEIR layout (`_id`, `title`, `text`); the committed files come from Cranfield, a public
research set. Writes beside this script:

    texts.jsonl    200 texts, one JSON string a line
    vectors.f16    200 x 384 little-endian half floats, row-major, as sentence-transformers gives them

Needs sentence-transformers (see infra/bench/encoder/requirements.txt). The model is read from the
folder and from nowhere else.
"""

import gzip
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
from sentence_transformers import SentenceTransformer

TEXTS = 200


def sample(corpus: Path) -> list[str]:
    """Evenly spread over the corpus, shortest to longest, so that every length is there."""
    opener = gzip.open if corpus.suffix == ".gz" else open
    with opener(corpus, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    texts = sorted({f"{d['title']} {d['text']}".strip() for d in documents if d["text"]}, key=len)
    step = (len(texts) - 1) / (TEXTS - 1)
    return [texts[round(i * step)] for i in range(TEXTS)]


def main() -> None:
    model_folder, corpus = sys.argv[1:3]
    here = Path(__file__).parent
    texts = sample(Path(corpus))
    model = SentenceTransformer(model_folder, device="cpu")
    vectors = model.encode(texts, batch_size=8, normalize_embeddings=True)
    with open(here / "texts.jsonl", "w", encoding="utf-8") as out:
        out.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    vectors.astype("<f2").tofile(here / "vectors.f16")
    rounded = vectors.astype("<f2").astype("f4")
    cosine = (vectors * rounded).sum(1) / numpy.linalg.norm(rounded, axis=1)
    print(f"{len(texts)} texts, {vectors.shape[1]} values each, rounding costs {1 - cosine.min():.1e}")


if __name__ == "__main__":
    main()
