"""Prompts that nearly repeat an earlier one are found exactly, counted, and shown."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from nashward.errors import NashwardError
from nashward.llm import Prompt
from nashward.llm.data.near_duplicates import drop_near_duplicates, near_duplicates, shingles, words
from nashward.llm.data.prompts import read_prompts

from ..tiny_run import short_run


def _prompts(texts: Sequence[str]) -> list[Prompt]:
    return [Prompt(({"role": "user", "content": text},)) for text in texts]


def _brute_force(texts: Sequence[str], threshold: float) -> list[int]:
    """Every prompt against every one that is kept."""
    sets, kept, found = [set(shingles(words(text))) for text in texts], list[int](), list[int]()
    for number, own in enumerate(sets):
        if any(len(own & sets[other]) / len(own | sets[other]) >= threshold for other in kept):
            found.append(number)
        else:
            kept.append(number)
    return found


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 2 / 3, 0.75, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_same_are_found_as_by_comparing_all(threshold: float, seed: int) -> None:
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(120):
        if texts and draw.random() < 0.6:  # an earlier one with some words changed
            own = draw.choice(texts).split()
            for _ in range(draw.randint(0, 2)):
                own[draw.randrange(len(own))] = draw.choice("abcdefgh")
            own = own[: len(own) - draw.randint(0, 1)] or own
        else:
            own = [draw.choice("abcdefgh") for _ in range(draw.randint(1, 14))]
        texts.append(" ".join(own))
    found = near_duplicates(_prompts(texts), threshold)
    assert [near.number for near in found] == _brute_force(texts, threshold)
    assert found or threshold > 0.9
    gone = {near.number for near in found}
    for near in found:
        one, other = (set(shingles(words(texts[k]))) for k in (near.number, near.other))
        assert near.other < near.number
        assert near.other not in gone
        assert near.similarity == len(one & other) / len(one | other) >= threshold


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("Name a river in France.", " name A river  in France!?", 1.0),
        ("a b c d", "a b c e", 1 / 3),  # one run of three of three
        ("What is 12 + 5?", "What is 12 - 5?", 1 / 5),  # a sign is a word
        ("Is it 1.5?", "Is it 15?", 0.0),
        ("フランスの川を教えて", "フランスの山を教えて", 5 / 11),  # each character is a word
        ("Hi", "Ho", 0.0),
        ("Hi", "hi!", 1.0),
        ("ﬁx it", "FIX it", 1.0),
    ],
)
def test_similarity_in_closed_form(one: str, other: str, similarity: float) -> None:
    found = near_duplicates(_prompts([one, other]), max(similarity, 1e-9))
    assert [near.similarity for near in found] == ([] if similarity == 0 else [pytest.approx(similarity)])
    assert not near_duplicates(_prompts([one, other]), min(1.0, similarity + 1e-6)) or similarity == 1


def test_a_shared_system_turn_does_not_make_prompts_alike() -> None:
    system = {"role": "system", "content": " ".join(f"rule{k}" for k in range(200))}
    other = {"role": "system", "content": "Answer in French"}
    question, same = ({"role": "user", "content": text} for text in ("Why is the sky blue?", "Why is the sky blue"))
    tree = {"role": "user", "content": "Name a tree that grows in Norway"}
    assert not near_duplicates([Prompt((system, question)), Prompt((system, tree))], 0.5)
    assert not near_duplicates([Prompt((system, question)), Prompt((other, same))], 0.5)
    assert len(near_duplicates([Prompt((system, question)), Prompt((system, same))], 0.5)) == 1


def test_turns_and_roles_count() -> None:
    def talk(*texts: str) -> Prompt:
        turns = zip(("user", "assistant", "user"), texts, strict=True)
        return Prompt(tuple({"role": role, "content": text} for role, text in turns))

    first = talk("Name a river.", "The Rhine.", "Where does it end?")
    assert len(near_duplicates([first, talk("name a river", "The Rhine", "Where does it end")], 1.0)) == 1
    assert not near_duplicates([first, talk("Name a river.", "The Elbe.", "Where does it end?")], 0.8)


def test_they_are_counted_and_a_pair_is_shown() -> None:
    prompts = read_prompts(["Name a river.", "Name a tree.", "name a river", "Name a river."])
    drop_near_duplicates(prompts, 0.8)
    assert [prompt.text for prompt in prompts.kept] == ["Name a river.", "Name a tree."]
    assert dict(prompts.dropped) == {"repeated": 1, "nearly repeated": 1}
    assert "'name a river' after 'Name a river.'" in str(prompts)
    assert "4 prompts read, 2 kept, 2 dropped" in str(prompts)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_what_is_no_similarity_is_refused(threshold: float) -> None:
    with pytest.raises(NashwardError, match=str(threshold)):
        near_duplicates([], threshold)


def test_a_run_plays_without_them_and_goes_on_so(tiny_folder: Path, tmp_path: Path) -> None:
    settings = {"prompts": ["Say 1 thing", "say 1 thing!", "Say 2 things", "Say 3 things"], "drop_similar": 0.8}
    prompts = short_run(tiny_folder, tmp_path / "run", **settings).check()
    assert [prompt.text for prompt in prompts.kept] == ["Say 1 thing", "Say 2 things", "Say 3 things"]
    run = short_run(tiny_folder, tmp_path / "run", iterations=1, **settings).run("sample", progress=False)
    assert run.prompts.dropped["nearly repeated"] == 1
    with pytest.raises(NashwardError, match="drop_similar"):
        short_run(tiny_folder, tmp_path / "run", **{**settings, "drop_similar": None}).check()


@pytest.mark.slow
@pytest.mark.parametrize("template", ["", "Write a short poem in the style of an old sailor about "])
def test_twenty_thousand_prompts_take_seconds(template: str) -> None:
    draw = random.Random(0)
    vocabulary = [f"word{int(draw.expovariate(0.002))}" for _ in range(20_000)]
    texts = [template + " ".join(draw.choices(vocabulary, k=draw.randint(6, 60))) for _ in range(20_000)]
    for k in range(0, 20_000, 20):
        texts[k + 1] = texts[k] + " please"
    start = time.process_time()
    found = near_duplicates(_prompts(texts), 0.8)
    assert time.process_time() - start < 60
    assert 700 < len(found) <= 1000
