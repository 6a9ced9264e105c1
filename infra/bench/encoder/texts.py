"""Writes the texts of the encoder benchmark: real ones, of 20 to 400 words, in no order.

    texts.py OUT.jsonl COUNT CORPUS...

A corpus is JSONL, also gzipped, whose lines are BEIR documents or plain strings. Each text is a run
of words from one document; the lengths are spread evenly on a logarithmic scale, as a mixed stream
of notes, abstracts and pages brings them (about 146 tokens on average, once cut at the model's 256).
The same seed gives the same texts.
"""

import gzip
import json
import math
import random
import sys

SHORTEST_WORDS, LONGEST_WORDS = 20, 400


def documents(path: str) -> list[list[str]]:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    texts = [r if isinstance(r, str) else f"{r['title']} {r['text']}" for r in records]
    return [text.split() for text in texts]


def main() -> None:
    out, count, *corpora = sys.argv[1:]
    pool = [words for corpus in corpora for words in documents(corpus)]
    draw = random.Random(20_400)
    with open(out, "w", encoding="utf-8") as file:
        for _ in range(int(count)):
            wanted = round(math.exp(draw.uniform(math.log(SHORTEST_WORDS), math.log(LONGEST_WORDS))))
            words = draw.choice(pool)
            while len(words) < wanted:
                words = words + draw.choice(pool)
            start = draw.randrange(len(words) - wanted + 1)
            file.write(json.dumps(" ".join(words[start : start + wanted])) + "\n")


if __name__ == "__main__":
    main()
