#!/usr/bin/env python3
"""How soon a click and an upload are in the answers: embedded, idle, the sample's films.

Click: a user clicks the first item of their answer, and it is asked until an answer has it no more
(what was acted on is not shown again). Upload: an item that suits a user is pushed to AIRec's item
table, and it is asked until that user's answer has it, with the upload's trace. Times are from sending
to reading the answer that shows the change. Ends with one line of JSON.
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
import urllib.parse
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("MILLRACE_BINARY", REPOSITORY / "target/release/millrace")
FILMS = REPOSITORY / "samples/films/films.jsonl.gz"
TRIES = int(os.environ.get("TRIES", "100"))
LIMIT_SECONDS = 30
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(api: str, route: str, body=None, **headers: str) -> dict:
    data = None if body is None else json.dumps(body).encode()
    headers.setdefault("content-type", "application/json")
    with OPENER.open(urllib.request.Request(f"{api}{route}", data, headers)) as answer:
        return json.load(answer)


def recommend(api: str, user: str, count: int, **more: str) -> list[dict]:
    query = urllib.parse.urlencode({"user_id": user, "count": count} | more)
    return ask(api, f"/v1/instances/bench/recommend?{query}")["items"]


def known_items(api: str) -> int:
    with OPENER.open(f"{api}/metrics") as metrics:
        lines = (line.decode().split() for line in metrics)
        return next(int(line[1]) for line in lines if line[0] == "millrace_recommender_items")


def until(what: str, begun: float, found) -> float:
    """Milliseconds since `begun` when `found()` first held."""
    while time.perf_counter() - begun < LIMIT_SECONDS:
        if found():
            return (time.perf_counter() - begun) * 1e3
    sys.exit(f"not within {LIMIT_SECONDS} s: {what}")


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
            ingest = subprocess.run([BINARY, "ingest", "--json", "--data", f"{folder}/data", FILMS],
                                    stdout=subprocess.PIPE, check=True)
            indexed = json.loads(ingest.stdout)["indexed"]
            found = ask(api, "/v1/search", {"query": "a film", "k": 1000, "mode": "vector"})["hits"]
            until("items are known", time.perf_counter(), lambda: known_items(api) == indexed)
            clicks = [click_to_answer(api, f"user-{number}") for number in range(TRIES)]
            uploads = [upload_to_answer(api, number, found[number * 7 % len(found)])
                       for number in range(TRIES)]
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(30)
    print(json.dumps(figures("click", clicks) | figures("upload", uploads)))


if __name__ == "__main__":
    main()
