"""The corpora that benchmarks are made of."""

import gzip
import json
import os
import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def scifact() -> pathlib.Path:
    """SciFact's folder in BEIR's layout; ends the program where it is absent."""
    root = pathlib.Path(os.environ.get("MILLRACE_SHARED_DATA", REPOSITORY.parent / "shared/data"))
    folder = root / "scifact"
    if not folder.is_dir():
        sys.exit(f"no SciFact at {folder}; set MILLRACE_SHARED_DATA to the folder that holds scifact/")
    return folder


def write_texts(path: pathlib.Path) -> None:
    """SciFact's texts as the vectorizer embeds them, one JSON string a line."""
    with gzip.open(scifact() / "corpus.jsonl.gz", "rt") as corpus, path.open("w") as out:
        for line in corpus:
            document = json.loads(line)
            out.write(json.dumps(f"{document['title']}\n{document['text']}") + "\n")
