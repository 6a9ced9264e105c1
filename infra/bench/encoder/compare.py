"""Runs the encoder against its peers and prints one line of JSON with the ratios.

    compare.py BENCH_ENCODER MODEL_FOLDER TEXTS.jsonl CACHE_FOLDER [ROUNDS]

The engines take turns, round after round, so that a busy neighbour slows all of them; an engine's
speed is that of its best round. Ratios are of texts per second of wall time; those that end in
`_cpu` are of texts per CPU second, for a machine that never is quiet. A ratio above 1 is in favour
of the encoder.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy

THREADS = 2
ORDERS = ["arrival", "sorted"]
PEERS = ["onnxruntime", "sentence_transformers"]


class Engine:
    def __init__(self, command: list[str]):
        limit = {"OMP_NUM_THREADS": str(THREADS), "RAYON_NUM_THREADS": str(THREADS)}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **limit},
        )
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{' '.join(command)} did not start")

    def tell(self, command: str) -> dict:
        print(command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args} ended during `{command}`")
        return json.loads(answer)


def main() -> None:
    binary, folder, texts, cache, *rest = sys.argv[1:]
    rounds = int(rest[0]) if rest else 3
    peers = Path(__file__).with_name("peers.py")
    engines = {"millrace": Engine([binary, folder, str(THREADS), texts])}
    for peer in PEERS:
        command = [sys.executable, str(peers), peer, folder, str(THREADS), texts, cache]
        engines[peer] = Engine(command)

    vectors = {}
    for name, engine in engines.items():
        path = Path(cache) / f"{name}.f32"
        count = engine.tell(f"vectors {path}")  # also warms every engine up
        vectors[name] = numpy.fromfile(path, dtype="<f4").reshape(-1, 384).astype("f8")
        vectors[name] /= numpy.linalg.norm(vectors[name], axis=1, keepdims=True)
        print(f"{name}: {count}", file=sys.stderr)
    cosines = (vectors["millrace"] * vectors["sentence_transformers"]).sum(1)
    peers_agree = (vectors["onnxruntime"] * vectors["sentence_transformers"]).sum(1).min()
    if peers_agree < 0.9999:
        sys.exit(f"the peers disagree (cosine {peers_agree}): their setup is wrong")

    wall: dict[tuple[str, str], float] = {}
    cpu: dict[tuple[str, str], float] = {}
    for turn in range(rounds):
        for order in ORDERS:
            for name, engine in engines.items():
                answer = engine.tell(order)
                key = (name, order)
                wall[key] = min(wall.get(key, float("inf")), answer["wall_seconds"])
                cpu[key] = min(cpu.get(key, float("inf")), answer["cpu_seconds"])
                tokens = answer.get("tokens", "")
                print(
                    f"round {turn + 1} {order:8} {name:22} {answer['wall_seconds']:7.2f} s wall "
                    f"{answer['cpu_seconds']:7.2f} s cpu {tokens}",
                    file=sys.stderr,
                )
    latency = engines["millrace"].tell("latency 300")
    total = engines["millrace"].tell("arrival")

    def against(peer: str, order: str, times: dict) -> float:
        return round(times[peer, order] / times["millrace", order], 3)

    result = {}
    for suffix, times in [("", wall), ("_cpu", cpu)]:
        best = min(against(peer, "arrival", times) for peer in PEERS)
        result[f"arrival_vs_best_peer{suffix}"] = best
        for peer in PEERS:
            result[f"sorted_vs_{peer}{suffix}"] = against(peer, "sorted", times)
    result["min_cosine"] = round(float(cosines.min()), 8)
    result["texts"] = total["texts"]
    result["tokens"] = total["tokens"]
    result["threads"] = THREADS
    result["rounds"] = rounds
    for name in engines:
        for order in ORDERS:
            result[f"{name}_{order}_tokens_per_second"] = round(total["tokens"] / wall[name, order])
            result[f"{name}_{order}_tokens_per_cpu_second"] = round(
                total["tokens"] / cpu[name, order]
            )
    result["query_p50_ms"] = round(latency["p50_ms"], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
