"""The peer: what a team writes on an afternoon, sentence-transformers behind FastAPI.

`peer.py MODEL_FOLDER PORT`. It answers `POST /v1/embeddings` like OpenAI. FastAPI runs a plain
function on a thread of its pool, so requests are encoded side by side, each by itself.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

folder, port = sys.argv[1], int(sys.argv[2])
model = SentenceTransformer(folder, device="cpu")
app = FastAPI()


class Request(BaseModel):
    model: str
    input: list[str]


@app.post("/v1/embeddings")
def embeddings(request: Request):
    vectors = model.encode(request.input, normalize_embeddings=True, show_progress_bar=False)
    data = [
        {"object": "embedding", "index": index, "embedding": vector.tolist()}
        for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data, "model": request.model}


uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
