#!/usr/bin/env python3
"""The whole embedded pipeline on SciFact: ready, ingest, memory, search, and what it costs when nothing happens.

`ingest` is compared with the bare encoder on the same texts in the same run,
in turns, because the machine's speed drifts. Ends with one line of JSON.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from corpora import scifact, write_texts

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = REPOSITORY / "target/release/millrace"
ENCODER = REPOSITORY / "target/release/examples/bench_encoder"
ROUNDS = int(os.environ.get("ROUNDS", "2"))
IDLE_SECONDS = 20


def bare_encoder(path: pathlib.Path) -> float:
    """Documents a second of the encoder alone, in arrival order (protocol: bench_encoder.rs)."""
    pull = subprocess.run([BINARY, "model", "pull", "all-MiniLM-L6-v2", "--json"],
                          stdout=subprocess.PIPE, check=True)
    folder = json.loads(pull.stdout)["folder"]
    output = subprocess.run([ENCODER, folder, str(os.cpu_count()), path], input="arrival\n",
                            stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(output.stdout.splitlines()[-1])
    return figures["texts"] / figures["wall_seconds"]


def resident_mib(pid: int, field: str) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def cpu_seconds(pid: int) -> float:
    """Of all its threads, user and system (proc(5): fields 14 and 15)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_core_percent(pid: int) -> float:
    before, begun = cpu_seconds(pid), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(pid) - before) / (time.perf_counter() - begun) * 100


def search_ms(api: str, queries: list[str]) -> list[float]:
    times = []
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for query in queries:
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{api}/v1/search", body, {"content-type": "application/json"})
        begun = time.perf_counter()
        with opener.open(request) as answer:
            answer.read()
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def pipeline(data: str, queries: list[str]) -> dict:
    free = {"MILLRACE_API__LISTEN": "127.0.0.1:0", "MILLRACE_BROKER__LISTEN": "127.0.0.1:0"}
    up = subprocess.Popen([BINARY, "up", "--json", "--data", data], env=os.environ | free,
                          stdout=subprocess.PIPE, text=True)
    try:
        ready = json.loads(up.stdout.readline())
        command = [BINARY, "ingest", "--json", "--data", data, scifact() / "corpus.jsonl.gz"]
        ingest = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        times = search_ms(ready["api"], queries)
        return {
            "ready_seconds": ready["ready_seconds"],
            "docs_per_second": ingest["docs_per_second"],
            "tokens_per_second": ingest["tokens_per_second"],
            "indexed": ingest["indexed"],
            "resident_mib": resident_mib(up.pid, "VmRSS"),
            "peak_resident_mib": resident_mib(up.pid, "VmHWM"),
            "search_p50_ms": statistics.median(times),
            "search_p99_ms": statistics.quantiles(times, n=100)[98],
            "idle_core_percent": idle_core_percent(up.pid),
        }
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)


def main() -> None:
    with open(scifact() / "queries.jsonl") as lines:
        queries = [json.loads(line)["text"] for line in lines][:300]
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "texts.jsonl"
        write_texts(file)
        for number in range(ROUNDS):
            encoder = bare_encoder(file)
            figures = pipeline(f"{folder}/data-{number}", queries)
            figures["encoder_docs_per_second"] = encoder
            figures["ingest_vs_encoder"] = figures["docs_per_second"] / encoder
            rounds.append(figures)
            print("  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    medians = {name: round(statistics.median(figures[name] for figures in rounds), 3) for name in rounds[0]}
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
