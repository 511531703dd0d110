"""What a chat template makes of the turns: the text of each is in it, as text or as parts, or the prompt is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nashward.errors import NashwardError, RefusedPromptError
from nashward.llm import Prompt, read_prompts
from nashward.llm.data.prompts import Prompts
from nashward.llm.oracles.models.chat import Chat
from nashward.llm.policy.chat_template import drop_refused, encode, prompt_ids, render
from nashward.llm.training import sft

from .. import tiny
from ..tiny_run import short_run

HEAD = "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>"
TAIL = "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
PARTS = {  # templates as models that see images have them
    "text of each part": "{% for part in message.content %}{{ part.text }}{% endfor %}",
    "parts by type": "{% for part in message.content %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}",
    "the first part": "{{ message.content[0].text }}",
    "parts that are chosen": "{{ message.content | selectattr('type', 'equalto', 'text') "
    "| map(attribute='text') | join }}",
    "an error for texts": "{% if message.content is string %}{{ raise_exception('give a list') }}{% endif %}"
    "{{ message.content[0]['text'] }}",
    "arithmetic with lists": "{{ (message.content + [])[0].text }}",
}
TALK = [("system", "Be brief."), ("user", "Name a river."), ("assistant", "The Rhine."), ("user", "And a tree?")]


def _words(template: str) -> Any:
    words = tiny.tokenizer()
    words.chat_template = template
    return words


def _prompt(*turns: tuple[str, str]) -> Prompt:
    return Prompt(tuple({"role": role, "content": text} for role, text in turns))


@pytest.mark.parametrize("body", PARTS.values(), ids=PARTS)
def test_a_template_of_parts_is_given_parts(body: str) -> None:
    plain, parts = _words(tiny.TEMPLATE), _words(HEAD + body + TAIL)
    for prompt in (_prompt(("user", "Hi")), _prompt(("user", " a\n")), _prompt(*TALK), _prompt(("user", "a<|end|>"))):
        assert encode(parts, prompt) == encode(plain, prompt)
    asked = [encode(parts, prompt) for prompt in read_prompts(["a", "b", "c"]).kept]
    assert len({tuple(ids) for ids in asked}) == 3
    assert sft.encode(parts, _prompt(("user", "Hi")), "Ho", [6]) == sft.encode(
        plain, _prompt(("user", "Hi")), "Ho", [6]
    )


def test_a_template_that_takes_both_is_given_texts() -> None:
    both = "{% if message.content is string %}{{ message.content }}{% else %}PARTS{% endif %}"
    assert encode(_words(HEAD + both + TAIL), _prompt(*TALK)) == encode(_words(tiny.TEMPLATE), _prompt(*TALK))


@pytest.mark.parametrize(
    ("template", "turns", "named"),
    [
        ("{{ bos_token }}?", [("user", "Hi")], "user turn"),
        ("{{ bos_token }}a", [("user", "a")], "user turn"),  # the text is there by chance
        ("{% for m in messages %}{{ m.context }}{% endfor %}", [("user", "Hi")], "user turn"),
        ("{{ messages[-1].content }}", TALK, "system turn"),
        ("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", TALK, "system turn"),
        ("{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}", TALK, "assistant turn"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", [("user", "Hi")], "user turn"),
        ("{% for m in messages %}{{ m.content | truncate(30) }}{% endfor %}", [("user", "Hi" * 40)], "'HiHi"),
    ],
)
def test_a_template_that_leaves_a_text_out_is_refused(template: str, turns: Any, named: str) -> None:
    words = _words(template)
    with pytest.raises(RefusedPromptError, match=named) as error:
        encode(words, _prompt(*turns))
    assert "\n" not in str(error.value)
    prompts = Prompts([_prompt(*turns)], 1)
    with pytest.raises(NashwardError, match=r"no prompt is left: .*1 with text that the chat template leaves out"):
        drop_refused(words, prompts)


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        ("{{ message.content | trim }}", [("user", "  Hi\n ")]),
        ("{{ message.content.split('</think>')[-1] }}", [("assistant", "<think>x</think>y"), ("user", "b")]),
        ("{{ message.content | replace('/no_think', '') }}", [("system", "Be brief. /no_think"), ("user", "b")]),
        ("{{ message.content | tojson }}", [("user", 'a "b"\n\u4f60')]),
        ("{{ message.content }}", [("user", ""), ("assistant", ""), ("user", "b")]),
    ],
)  # fmt: skip
def test_what_templates_may_do_to_a_text(body: str, turns: Any) -> None:
    words, prompt = _words(HEAD + body + TAIL), _prompt(*turns)
    rendered = words.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
    assert encode(words, prompt) == words(rendered, add_special_tokens=False)["input_ids"]


def test_a_template_that_puts_the_system_prompt_elsewhere() -> None:
    """As Mistral's: into the last turn of the user."""
    template = (
        "{{ bos_token }}{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}{{ m.content }}"
        "{% endfor %}<|assistant|>"
    )
    words = _words(template)
    assert words.decode(encode(words, _prompt(*TALK))).endswith("<|user|>Be brief.\n\nAnd a tree?<|assistant|>")


def test_reasons_are_counted_apart(tiny_folder: Path, tmp_path: Path) -> None:
    refuses = (
        "{% if messages[0].content == 'No' or messages[0].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    )
    leaves_out = "{% for message in messages if message.role != 'system' %}"
    template = refuses + tiny.TEMPLATE.replace("{% for message in messages %}", leaves_out)
    rows = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "No"}],
        [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "x" * 600}],
        [{"role": "user", "content": "Hi"}],
    ]
    play = short_run(tiny_folder, tmp_path / "run", prompts=[{"messages": r} for r in rows], chat_template=template)
    assert str(play.check()) == (
        "5 prompts read, 1 kept, 4 dropped (1 longer than 512 tokens, 2 refused by the chat template, "
        "1 with text that the chat template leaves out)"
    )
    words = _words(template)
    found = prompt_ids(words, [_prompt(("user", "No")), _prompt(("user", "Hi"))])
    assert isinstance(found[0], RefusedPromptError)
    assert found[1] == encode(words, _prompt(("user", "Hi")))


def test_a_prompt_without_a_turn_is_refused() -> None:
    with pytest.raises(RefusedPromptError, match="empty"):
        render(_words(tiny.TEMPLATE), [], add_generation_prompt=True)


def test_the_template_of_a_judge_is_held_to_the_same() -> None:
    plain, parts = (
        Chat(_words(template), name="judge", max_length=100)
        for template in (tiny.TEMPLATE, HEAD + PARTS["parts by type"] + TAIL)
    )
    assert parts.conversation("a", "b").text == plain.conversation("a", "b").text
    deaf = Chat(_words("{{ bos_token }}{{ messages[0].content }}"), name="judge", max_length=100)
    with pytest.raises(NashwardError, match=r"judge cannot read .*assistant turn"):
        deaf.conversation("a", "b")
