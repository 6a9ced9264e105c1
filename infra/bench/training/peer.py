"""Training steps in PyTorch, with the protocol of `models/training/examples/bench_training.rs`.

    peer.py MODEL THREADS BATCHES.json
"""

import json
import os
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from contrastive import Peer


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    folder, threads, batches = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with open(batches, encoding="utf-8") as file:
        batches = json.load(file)
    peer = Peer(folder)
    print("ready", flush=True)
    step = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            queries, sequences = batches[step % len(batches)]
            step += 1
            started, cpu = time.perf_counter(), cpu_seconds()
            loss = peer.step(queries, sequences, 3e-5)
            answer = {
                "loss": loss,
                "seconds": time.perf_counter() - started,
                "cpu_seconds": cpu_seconds() - cpu,
            }
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
