"""Training steps of ours and of PyTorch on the same batches, in turns.

    step_time.py BENCH_TRAINING MODEL_FOLDER THREADS TRAIN.jsonl.gz BATCHES.json

The engines take turns, step after step, so that a busy neighbour slows both; an engine's speed is
that of its best round over the batches. Both start from one model and see the same batches, so their
losses must agree. Ends with one line of JSON; a ratio below 1 is in favour of ours.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer

BATCH, BATCHES, ROUNDS, LONGEST = 24, 4, 4, 192


class Engine:
    def __init__(self, command: list[str], threads: str):
        limit = {"OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **limit},
        )
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{' '.join(command)} did not start")

    def step(self) -> dict:
        print(1, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args} ended")
        return json.loads(answer)


def batches(folder: str, data: str) -> list:
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    with gzip.open(data, "rt", encoding="utf-8") as lines:
        triples = [json.loads(line) for line in lines]
    # Every so many-th: neighbours may share a passage, which ours would mask.
    triples = triples[:: max(1, len(triples) // (BATCH * BATCHES))][: BATCH * BATCHES]
    made = []
    for first in range(0, len(triples), BATCH):
        rows = triples[first : first + BATCH]
        texts = [r["query"] for r in rows] + [r["positive"] for r in rows]
        texts += [r["negatives"][0] for r in rows if r.get("negatives")]
        made.append([len(rows), [encoding.ids for encoding in tokenizer.encode_batch(texts)]])
    return made


def main() -> None:
    binary, folder, threads, data, path = sys.argv[1:]
    made = batches(folder, data)
    Path(path).write_text(json.dumps(made))
    tokens = [sum(map(len, sequences)) for _, sequences in made]
    peer = str(Path(__file__).with_name("peer.py"))
    engines = {
        "ours": Engine([binary, folder, threads, path], threads),
        "pytorch": Engine([sys.executable, peer, folder, threads, path], threads),
    }
    best = {name: {"seconds": float("inf"), "cpu_seconds": float("inf")} for name in engines}
    for turn in range(ROUNDS):
        sums = {name: {"seconds": 0.0, "cpu_seconds": 0.0} for name in engines}
        for number in range(len(made)):
            losses = []
            for name, engine in engines.items():
                answer = engine.step()
                losses.append(answer["loss"])
                for key in sums[name]:
                    sums[name][key] += answer[key]
            if turn == 0 and abs(losses[0] - losses[1]) > 1e-3:
                sys.exit(f"batch {number}: the losses differ, {losses}: it is not the same work")
        for name, values in sums.items():
            print(f"round {turn + 1} {name:8} {values}", file=sys.stderr)
            best[name] = {key: min(best[name][key], value) for key, value in values.items()}
    ours, pytorch = best["ours"], best["pytorch"]
    print(json.dumps({
        "step_time_vs_pytorch": round(ours["seconds"] / pytorch["seconds"], 3),
        "step_cpu_vs_pytorch": round(ours["cpu_seconds"] / pytorch["cpu_seconds"], 3),
        "step_seconds": round(ours["seconds"] / len(made), 3),
        "step_tokens": round(sum(tokens) / len(made)),
    }))


if __name__ == "__main__":
    main()
