"""Variants of prompts: written from the most informative, never from held-out ones, the same when a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nashward import games, llm
from nashward.errors import NashwardError
from nashward.llm import Prompt, RunConfig
from nashward.llm.clients import client as client_module
from nashward.llm.config import Fit
from nashward.llm.delivery.preferences import preferences
from nashward.llm.policy.handles import Adapter
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.policy.sampling import GenerateSource
from nashward.llm.report.content import Table
from nashward.llm.report.responses import augmented_prompts
from nashward.llm.run.inputs import augmentation
from nashward.llm.run.inputs.augmentation import EndpointWriter, PolicyWriter, cleaned, request_for
from nashward.llm.run.inputs.augmented_prompts import augmented, played_prompts
from nashward.llm.run.inputs.parts import divide
from nashward.llm.run.inputs.prompt_selection import PromptSelector
from nashward.llm.run.rollouts import RolloutStore
from nashward.llm.store.files import read_jsonl, read_shard, shards
from nashward.llm.store.run_folder import AUGMENTED, RunFolder

from ..clients.scripted import Script, serve
from ..tiny_run import quick_run

WORDS = ["rivers", "trees", "stones", "birds", "ships", "wind"]
PROMPTS = [f"Say {k} things about {word}" for k, word in enumerate(2 * WORDS)]
FIT = llm.Fit(learning_rate=2e-3, epochs=1, batch=4, held_out=0.25, validation=0.0)
SETTINGS: dict[str, Any] = {"prompts": PROMPTS, "fit": FIT, "iterations": 3, "solver": games.MWU(2.0)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.002)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def _write(body: dict[str, Any]) -> tuple[str, None]:
    """A new request about what the request is about; for a harder one about rivers first a copy of a prompt."""
    text = body["messages"][-1]["content"]
    request = text.rpartition("Request: ")[2]
    word = request.split()[-1]
    harder = "harder" in text
    if word == "rivers":
        return ("Say 6 things about rivers" if body["seed"] % 2 else ""), None
    seed = body["seed"]
    what = "of two rare" if harder else "some facts on"
    return f'New request: "Tell me {what} {word}, {request.split()[1]}, {seed}."', None


def _run(source: Path, folder: Path, script: Script, **settings: Any) -> llm.SelfPlay:
    return quick_run(source, folder, **{**SETTINGS, "augment": "openai:writer", "augment_url": script.url, **settings})


def _same(one: Path, other: Path) -> None:
    for k in (2, 3):
        for name in (AUGMENTED, "shards.json", f"adapter/{WEIGHTS}"):
            file = Path(f"iteration-0{k}") / name
            assert (one / file).read_bytes() == (other / file).read_bytes(), file


def test_they_are_of_the_most_informative_and_never_of_held_out_prompts(tiny_folder: Path, tmp_path: Path) -> None:
    with serve(Script(_write)) as script:
        run = _run(tiny_folder, tmp_path / "run", script).run(progress=False)
    home = RunFolder(run.folder)
    assert not (run.folder / "iteration-01" / AUGMENTED).exists()
    prompts = [Prompt(({"role": "user", "content": text},)) for text in PROMPTS]
    _, validation, held_out = divide(range(len(prompts)), prompts, FIT, 0)
    assert (len(validation), len(held_out)) == (0, 3)
    apart = {prompts[k].id for k in held_out}
    for k in (2, 3):
        rows = read_jsonl(run.folder / f"iteration-0{k}" / AUGMENTED)
        parents = list(dict.fromkeys(row["parent"] for row in rows))
        assert 1 <= len(parents) <= 2  # a fifth of 12, of whom one may be of the rivers
        assert not apart & set(parents)
        assert {row["kind"] for row in rows} == {"paraphrase", "harder"}
        for row in rows:
            assert Prompt(tuple(row["messages"])).id == row["id"]
            assert not row["messages"][-1]["content"].startswith(("New", '"'))
        step = run.folder / f"iteration-0{k}"
        judged = [row["prompt"] for file in shards(step / "judgements", "*") for row in read_shard(file, ["prompt"])]
        assert sorted(judged) == sorted([*(prompt.id for prompt in prompts), *(row["id"] for row in rows)])
        assert run.metrics[k - 1]["prompts"] == len(judged)
    spread: dict[str, float] = {}
    for file in shards(run.folder / "iteration-01" / "judgements", "*"):
        for row in read_shard(file, ["prompt", "P"]):
            P = row["P"]
            rates = [sum(p for j, p in enumerate(line) if j != i) / 2 for i, line in enumerate(P)]
            mean = sum(rates) / 3
            spread[row["prompt"]] = sum((rate - mean) ** 2 for rate in rates)
    possible = sorted((p.id for p in prompts if p.id not in apart), key=lambda name: -spread[name])
    second = {prompt.parent for step, prompt in augmented(home) if step == "iteration-02"}
    assert second <= set(possible[:2])
    assert len(played_prompts(home)) == 12 + len(augmented(home))
    # what reads the run knows them
    exported = {row["prompt"][-1]["content"] for row in preferences(home).rows["responses"]}
    assert exported >= {prompt.text for _, prompt in augmented(home)}
    counts, examples = (part for part in augmented_prompts(run.folder) if isinstance(part, Table))
    assert sum(int(row[2]) for row in counts.rows) == len(augmented(home))
    assert len(examples.rows) == 3


@pytest.mark.slow
def test_a_run_that_goes_on_plays_on_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with serve(Script(_write)) as script:
        _run(tiny_folder, whole, script).run(progress=False)
        paid = len(script.bodies)
        _run(tiny_folder, cut, script, iterations=1).run(progress=False)
        assert _run(tiny_folder, cut, script).run("sample", progress=False).stopped
        file = cut / "iteration-02" / AUGMENTED
        before = file.read_bytes()
        drawn = len(script.bodies)
        file.unlink()  # made again from what is kept
        assert _run(tiny_folder, cut, script).run("judge", progress=False).stopped
        assert file.read_bytes() == before
        assert len(script.bodies) == drawn
        _run(tiny_folder, cut, script).run(progress=False)
        _run(tiny_folder, cut, script).run(progress=False)  # finished: nothing changes
        assert len(script.bodies) == 2 * paid
        _same(whole, cut)
        _run(tiny_folder, cut, script).run("sample", redo="sample", progress=False)
        _run(tiny_folder, cut, script).run(progress=False)
    _same(whole, cut)
    with pytest.raises(NashwardError, match="augment"):
        quick_run(tiny_folder, cut, **SETTINGS).check()


def test_the_policy_writes_whatever_else_it_writes(tmp_path: Path) -> None:
    model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY)
    model.write_start_adapter(tmp_path / "start", None)
    writer = PolicyWriter(
        lambda: model, Adapter("start", tmp_path / "start"), GenerateSource(llm.Sampling(max_new_tokens=48))
    )
    river, sky = (Prompt(({"role": "user", "content": text},)) for text in ("Name a river.", "Why is the sky blue?"))
    requests = [request_for(prompt, kind) for prompt in (river, sky) for kind in augmentation.KINDS]
    drafts = writer(requests, [1, 2, 3, 4])
    assert all(drafts)
    assert [writer([request], [seed])[0] for request, seed in zip(requests, [1, 2, 3, 4], strict=True)] == drafts
    short = PolicyWriter(writer.model, writer.policy, GenerateSource(llm.Sampling(max_new_tokens=1)))
    assert short(requests, [1, 2, 3, 4]) == [None] * 4  # cut


@pytest.mark.slow
def test_a_run_whose_policy_writes_goes_on_the_same(tmp_path: Path) -> None:
    settings = {**SETTINGS, "augment": "policy", "iterations": 2, "sampling": llm.Sampling(max_new_tokens=32)}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    quick_run(llm.pocket.POLICY, whole, **settings).run(progress=False)
    written = read_jsonl(whole / "iteration-02" / AUGMENTED)
    assert written
    quick_run(llm.pocket.POLICY, cut, **{**settings, "iterations": 1}).run(progress=False)
    quick_run(llm.pocket.POLICY, cut, **settings).run("sample", progress=False)
    (cut / "iteration-02" / AUGMENTED).unlink()
    quick_run(llm.pocket.POLICY, cut, **settings).run(progress=False)
    assert read_jsonl(cut / "iteration-02" / AUGMENTED) == written
    name = Path("iteration-02") / "adapter" / WEIGHTS
    assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_with_a_size_they_are_among_it(tiny_folder: Path, tmp_path: Path) -> None:
    sizes = {"prompts_per_iteration": 10, "prompt_selection": "informative"}
    with serve(Script(_write)) as script:
        run = _run(tiny_folder, tmp_path / "run", script, iterations=2, **sizes).run(progress=False)
    rows = read_jsonl(run.folder / "iteration-02" / AUGMENTED)
    assert [row["prompts"] for row in run.metrics] == [10, 10 - 4 + len(rows)]  # 2 parents, 2 variants each
    assert rows


@pytest.mark.parametrize("selection", ["uniform", "coverage"])
def test_variants_among_the_size_leave_no_prompt_out_of_an_epoch(selection: Any, tmp_path: Path) -> None:
    prompts = [Prompt(({"role": "user", "content": text},)) for text in PROMPTS]
    config = RunConfig(prompts_per_iteration=5, prompt_selection=selection, augment="policy")
    home = RunFolder(tmp_path)
    home.write({"solver": {}}, {})

    class Silent(augmentation.Augmenter):
        def add(self, *_: Any) -> tuple[int, ...]:
            return ()

    store = RolloutStore(prompts)
    refuse: Any = None
    lengths = [1] * len(prompts)
    augmenter = Silent(home, prompts, lengths, config, store, refuse, refuse, refuse, print)
    selector = PromptSelector(home, prompts, lengths, config, store, print, augmenter)
    played = [selector.numbers(k, home / f"iteration-0{k + 1}") for k in range(4)]
    assert [len(numbers) for numbers in played] == [5, 3, 3, 3]  # 1 parent, 2 variants
    assert len({*played[0], *played[1], *played[2]}) == 11  # none twice before all were
    assert {number for numbers in played for number in numbers} == {*range(12)}


def test_what_is_no_new_prompt_is_left_out_and_said(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(body: dict[str, Any]) -> tuple[str, None]:
        return ("Say 3 things about birds!", "", "many words " * 40)[body["seed"] % 3], None

    with serve(Script(write)) as script, caplog.at_level("INFO", logger="nashward"):
        run = _run(tiny_folder, tmp_path / "run", script, iterations=2).run()
    assert read_jsonl(run.folder / "iteration-02" / AUGMENTED) == []
    (line,) = (line for line in caplog.messages if "0 prompts written" in line)
    assert "nearly repeated" in line
    assert len(script.bodies) == 2 * 2 * augmentation.TRIES  # of two parents both kinds
    assert augmented_prompts(run.folder) == []


def test_the_parts_keep_variants_away_from_their_held_out_parents() -> None:
    own = [Prompt(({"role": "user", "content": str(k)},)) for k in range(40)]
    plain = divide(range(40), own, Fit(held_out=0.25, validation=0.2), seed=3)
    assert [len(part) for part in plain] == [22, 8, 10]
    variants = [
        Prompt(({"role": "user", "content": f"v{k}"},), parent=prompt.id, kind="harder") for k, prompt in enumerate(own)
    ]
    trained, validation, held_out = divide(range(80), [*own, *variants], Fit(held_out=0.25, validation=0.2), seed=3)
    assert (trained[:22], validation, held_out) == plain
    assert set(trained[22:]) == {40 + k for k in trained[:22]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Name a tree.\n", "Name a tree."),
        ("Request: Name a tree.", "Name a tree."),
        ("**New prompt:** “Name a tree.”", "Name a tree."),
        ('"A" or "B"', '"A" or "B"'),
        ("A request: that is long", "A request: that is long"),
    ],
)
def test_drafts_are_cleaned(text: str, expected: str) -> None:
    assert cleaned(text) == expected


def test_of_several_turns_the_last_one_is_rewritten(tmp_path: Path) -> None:
    turns = (("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"))
    talk = Prompt(tuple({"role": role, "content": text} for role, text in turns))
    (turn,) = request_for(talk, "harder").messages
    assert turn["content"].endswith("Request: Why?")
    with serve(Script(lambda body: ("Fine.", None))) as script:
        config = RunConfig(augment="openai:w", augment_url=script.url)
        home = RunFolder(tmp_path)
        for _ in range(2):
            assert EndpointWriter(config, home)([talk, talk], [1, 2]) == ["Fine.", "Fine."]
        assert len(script.bodies) == 2


def test_a_url_is_the_same_with_a_slash_at_its_end(tiny_folder: Path, tmp_path: Path) -> None:
    def play(url: str) -> llm.SelfPlay:
        settings = {**SETTINGS, "augment": "openai:w", "augment_url": url}
        return quick_run(tiny_folder, tmp_path / "run", **settings)

    home = RunFolder(tmp_path / "run")
    play("http://localhost:1/v1").run("sample", progress=False)
    assert home.read()["config"]["augment_url"] == "http://localhost:1/v1"
    play("http://localhost:1/v1/").run("sample", progress=False)
    with pytest.raises(NashwardError, match="augment_url"):
        play("http://localhost:2/v1").run("sample", progress=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"augment": "me"}, "augment .*'me'.*policy"),
        ({"augment": "openai:"}, "openai:MODEL"),
        ({"augment_url": "http://x/v1"}, "augment_url"),
        ({"augment": "openai:w", "augment_url": "ftp://x"}, "URL"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(NashwardError, match=words):
        RunConfig(**settings)


def test_opponents_without_responses_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match="opponents"):
        quick_run(
            tiny_folder, tmp_path / "run", **{**SETTINGS, "augment": "policy", "opponents": {"gpt": [("x", "y")]}}
        ).check_settings()
