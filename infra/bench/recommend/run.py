#!/usr/bin/env python3
"""How soon a click and an upload are in the answers, idle; how long answers take under load: embedded.

The catalog is the sample's films, for the load also made-up ones up to ITEMS, each of two real films;
its users are the sample's, with all of their behavior.

Click: a user clicks the first item of their answer, and it is asked until an answer has it no more
(what was acted on is not shown again). Upload: an item that suits a user is pushed to AIRec's item
table, and it is asked until that user's answer has it, with the upload's trace. Times are from sending
to reading the answer that shows the change. Load: RATE requests a second for LOAD_SECONDS, whether they
are answered in time or not, each measured from its scheduled moment, by a program on the same machine.
Ends with one line of JSON.
"""

import gzip
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("MILLRACE_BINARY", REPOSITORY / "target/release/millrace")
GENERATOR = os.environ.get("LOAD_BINARY", REPOSITORY / "target/release/examples/load_recommend")
FILMS = REPOSITORY / "samples/films/films.jsonl.gz"
BEHAVIOR = REPOSITORY / "samples/films/behavior.jsonl.gz"
TRIES = int(os.environ.get("TRIES", "100"))
ITEMS = int(os.environ.get("ITEMS", "5000"))
RATE = os.environ.get("RATE", "200")
LOAD_SECONDS = os.environ.get("LOAD_SECONDS", "60")
LIMIT_SECONDS = 30
LOADED_LIMIT_SECONDS = 600
ROWS_PER_REQUEST = 400
STARTED = time.monotonic()
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(api: str, route: str, body=None, **headers: str) -> dict:
    data = None if body is None else json.dumps(body).encode()
    headers.setdefault("content-type", "application/json")
    with OPENER.open(urllib.request.Request(f"{api}{route}", data, headers)) as answer:
        return json.load(answer)


def recommend(api: str, user: str, count: int, **more: str) -> list[dict]:
    query = urllib.parse.urlencode({"user_id": user, "count": count} | more)
    return ask(api, f"/v1/instances/bench/recommend?{query}")["items"]


def metric(api: str, name: str) -> float:
    with OPENER.open(f"{api}/metrics") as metrics:
        lines = (line.decode().split() for line in metrics)
        return next(float(line[1]) for line in lines if line[0] == name)


def say(what: str) -> None:
    print(f"bench-recommend: {time.monotonic() - STARTED:.0f} s: {what}", file=sys.stderr, flush=True)


def known_items(api: str) -> int:
    return int(metric(api, "millrace_recommender_items"))


def until(what: str, begun: float, found, limit_seconds: float = LIMIT_SECONDS, every: float = 0) -> float:
    """Milliseconds since `begun` when `found()` first held."""
    while time.perf_counter() - begun < limit_seconds:
        if found():
            return (time.perf_counter() - begun) * 1e3
        time.sleep(every)
    sys.exit(f"not within {limit_seconds} s: {what}")


def click(api: str, user: str, uri: str) -> None:
    event = {"user_id": user, "item": uri, "kind": "click", "event_time_ms": int(time.time() * 1e3)}
    ask(api, "/v1/events", [event])


def click_to_answer(api: str, user: str) -> float:
    uri = recommend(api, user, 10)[0]["uri"]
    gone = lambda: all(item["uri"] != uri for item in recommend(api, user, 10))
    begun = time.perf_counter()
    click(api, user, uri)
    took = until(f"{user} is shown {uri} no more", begun, gone)
    if not gone():
        sys.exit(f"{uri} came back to {user}: it had left by chance")
    return took


def upload_to_answer(api: str, number: int, liked: dict) -> float:
    user = f"reader-{number}"
    click(api, user, liked["uri"])
    begun = time.perf_counter()
    until(f"{user} has a profile", begun,
          lambda: all(item["uri"] != liked["uri"] for item in recommend(api, user, 200)))
    trace = f"{number + 1:032x}"
    row = {"item_id": f"new-{number}", "title": f"{liked['title']}: the sequel",
           "content": f"{liked['snippet']} Part {number + 2}."}
    uri = f"airec://bench/item/new-{number}"
    begun = time.perf_counter()
    ask(api, "/v2/openapi/instances/bench/tables/item/actions/bulk", [{"cmd": "add", "fields": row}],
        traceparent=f"00-{trace}-{number + 1:016x}-01")
    shown = lambda: any(item["uri"] == uri for item in recommend(api, user, 20))
    took = until(f"{user} is shown {uri}", begun, shown)
    explained = [item for item in recommend(api, user, 20, explain="true") if item["uri"] == uri]
    if explained and trace not in explained[0]["explanation"]["signal_traceparent"]:
        sys.exit(f"the trace of {uri} was lost: {explained[0]['explanation']}")
    return took


def fields(film: dict) -> dict:
    return {field["name"]: field["value"] for field in film["fields"]}


def made_up(films: list[dict], number: int) -> dict:
    """A film of two: the beginning of one's story and the end of the other's."""
    one, other = fields(films[number * 31 % len(films)]), fields(films[(number * 17 + 5) % len(films)])
    begin, end = one["description"].split(". "), other["description"].split(". ")
    return {"item_id": f"made-up-{number}", "title": f"{one['title']} / {other['title']}",
            "content": ". ".join(begin[:(len(begin) + 1) // 2] + end[len(end) // 2:]),
            "category_path": "_".join(one["genres"]), "tags": ",".join(one["tags"][:5] + other["tags"][:5])}


def load_catalog(api: str, count: int) -> None:
    with gzip.open(FILMS, "rt") as lines:
        films = [json.loads(line) for line in lines]
    missing = count - known_items(api)
    say(f"{missing} films more")
    rows = [{"cmd": "add", "fields": made_up(films, number)} for number in range(missing)]
    for first in range(0, missing, ROWS_PER_REQUEST):
        ask(api, "/v2/openapi/instances/bench/tables/item/actions/bulk", rows[first:first + ROWS_PER_REQUEST])
    until(f"{count} items are known", time.perf_counter(), lambda: known_items(api) >= count,
          LOADED_LIMIT_SECONDS, every=1)


def load_behavior(api: str, data: str) -> list[str]:
    """The users of the sample, once all that they did is in their profiles."""
    applied = 'millrace_feedback_total{outcome="applied"}'
    before = metric(api, applied)
    published = subprocess.run([BINARY, "publish", "behavior", "--json", "--data", data, BEHAVIOR,
                                "--rebase-time", "now", "--item-uri", f"{FILMS}#{{item}}"],
                               stdout=subprocess.PIPE, check=True)
    events = json.loads(published.stdout)["events"]
    until("behavior is in profiles", time.perf_counter(), lambda: metric(api, applied) - before >= events,
          LOADED_LIMIT_SECONDS, every=1)
    with gzip.open(BEHAVIOR, "rt") as lines:
        return sorted({json.loads(line)["user"] for line in lines})


def load(api: str, data: str) -> dict:
    load_catalog(api, ITEMS)
    say("behavior")
    users = load_behavior(api, data)
    say(f"{RATE} requests a second for {LOAD_SECONDS} s")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join(users))
        file.flush()
        address = api.removeprefix("http://")
        asked = subprocess.run([GENERATOR, address, file.name, RATE, LOAD_SECONDS],
                               stdout=subprocess.PIPE, check=True)
    return {"load_items": known_items(api), "load_users": len(users)} | json.loads(asked.stdout)


def figures(name: str, times: list[float]) -> dict:
    return {f"{name}_tries": len(times),
            f"{name}_p50_ms": round(statistics.median(times), 1),
            f"{name}_p99_ms": round(statistics.quantiles(times, n=100, method="inclusive")[98], 1),
            f"{name}_max_ms": round(max(times), 1)}


def main() -> None:
    free = {"MILLRACE_API__LISTEN": "127.0.0.1:0", "MILLRACE_BROKER__LISTEN": "127.0.0.1:0"}
    with tempfile.TemporaryDirectory() as folder:
        up = subprocess.Popen([BINARY, "up", "--json", "--data", f"{folder}/data"],
                              env=os.environ | free, stdout=subprocess.PIPE, text=True)
        try:
            api = json.loads(up.stdout.readline())["api"]
            say("indexing the films")
            ingest = subprocess.run([BINARY, "ingest", "--json", "--data", f"{folder}/data", FILMS],
                                    stdout=subprocess.PIPE, check=True)
            indexed = json.loads(ingest.stdout)["indexed"]
            found = ask(api, "/v1/search", {"query": "a film", "k": 1000, "mode": "vector"})["hits"]
            until("items are known", time.perf_counter(), lambda: known_items(api) == indexed)
            say(f"{TRIES} clicks, {TRIES} uploads")
            clicks = [click_to_answer(api, f"user-{number}") for number in range(TRIES)]
            uploads = [upload_to_answer(api, number, found[number * 7 % len(found)])
                       for number in range(TRIES)]
            loaded = load(api, f"{folder}/data")
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(30)
    print(json.dumps(figures("click", clicks) | figures("upload", uploads) | loaded))


if __name__ == "__main__":
    main()
