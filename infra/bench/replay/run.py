#!/usr/bin/env python3
"""A million small events replayed, against reading them and doing nothing.

Reading alone, to standard output (thrown away), to a file and to a topic are measured in turns, because
the machine's speed drifts; the broker is in the reading process each time. Ends with one line of JSON;
the target is 0.9 of the bare read for a replay that has nowhere slow to write.
"""

import json
import os
import pathlib
import statistics
import subprocess
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = REPOSITORY / "target/release/millrace"
READ = REPOSITORY / "target/release/examples/bench_replay"
RECORDS = os.environ.get("RECORDS", "1000000")
ROUNDS = int(os.environ.get("ROUNDS", "3"))
TOPIC, TARGET = "behavior.unmatched", "bench-target"


def bare_read(data: pathlib.Path) -> float:
    output = subprocess.run([READ, data / "broker", TOPIC, TARGET, RECORDS],
                            stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(output.stdout.splitlines()[-1])["records_per_second"]


def replay(data: pathlib.Path, *arguments: str) -> float:
    """Records a second, as the report says it; of standard output that is on standard error."""
    command = [BINARY, "replay", TOPIC, "--json", "--data", data, "--restart", "--force", *arguments]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(output.stdout)["records_per_second"]


def replay_to_nowhere(data: pathlib.Path) -> float:
    command = [BINARY, "replay", TOPIC, "--json", "--data", data, "--to-file", "-"]
    output = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    return json.loads(output.stderr.splitlines()[-1])["records_per_second"]


def dry_run(data: pathlib.Path) -> float:
    command = [BINARY, "replay", TOPIC, "--json", "--data", data, "--dry-run"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(output.stdout)["read_per_second"]


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        data = pathlib.Path(folder) / "data"
        data.mkdir()
        bare_read(data)  # publishes, and warms the page cache
        rates: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, measure in [
                ("bare_read", lambda: bare_read(data)),
                ("dry_run", lambda: dry_run(data)),
                ("stdout", lambda: replay_to_nowhere(data)),
                ("file", lambda: replay(data, "--to-file", f"{folder}/out.jsonl")),
                ("topic", lambda: replay(data, "--to-topic", f"millrace.{TARGET}")),
            ]:
                rates.setdefault(name, []).append(measure())
    bare = statistics.median(rates["bare_read"])
    figures: dict[str, object] = {"records": int(RECORDS), "cores": os.cpu_count(), "target_ratio": 0.9}
    for name, measured in rates.items():
        figures[f"{name}_per_second"] = round(statistics.median(measured))
        figures[f"{name}_ratio"] = round(statistics.median(measured) / bare, 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
