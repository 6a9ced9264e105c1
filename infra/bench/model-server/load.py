"""Load on the model server, on its peer, and the bare encoder, in turns in one run on one machine.

64 clients in a process of their own, each with one connection, ask for one text at a time, lengths
mixed as corpora have them. Only the standard library, so that the clients cost little. Ratios are
of neighbours in one round, and their median over the rounds is told: a machine's speed changes by
more than what is looked for here.

Then the model server alone with 16 texts a request and a second of time each: at four times the
rate that it has just shown, whatever becomes of the requests (overload), and with 256 clients that
ask again at once whatever they are told (storm).
The last line is one JSON object with the ratios.
"""

import argparse
import http.client
import itertools
import json
import multiprocessing
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time

CLIENTS = 64
MODEL = "all-MiniLM-L6-v2"
OVERLOAD = 4
OVERLOAD_MS = 1_000
OVERLOAD_TEXTS = 16


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Clients:
    """Clients of one server; what they were answered, as (status, seconds, texts)."""

    def __init__(self, port, bodies, headers):
        self.port, self.bodies = port, bodies
        # FastAPI reads no JSON without it.
        self.headers = headers | {"content-type": "application/json"}
        self.found = []

    def ask(self, connection, number):
        texts, body = self.bodies[number % len(self.bodies)]
        started = time.monotonic()
        try:
            connection.request("POST", "/v1/embeddings", body, self.headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            # Told as a status of its own; the next request connects again.
            connection.close()
            status = 0
        self.found.append((status, time.monotonic() - started, texts))

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def at_once(self, first, step, until):
        """Asks again as soon as it is answered."""
        connection = self.connection()
        for number in itertools.count(first, step):
            if time.monotonic() >= until:
                return
            self.ask(connection, number)

    def on_time(self, numbers, started, rate, until):
        """Asks when its time has come, however the others fare."""
        connection = self.connection()
        # Taking a number is one step of the interpreter, so that threads share the count.
        for number in numbers:
            due = started + number / rate
            if due >= until:
                return
            time.sleep(max(0, due - time.monotonic()))
            self.ask(connection, number)


def clients(port, bodies, headers, count, seconds, rate, queue):
    asking, started = Clients(port, bodies, headers), time.monotonic()
    until, numbers = started + seconds, itertools.count()
    threads = [
        threading.Thread(target=asking.on_time, args=(numbers, started, rate, until))
        if rate
        else threading.Thread(target=asking.at_once, args=(n, count, until))
        for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(asking.found)


def load(port, bodies, count, seconds, headers=None, rate=None):
    """Answers as (status, seconds, texts), and how long it took; `rate` in requests a second."""
    # A child of this process, so that what it takes is counted.
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    arguments = (port, bodies, headers or {}, count, seconds, rate, queue)
    process = fork.Process(target=clients, args=arguments)
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


def bare(engine):
    """Texts a second of the encoder alone, all texts at once."""
    engine.stdin.write("sorted\n")
    engine.stdin.flush()
    answer = json.loads(engine.stdout.readline())
    return answer["texts"] / answer["wall_seconds"]


def served(found, seconds):
    """Texts answered a second."""
    return sum(texts for status, _, texts in found if status == 200) / seconds


def p99(found):
    return quantile([took for status, took, _ in found if status == 200], 0.99)


def statuses(found):
    counted = {}
    for status, _, _ in found:
        counted[status] = counted.get(status, 0) + 1
    return dict(sorted(counted.items()))


def rounds(count, engine, ports, bodies, seconds):
    """Texts a second by name, one list entry a round, and all that was found by name."""
    rates, found = {}, {}
    for port in ports.values():
        load(port, bodies, CLIENTS, 2)
    for number in range(count):
        rates.setdefault("bare encoder", []).append(bare(engine))
        for name, port in ports.items():
            answers, took = load(port, bodies, CLIENTS, seconds)
            rates.setdefault(name, []).append(served(answers, took))
            found.setdefault(name, []).extend(answers)
        shown = (f"{name} {of_round[-1]:.1f}" for name, of_round in rates.items())
        say(f"round {number + 1} of {count}, texts/s: {', '.join(shown)}")
    return rates, found


def http_cpu_seconds(server):
    """What the server's threads have taken that compute nothing."""
    ticks = 0
    for thread in pathlib.Path(f"/proc/{server.pid}/task").iterdir():
        try:
            name, _, stat = (thread / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            # Idle threads end.
            continue
        if not name.startswith(("encoder-", "cross-encoder-", "batch-")):
            ticks += sum(map(int, stat.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def clients_cpu_seconds():
    """What all clients together have taken that are done."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ratio(rates, name, to):
    pairs = zip(rates[name], rates[to])
    return round(statistics.median(one / other for one, other in pairs), 3)


def hard_times(server, port, texts, rate, seconds):
    """The model server where more is asked than it can do."""
    many = [
        (OVERLOAD_TEXTS, json.dumps({"model": MODEL, "input": texts[at : at + OVERLOAD_TEXTS]}))
        for at in range(0, len(texts) - OVERLOAD_TEXTS, OVERLOAD_TEXTS)
    ]
    headers = {"x-request-timeout-ms": str(OVERLOAD_MS)}
    report = {}
    for name, asked in (("overload", OVERLOAD * rate / OVERLOAD_TEXTS), ("storm", None)):
        of_server, of_clients = http_cpu_seconds(server), clients_cpu_seconds()
        found, took = load(port, many, 4 * CLIENTS, seconds, headers, asked)
        of_server, of_clients = http_cpu_seconds(server) - of_server, clients_cpu_seconds() - of_clients
        late = quantile([took for _, took, _ in found], 0.99) / (OVERLOAD_MS / 1000)
        report |= {
            f"{name}_answers": statuses(found),
            f"{name}_texts_per_second_vs_64_clients": round(served(found, took) / rate, 3),
            f"{name}_p99_vs_deadline": round(late, 3),
            f"{name}_server_cpu_us_a_request": round(of_server / len(found) * 1e6),
            f"{name}_clients_cores": round(of_clients / took, 2),
        }
    return report


def start_peer(folder):
    port = free_port()
    script = pathlib.Path(__file__).with_name("peer.py")
    return port, subprocess.Popen([sys.executable, script, folder, str(port)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--bench-encoder", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-peer", action="store_true")
    arguments = parser.parse_args()
    texts = [json.loads(line) for line in pathlib.Path(arguments.texts).read_text().splitlines()]
    bodies = [(1, json.dumps({"model": MODEL, "input": [text]})) for text in texts]
    shown = subprocess.check_output([arguments.millrace, "--json", "model", "show", MODEL])
    folder = json.loads(shown)["folder"]

    port = free_port()
    environment = os.environ | {"MILLRACE_MODEL_SERVER__LISTEN": f"127.0.0.1:{port}"}
    command = [arguments.bench_encoder, folder, str(os.cpu_count()), arguments.texts]
    server = subprocess.Popen([arguments.millrace, "run", "model-server"], env=environment, stdout=-3)
    engine = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    peer = None
    try:
        engine.stdout.readline()
        wait(port, server, "/health")
        ports = {"model server": port}
        if not arguments.skip_peer:
            ports["FastAPI"], peer = start_peer(folder)
            wait(ports["FastAPI"], peer)
        rates, found = rounds(arguments.rounds, engine, ports, bodies, arguments.seconds)
        if peer:
            peer.terminate()
            peer.wait()
        report = hard_times(server, port, texts, statistics.median(rates["model server"]), arguments.seconds)
    finally:
        engine.stdin.close()
        engine.wait()
        if peer:
            peer.terminate()
            peer.wait()
        server.terminate()
        code = server.wait()
    report = {
        "model_server_vs_bare_encoder": ratio(rates, "model server", "bare encoder"),
        "p99_seconds": round(p99(found["model server"]), 3),
    } | report | {"exit_code": code}
    if peer:
        report |= {
            "model_server_vs_fastapi": ratio(rates, "model server", "FastAPI"),
            "p99_vs_fastapi": round(p99(found["model server"]) / p99(found["FastAPI"]), 3),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
