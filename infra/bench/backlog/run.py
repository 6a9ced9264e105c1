#!/usr/bin/env python3
"""Whether a vectorizer's memory stays flat however far its producer is ahead, and how long it drains.

A vectorizer works against the real Kafka and OpenSearch while notices with SciFact's texts are published
at `RATE` a second. Its resident memory is read every second of `SECONDS`; in the first `WARM_UP` seconds
queues fill and the allocator's arenas reach their size, and what it has after that is compared with the end. Then, in the middle of the backlog, it gets SIGTERM. Ends with one line of JSON.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from corpora import write_texts

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = REPOSITORY / "target/release/millrace"
LOAD = REPOSITORY / "target/release/examples/publish_load"
SECONDS = int(os.environ.get("SECONDS_OF_LOAD", "480"))
WARM_UP = int(os.environ.get("WARM_UP_SECONDS", "180"))
RATE = int(os.environ.get("RATE", "1000"))


def resident_mib(pid: int) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise LookupError("VmRSS")


def metric(api: str, name: str) -> float:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{api}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def main() -> None:
    bootstrap, opensearch = os.environ["MILLRACE_TEST_KAFKA"], os.environ["MILLRACE_TEST_OPENSEARCH"]
    name = f"backlog-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "texts.jsonl"
        write_texts(file)
        settings = {
            "MILLRACE_PROFILE": "cluster",
            "MILLRACE_API__LISTEN": "127.0.0.1:0",
            "MILLRACE_DATA_DIR": f"{folder}/data",
            "MILLRACE_KAFKA__BOOTSTRAP": bootstrap,
            "MILLRACE_KAFKA__TOPIC_PREFIX": f"{name}.",
            "MILLRACE_INDEX__NAME": name,
            "MILLRACE_INDEX__OPENSEARCH__NODES": json.dumps([opensearch]),
            "MILLRACE_OBJECTS__ALLOWED_ROOTS": json.dumps([folder]),
        }
        vectorizer = subprocess.Popen([BINARY, "run", "vectorizer", "--json"], env=os.environ | settings,
                                      stdout=subprocess.PIPE, text=True)
        try:
            api = json.loads(vectorizer.stdout.readline())["api"]
            load = subprocess.Popen([LOAD, bootstrap, f"{name}.", f"file://{file}", file, str(RATE), str(SECONDS)],
                                    stdout=subprocess.PIPE, text=True)
            resident = []
            for second in range(SECONDS):
                time.sleep(1)
                resident.append(resident_mib(vectorizer.pid))
                if second % 30 == 29:
                    print(f"{second + 1} s: {resident[-1]:.0f} MiB, "
                          f"{metric(api, 'millrace_documents_total'):.0f} documents done", flush=True)
            done = metric(api, "millrace_documents_total")
            published = json.loads(load.communicate()[0])["acknowledged"]
            begun = time.monotonic()
            vectorizer.send_signal(signal.SIGTERM)
            code = vectorizer.wait(60)
            drain = time.monotonic() - begun
        finally:
            if vectorizer.poll() is None:
                vectorizer.kill()
    # Means of half a minute: a single second also shows what the allocator has not given back yet.
    early = sum(resident[WARM_UP:WARM_UP + 30]) / 30
    late = sum(resident[-30:]) / 30
    print(json.dumps({
        "published": published,
        "done": int(done),
        "published_vs_done": round(published / done, 1),
        "resident_mib_early": round(early, 1),
        "resident_mib_late": round(late, 1),
        "resident_mib_peak": round(max(resident), 1),
        "growth_percent": round((late / early - 1) * 100, 1),
        "drain_seconds": round(drain, 2),
        "exit_code": code,
    }))


if __name__ == "__main__":
    main()
