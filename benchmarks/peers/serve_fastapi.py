"""The plain endpoint that everybody writes first: FastAPI, pydantic, torch. PORT."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).parent))
from small_model import build

torch.set_num_threads(1)
app, model = FastAPI(), build()


class Item(BaseModel):
    x: list[float]


class Answer(BaseModel):
    output: list[float]


def predict(item: Item) -> Answer:
    with torch.inference_mode():
        return Answer(output=model(torch.tensor([item.x]))[0].tolist())


@app.post("/async")
async def in_the_loop(item: Item) -> Answer:
    return predict(item)


@app.post("/threads")
def in_threads(item: Item) -> Answer:
    return predict(item)


uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
