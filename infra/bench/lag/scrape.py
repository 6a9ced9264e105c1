#!/usr/bin/env python3
"""How long a scrape of `run lag-exporter` takes that knows 1,000 partitions: 10 groups on 100 each.

The brokers are those of the example `bench_lag`, which is held. Ends with one line of JSON.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("MILLRACE_BINARY", REPOSITORY / "target/release/millrace")
BROKER = os.environ.get("LAG_BINARY", REPOSITORY / "target/release/examples/bench_lag")
GROUPS, PARTITIONS, SCRAPES = 10, 100, 50
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def scrape(api: str) -> tuple[float, str]:
    begun = time.perf_counter()
    with OPENER.open(f"{api}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return (time.perf_counter() - begun) * 1e3, text


def told(text: str) -> int:
    lines = text.splitlines()
    return sum(line.startswith("kafka_consumergroup_group_lag_seconds{") for line in lines)


def main() -> None:
    broker = subprocess.Popen([BROKER], env=os.environ | {"GROUPS": str(GROUPS), "HOLD": "1"},
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            bootstrap = json.loads(broker.stdout.readline())["bootstrap"]
            settings = {
                "MILLRACE_PROFILE": "cluster", "MILLRACE_API__LISTEN": "127.0.0.1:0",
                "MILLRACE_KAFKA__BOOTSTRAP": bootstrap, "MILLRACE_KAFKA__TOPIC_PREFIX": "bench.",
                "MILLRACE_LAG__EVERY_SECONDS": "2",
            }
            exporter = subprocess.Popen([BINARY, "run", "lag-exporter", "--json", "--data", folder],
                                        env=os.environ | settings, stdout=subprocess.PIPE, text=True)
            try:
                api = json.loads(exporter.stdout.readline())["api"]
                deadline = time.monotonic() + 120
                while told(scrape(api)[1]) < GROUPS * PARTITIONS:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{told(scrape(api)[1])} partitions are told after 120 s")
                    time.sleep(0.5)
                scrapes = [scrape(api) for _ in range(SCRAPES)]
            finally:
                exporter.send_signal(signal.SIGTERM)
                exporter.wait(30)
        finally:
            broker.stdin.close()
            broker.wait(30)
    milliseconds = [took for took, _ in scrapes]
    print(json.dumps({
        "partitions": told(scrapes[-1][1]),
        "scrape_bytes": len(scrapes[-1][1]),
        "scrape_p50_ms": round(statistics.median(milliseconds), 1),
        "scrape_max_ms": round(max(milliseconds), 1),
    }))


if __name__ == "__main__":
    main()
