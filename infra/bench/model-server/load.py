"""Load on the model server, on its peer, and the bare encoder, in one run on one machine.

64 clients in a process of their own, each with one connection, ask for one text at a time, lengths
mixed as corpora have them. Only the standard library, so that the clients cost little. Then the
model server alone at four times the clients with 16 texts a request and a second of time each.
The last line is one JSON object with the ratios.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

CLIENTS = 64
MODEL = "all-MiniLM-L6-v2"
OVERLOAD_MS = 1_000


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def client(port, bodies, first, step, until, headers, found):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    # FastAPI reads no JSON without it.
    headers = headers | {"content-type": "application/json"}
    number = first
    while time.monotonic() < until:
        text, body = bodies[number % len(bodies)]
        number += step
        started = time.monotonic()
        connection.request("POST", "/v1/embeddings", body, headers)
        answer = connection.getresponse()
        answer.read()
        found.append((answer.status, time.monotonic() - started, text))


def clients(port, bodies, count, seconds, headers, queue):
    found, until = [], time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(port, bodies, n, count, until, headers, found))
        for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(found)


def load(port, bodies, count, seconds, headers=None):
    """Answers as (status, seconds, tokens), and how long it took."""
    queue = multiprocessing.Queue()
    arguments = (port, bodies, count, seconds, headers or {}, queue)
    process = multiprocessing.Process(target=clients, args=arguments)
    started = time.monotonic()
    process.start()
    found = queue.get()
    process.join()
    return found, time.monotonic() - started


def wait(port, process, path="/docs"):
    until = time.monotonic() + 180
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit("the server did not become ready")


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def bare(arguments, folder):
    """Texts a second of the encoder alone, all texts at once, the best of three rounds."""
    command = [arguments.bench_encoder, folder, str(os.cpu_count()), arguments.texts]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as engine:
        engine.stdout.readline()
        rates = []
        for _ in range(3):
            engine.stdin.write("sorted\n")
            engine.stdin.flush()
            answer = json.loads(engine.stdout.readline())
            rates.append(answer["texts"] / answer["wall_seconds"])
        engine.stdin.close()
        engine.wait()
    return max(rates)


def measured(name, found, seconds):
    times = [took for status, took, _ in found if status == 200]
    rate = len(times) / seconds
    say(f"{name}: {rate:.1f} texts/s, p50 {quantile(times, .5):.3f} s, p99 {quantile(times, .99):.3f} s")
    return rate, quantile(times, 0.99)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--bench-encoder", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--skip-peer", action="store_true")
    arguments = parser.parse_args()
    texts = [json.loads(line) for line in pathlib.Path(arguments.texts).read_text().splitlines()]
    bodies = [(text, json.dumps({"model": MODEL, "input": [text]})) for text in texts]
    shown = subprocess.check_output([arguments.millrace, "--json", "model", "show", MODEL])
    folder = json.loads(shown)["folder"]

    encoder = bare(arguments, folder)
    say(f"bare encoder: {encoder:.1f} texts/s")

    port = free_port()
    environment = os.environ | {"MILLRACE_MODEL_SERVER__LISTEN": f"127.0.0.1:{port}"}
    server = subprocess.Popen([arguments.millrace, "run", "model-server"], env=environment, stdout=-3)
    try:
        wait(port, server, "/health")
        load(port, bodies, CLIENTS, 2)
        rate, p99 = measured("model server", *load(port, bodies, CLIENTS, arguments.seconds))
        many = [
            ("", json.dumps({"model": MODEL, "input": texts[at : at + 16]}))
            for at in range(0, len(texts) - 16, 16)
        ]
        headers = {"x-request-timeout-ms": str(OVERLOAD_MS)}
        found, _ = load(port, many, 4 * CLIENTS, arguments.seconds, headers)
    finally:
        server.terminate()
        code = server.wait()
    statuses = {}
    for status, _, _ in found:
        statuses[status] = statuses.get(status, 0) + 1
    overload_p99 = quantile([took for _, took, _ in found], 0.99)
    say(f"overloaded: {statuses}, p99 {overload_p99:.3f} s of {OVERLOAD_MS / 1000} s; exit code {code}")

    report = {
        "model_server_vs_bare_encoder": round(rate / encoder, 3),
        "p99_seconds": round(p99, 3),
        "overload_p99_vs_deadline": round(overload_p99 / (OVERLOAD_MS / 1000), 3),
        "overload_answers": statuses,
        "exit_code": code,
    }
    if not arguments.skip_peer:
        port = free_port()
        script = pathlib.Path(__file__).with_name("peer.py")
        peer = subprocess.Popen([sys.executable, script, folder, str(port)])
        try:
            wait(port, peer)
            load(port, bodies, CLIENTS, 2)
            peer_rate, peer_p99 = measured("FastAPI", *load(port, bodies, CLIENTS, arguments.seconds))
        finally:
            peer.terminate()
            peer.wait()
        report["model_server_vs_fastapi"] = round(rate / peer_rate, 3)
        report["p99_vs_fastapi"] = round(p99 / peer_p99, 3)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
