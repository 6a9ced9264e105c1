#!/usr/bin/env python3
"""Fine-tunes all-MiniLM-L6-v2 on SciFact's train claims and measures what the hybrid search gains.

From the raw files: dataset, training, ingestion, evaluation on the test claims. The weight of BM25 is
chosen for the base and for the tuned model alike, on train claims: the tuned one's are judged by
models that did not see them, one a fold, each trained on the other folds (cross-fitting).

Some claims stand in SciFact twice, under two ids: train claims that are test claims word for word are
left out, and the two of a text are in one fold.

Needs SciFact under ../shared/data (MILLRACE_SHARED_DATA names another place). It works in a folder of
its own, which it removes when it is done; `--work DIR` keeps what was done there and goes on from it.
`--folds 0` takes the weights from `--weights BASE,TUNED`. Ends with one line of JSON, which `plot.py` draws.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from corpora import scifact

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).parent
BINARY = os.environ.get("MILLRACE_BINARY", str(REPOSITORY / "target/release/millrace"))
BASE = "all-MiniLM-L6-v2"
WEIGHTS = [round(0.1 * step, 1) for step in range(11)]
Judgements = dict[str, dict[str, int]]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def millrace(*arguments: object, **environment: str) -> dict:
    command = [BINARY, *map(str, arguments), "--json"]
    output = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True)
    return json.loads(output.stdout)


def read_qrels(path: pathlib.Path) -> Judgements:
    judged: Judgements = {}
    for line in path.read_text().splitlines()[1:]:
        query, document, gain = line.split("\t")
        judged.setdefault(query, {})[document] = int(gain)
    return judged


def write_qrels(path: pathlib.Path, judged: Judgements) -> pathlib.Path:
    lines = [f"{q}\t{d}\t{gain}" for q, documents in judged.items() for d, gain in documents.items()]
    path.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return path


def claim_texts(corpus: pathlib.Path) -> dict[str, str]:
    """Claims by id, alike where only case and spaces differ."""
    claims = map(json.loads, (corpus / "queries.jsonl").read_text().splitlines())
    return {claim["_id"]: " ".join(claim["text"].lower().split()) for claim in claims}


class Bench:
    def __init__(self, work: pathlib.Path, threads: int):
        self.work, self.threads, self.corpus = work, threads, scifact()

    def train(self, name: str, qrels: pathlib.Path) -> tuple[pathlib.Path, dict]:
        """A model of these judgements; what is done already is not done again."""
        data, out, report = (self.work / part for part in (f"data-{name}", name, f"{name}.json"))
        if not report.exists():
            if not data.exists():
                arguments = ["--beir", self.corpus, "--qrels", qrels, "--out", data]
                millrace("dataset", "build", *arguments, "--negative-ranks", "4-13", "--dev-share", 0)
            resume = ["--resume"] if (out / "checkpoint.safetensors").exists() else []
            # The recipe: 3 epochs of 24 pairs, one hard negative each, 192 tokens, 3e-5.
            trained = millrace(
                "train", "embedding", "--dataset", data, "--base", BASE, "--out", out,
                "--epochs", 3, "--batch", 24, "--negatives", 1, "--max-tokens", 192,
                "--learning-rate", 3e-5, "--threads", self.threads, *resume,
            )
            report.write_text(json.dumps(trained))
        trained = json.loads(report.read_text())
        say(f"{name}: {trained['steps']} steps in {trained['seconds']:.0f} s, loss "
            f"{trained['first_loss']:.3f} to {trained['last_loss']:.3f}, "
            f"{trained['peak_memory_bytes'] >> 20} MiB")
        return pathlib.Path(trained["model"]), trained

    def evaluate(self, model: pathlib.Path | None, qrels: pathlib.Path, *ranking: object) -> dict:
        """nDCG@10 of a model, the base where it is None; each has its own index."""
        data = self.work / f"index-{model.name if model else 'base'}"
        environment = {"MILLRACE_MODEL__PATH": str(model)} if model else {}
        return millrace(
            "eval", "retrieval", "--data", data, "--corpus", self.corpus / "corpus.jsonl.gz",
            "--queries", self.corpus / "queries.jsonl", "--qrels", qrels, *ranking, **environment,
        )

    def sweep(self, model: pathlib.Path | None, qrels: pathlib.Path) -> list[tuple[int, float]]:
        """Queries and nDCG@10 of every weight of BM25."""
        reports = [self.evaluate(model, qrels, "--bm25-weight", weight) for weight in WEIGHTS]
        return [(report["queries"], report["ndcg_at_10"]) for report in reports]


def by_weight(name: str, sweeps: list[list[tuple[int, float]]]) -> dict[float, float]:
    """The mean over all folds' queries of every weight."""
    def mean(at: int) -> float:
        return sum(n * value for n, value in (s[at] for s in sweeps)) / sum(s[at][0] for s in sweeps)

    means = [mean(at) for at in range(len(WEIGHTS))]
    for weight, value in zip(WEIGHTS, means):
        say(f"{name}: BM25 {weight:.1f} on unseen train claims {value:.4f}")
    return {weight: round(value, 4) for weight, value in zip(WEIGHTS, means)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--weights", default="0.5,0.3")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    work = arguments.work or pathlib.Path(tempfile.mkdtemp(prefix="millrace-bench-training-"))
    work.mkdir(parents=True, exist_ok=True)
    say(f"in {work}; --work {work} goes on from it")
    bench = Bench(work, arguments.threads)
    text = claim_texts(bench.corpus)
    test = read_qrels(bench.corpus / "qrels/test.tsv")
    judging = {text[query] for query in test}
    every = read_qrels(bench.corpus / "qrels/train.tsv")
    train = {query: documents for query, documents in every.items() if text[query] not in judging}
    train_qrels = write_qrels(work / "train.tsv", train)
    seen = {document for documents in train.values() for document in documents}
    unseen = {q: documents for q, documents in test.items() if not seen & documents.keys()}
    say(f"{len(train)} train claims without the {len(every) - len(train)} that are test claims too, "
        f"{len(test)} test claims, {len(unseen)} of them on unseen documents")

    started = time.monotonic()
    tuned, report = bench.train("scifact-v1", train_qrels)
    # What an earlier run did is not done again; its seconds count all the same.
    seconds = max(time.monotonic() - started, report["seconds"])

    figures: dict[str, object] = {}
    weights = dict(zip(("base", "tuned"), map(float, arguments.weights.split(","))))
    if arguments.folds:
        claims = sorted({text[query] for query in train})
        random.Random(20_400).shuffle(claims)
        of_base, of_tuned = [], []
        for fold in range(arguments.folds):
            kept = set(claims[fold :: arguments.folds])
            # Two numbers of folds in one folder are not to take each other's models for their own.
            name = f"fold-{fold}-of-{arguments.folds}"
            within = {query: documents for query, documents in train.items() if text[query] in kept}
            rest = {query: documents for query, documents in train.items() if query not in within}
            held = write_qrels(work / f"held-{name}.tsv", within)
            others = write_qrels(work / f"others-{name}.tsv", rest)
            model, _ = bench.train(name, others)
            of_tuned.append(bench.sweep(model, held))
            of_base.append(bench.sweep(None, held))
        curves = {"base": by_weight("base", of_base), "tuned": by_weight("tuned", of_tuned)}
        weights = {name: max(curve, key=curve.get) for name, curve in curves.items()}
        figures["unseen_train_claims_ndcg_at_10"] = curves

    qrels = bench.corpus / "qrels/test.tsv"
    unseen_qrels = write_qrels(work / "test-unseen.tsv", unseen)
    for name, model in (("base", None), ("tuned", tuned)):
        hybrid = ("--bm25-weight", weights[name])
        figures[f"{name}_bm25_weight"] = weights[name]
        for key, of, ranking in [
            ("hybrid", qrels, hybrid),
            ("vector", qrels, ("--mode", "vector")),
            ("hybrid_30_70", qrels, ("--bm25-weight", 0.3)),
            ("hybrid_unseen_documents", unseen_qrels, hybrid),
        ]:
            value = round(bench.evaluate(model, of, *ranking)["ndcg_at_10"], 4)
            figures[f"{name}_{key}_ndcg_at_10"] = value
            say(f"{name} {key}: nDCG@10 {value}")
    steps = subprocess.run(
        [HERE / "step_time.sh", str(arguments.threads), work / "data-scifact-v1/train.jsonl.gz"],
        stdout=subprocess.PIPE, check=True,
    )
    print(json.dumps({
        "scifact_hybrid_ndcg_at_10": figures["tuned_hybrid_ndcg_at_10"],
        "base_ndcg_at_10": figures["base_hybrid_ndcg_at_10"],
        "seconds": round(seconds),
        **json.loads(steps.stdout),
        **figures,
        "peak_memory_mib": report["peak_memory_bytes"] >> 20,
    }))
    if arguments.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
