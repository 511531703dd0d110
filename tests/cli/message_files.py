"""The files that the rows of test_messages.py speak of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..llm import tiny


def fill(here: Path) -> None:
    """What the rows speak of."""
    for name, text in {
        "prompts.jsonl": "".join(json.dumps({"prompt": f"Tell me about bread {i}."}) + "\n" for i in range(6)),
        "blank.jsonl": "\n",
        "half.jsonl": '{"prompt": "\\ud800 x"}\n',
        "deep.jsonl": "[" * 100_000,
        "number.json": '["a", 3]',
        "object.json": "{}",
        "gpt.jsonl": json.dumps({"prompt": "Tell me about bread 0.", "output": "No."}) + "\n",
        "work.jsonl": '{"prompt": "a", "output": "b"}\n' * 2,
        "mute.jsonl": json.dumps({"prompt": "Tell me about bread 0.", "output": ""}) + "\n",
        "votes.jsonl": "".join(
            json.dumps({"prompt": p, "a": "x", "b": "y", "wins": 1, "n": 2}) + "\n" for p in "abcdef"
        ),
        "good.csv": ",a,b\na,.5,.4\nb,.6,.5\n",
        "no_column.csv": ",a,b\na,.5,.4\nb,.6,.5\nc,.5,.5\n",
        "no_cell.csv": ",a,b,c\na,.5,.4\nb,.6,.5\nc,.5,.5\n",
        "empty.csv": "",
        "ragged.csv": ",a,b\na,.5,.4\nb,.6\n",
        "semicolons.csv": ";a;b\na;,5;,4\nb;,6;,5\n",
        "counts.csv": ",a,b\na,0,7\nb,3,0\n",
        "words.csv": ",a,b\na,.5,x\nb,.6,.5\n",
        "dashes.csv": ",a,b\na,-,.4\nb,.6,-\n",
        "sums.csv": ",a,b\na,.5,.9\nb,.2,.5\n",
        "skew.csv": ",a,b\na,0,2\nb,-2,0\n",
        "zeros.csv": ",a,b\na,0,0\nb,0,0.0\n",
        "percent.csv": ",a,b\na,50,40\nb,60,50\n",
        "nan.csv": ",a,b\na,.5,nan\nb,.6,.5\n",
        "twice.csv": ",a,a\na,.5,.4\na,.6,.5\n",
        "wide.csv": ",a,b\na,.5,.4\n",
        "answers/a.json": json.dumps(["x"] * 6),
        "answers/b.json": json.dumps(["yy"] * 6),
        "twins/a.json": '["x"]',
        "twins/a.jsonl": '"x"\n',
        "wins.jsonl": '{"prompt": "p", "a": "x", "b": "y", "wins": 3, "n": 2}\n',
        "broken/config.json": '{"model_type": "llama", "hidden_size": "x"}',
        "deep/config.json": "[" * 100_000,
        "deep/run.json": "[" * 100_000,
        "torn/run.json": '{"config": {',
        "foreign/run.json": "[]",
    }.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(text)
    (here / "latin.csv").write_bytes(b",\xe9\n")
    (here / "latin.txt").write_bytes(b"\xe9\n")
    (here / "broken.npz").write_bytes(b"no")
    (here / "text.gguf").write_text("no")
    (here / "broken.parquet").write_bytes(b"no")
    np.savez(here / "words.npz", P=np.array([["a", "b"], ["c", "d"]]))
    np.savez(here / "labels.npz", P=np.full((2, 2), 0.5), labels=np.array("x"))
    np.savez(here / "two.npz", A=np.zeros(2), B=np.zeros(2))
    np.savez(here / "batch.npz", P=np.full((3, 2, 2), 0.5))
    tiny.policy(here / "plain", chat=False)
    tiny.policy(here / "endless", pad=False, eos=False)
