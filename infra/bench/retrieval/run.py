#!/usr/bin/env python3
"""nDCG@10 on SciFact, embedded and on the real Kafka and OpenSearch.

Needs MILLRACE_TEST_KAFKA and MILLRACE_TEST_OPENSEARCH (make bench-retrieval
starts the servers) and SciFact under ../shared/data (MILLRACE_SHARED_DATA
names another place). Ends with one line of JSON.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from corpora import scifact

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = REPOSITORY / "target/release/millrace"
RANKINGS = {
    "text": ["--mode", "text"],
    "vector": ["--mode", "vector"],
    "hybrid_30_70": ["--bm25-weight", "0.3", "--vector-weight", "0.7"],
    "hybrid_50_50": ["--bm25-weight", "0.5", "--vector-weight", "0.5"],
    "rrf": ["--rrf"],
}


def evaluate(ranking: list[str], data: str, environment: dict[str, str]) -> dict:
    corpus = scifact()
    command = [BINARY, "eval", "retrieval", "--json", "--data", data, *ranking]
    command += ["--corpus", corpus / "corpus.jsonl.gz", "--queries", corpus / "queries.jsonl"]
    command += ["--qrels", corpus / "qrels/test.tsv"]
    output = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True)
    return json.loads(output.stdout)


def cluster() -> dict[str, str]:
    name = f"bench-{os.getpid()}-{int(time.time())}"
    return {
        "MILLRACE_PROFILE": "cluster",
        "MILLRACE_KAFKA__BOOTSTRAP": os.environ["MILLRACE_TEST_KAFKA"],
        "MILLRACE_KAFKA__TOPIC_PREFIX": f"{name}.",
        "MILLRACE_INDEX__NAME": name,
        "MILLRACE_INDEX__OPENSEARCH__NODES": json.dumps([os.environ["MILLRACE_TEST_OPENSEARCH"]]),
    }


def main() -> None:
    figures = {}
    for target, environment in (("embedded", {}), ("opensearch", cluster())):
        with tempfile.TemporaryDirectory() as data:
            for name, ranking in RANKINGS.items():
                report = evaluate(ranking, data, environment)
                figures[f"{target}_{name}"] = round(report["ndcg_at_10"], 4)
                print(f"{target:10} {name:12} nDCG@10 {report['ndcg_at_10']:.4f}  "
                      f"recall@100 {report['recall_at_100']:.4f}  MRR@10 {report['mrr_at_10']:.4f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
