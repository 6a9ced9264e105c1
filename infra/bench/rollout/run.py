#!/usr/bin/env python3
"""A rollout of SciFact to a fine-tuned model, under live searches, with the way there and back.

`--model FOLDER` is the new model, such as a folder that `infra/bench/training/run.py --work DIR` leaves;
without it, one is fine-tuned as there (six minutes). CLIENTS search all the time with SciFact's test
claims. An answer is mixed where its index and its model are not of one generation, or where its hits are
not those that this generation gave to this claim before. Ends with one line of JSON.
"""

import argparse
import collections
import itertools
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from corpora import scifact
from training.run import Bench, say

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("MILLRACE_BINARY", str(REPOSITORY / "target/release/millrace"))
BASE = "all-MiniLM-L6-v2"
CLIENTS = int(os.environ.get("CLIENTS", "2"))
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fine_tuned(work: pathlib.Path) -> pathlib.Path:
    model, _ = Bench(work, os.cpu_count()).train("scifact-v1", scifact() / "qrels/train.tsv")
    return model


class Traffic:
    """Clients that search until they are stopped."""

    def __init__(self, api: str, claims: list[str]):
        self.api, self.claims = api, claims
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.asked = collections.Counter()
        self.failed, self.mixed, self.models, self.known = [], [], {}, {}
        self.phase, self.milliseconds = "before", collections.defaultdict(list)
        self.threads = [threading.Thread(target=self.search_on, args=(n,)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def search_on(self, client: int) -> None:
        order = random.Random(client)
        while not self.stop.is_set():
            claim = order.choice(self.claims)
            body = json.dumps({"query": claim, "k": 5}).encode()
            request = urllib.request.Request(f"{self.api}/v1/search", body, {"content-type": "application/json"})
            begun, phase = time.perf_counter(), self.phase
            try:
                with OPENER.open(request, timeout=60) as response:
                    answer = json.load(response)
            except (urllib.error.URLError, OSError, ValueError) as error:
                with self.lock:
                    self.failed.append(str(error))
                continue
            took = (time.perf_counter() - begun) * 1e3
            with self.lock:
                self.milliseconds[phase].append(took)
                self.judge(claim, answer)

    def judge(self, claim: str, answer: dict) -> None:
        index, model = answer["index_version"], answer["embedding_version"]
        self.asked[index] += 1
        hits = [(hit["uri"], round(hit.get("vector_score") or 0.0, 3)) for hit in answer["hits"]]
        is_one = self.models.setdefault(index, model) == model
        if not is_one or self.known.setdefault((index, claim), hits) != hits:
            self.mixed.append(f"{claim}: {index} {model}")

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-rollout-") as folder:
        print(json.dumps(bench(pathlib.Path(folder), arguments.model)))


def bench(work: pathlib.Path, model: pathlib.Path | None) -> dict:
    new = model or fine_tuned(work)
    environment = os.environ | {
        "MILLRACE_API__LISTEN": "127.0.0.1:0", "MILLRACE_BROKER__LISTEN": "127.0.0.1:0",
    }

    def millrace(*command: object) -> dict:
        line = [BINARY, *map(str, command), "--json", "--data", str(work / "data")]
        output = subprocess.run(line, env=environment, stdout=subprocess.PIPE, check=True)
        return json.loads(output.stdout)

    base = json.loads(subprocess.run(
        [BINARY, "model", "pull", BASE, "--json"], stdout=subprocess.PIPE, check=True).stdout)["folder"]
    environment |= {"MILLRACE_MODELS": str(work / "models"), "MILLRACE_MODEL__NAME": "scifact:v1"}
    millrace("model", "import", base, "--as", "scifact:v1")
    millrace("model", "import", new, "--as", "scifact:v2")
    up = subprocess.Popen([BINARY, "up", "--json", "--data", str(work / "data")], env=environment,
                          stdout=subprocess.PIPE, text=True)
    seconds = {}
    try:
        api = json.loads(up.stdout.readline())["api"]
        ingested = millrace("ingest", scifact() / "corpus.jsonl.gz")
        say(f"{ingested['indexed']} documents at {ingested['docs_per_second']:.0f} a second")
        judged = (scifact() / "qrels/test.tsv").read_text().splitlines()[1:]
        judged = {line.split("\t")[0] for line in judged}
        claims = map(json.loads, (scifact() / "queries.jsonl").read_text().splitlines())
        traffic = Traffic(api, [claim["text"] for claim in claims if claim["_id"] in judged])
        time.sleep(10)

        def timed(name: str, *command: object) -> dict:
            begun = time.monotonic()
            traffic.phase = name
            answer = millrace("rollout", *command)
            seconds[name] = round(time.monotonic() - begun, 1)
            say(f"{name}: {seconds[name]} s")
            return answer

        try:
            timed("start", "start", "--model", "scifact:v2")
            built = timed("build", "status", "--watch")
            gates = ["--judged", scifact(), "--latency-factor", 5]
            switched = timed("switch", "switch", *gates)
            traffic.phase = "new"
            time.sleep(10)
            timed("rollback", "rollback")
            traffic.phase = "old again"
            time.sleep(10)
            timed("switch again", "switch", *gates)
            # Waits until the recommender has moved.
            timed("finish", "finish", "--delete-old", "--yes")
            traffic.phase = "after"
            time.sleep(10)
        finally:
            traffic.end()
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)
    for gate in switched["gates"]:
        say(f"{gate['gate']}: {gate['verdict']}: {gate['figures']}")
    for problem in itertools.islice([*traffic.failed, *traffic.mixed], 5):
        say(problem)
    return {
        "documents": built["progress"]["new"]["documents"],
        "requests": sum(traffic.asked.values()),
        "failed": len(traffic.failed),
        "mixed": len(traffic.mixed),
        "by_generation": dict(traffic.asked),
        "gates": {gate["gate"]: gate["figures"] for gate in switched["gates"]},
        "seconds": seconds,
        "search_p50_ms": {name: round(statistics.median(took), 1) for name, took in traffic.milliseconds.items()},
    }


if __name__ == "__main__":
    main()
