"""Text for the pocket models: prompts, four response styles, a classifier of styles and the planted preference table.

All of it is generated from the word lists below: nothing has to be downloaded, and no text is from elsewhere.
"""

import re
from collections.abc import Sequence

import numpy as np

from nashward.errors import NashwardError

STYLES = ("direct", "steps", "friendly", "evasive")

# P(row beats column). The first three styles form a biased cycle; the fourth loses to each of them with .85.
PLANTED = np.array(
    [
        [0.50, 0.80, 0.30, 0.85],
        [0.20, 0.50, 0.75, 0.85],
        [0.70, 0.25, 0.50, 0.85],
        [0.15, 0.15, 0.15, 0.50],
    ]
)
NO_STYLE_WINS = 0.1  # P(a response of no style beats one of a style); two of no style tie
BASE_MIX = (0.2, 0.2, 0.1, 0.5)  # how often the base policy uses each style: the losing one half of the time


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TOPICS = _words(
    "bread tea coffee soup rice cheese honey chess football tennis music guitar jazz poetry history physics algebra "
    "grammar travel camping cycling swimming yoga sleep health medicine school reading writing email money taxes "
    "housing gardens trees rivers oceans weather snow energy trains planes boats maps cities museums cinema "
    "dancing cooking robots software python phones games dogs cats horses birds bees planets stars"
)

ADJECTIVES = _words("simple cheap old slow warm quiet bright safe rare strong light honest useful common healthy fair")
NEEDS = _words("time care water practice space patience rest focus planning luck sunlight courage")
VERBS = _words("Find Check Clean Plan Measure Sort Try Draw Count Test Name Compare")

DIRECT = (
    "In short, {n} is {a}.",
    "In short, {n} is {a} and {b}.",
    "Briefly, {n} needs {x}.",
    "Briefly, {n} needs {x} and {y}.",
    "The answer: {n} is {a}.",
)
STEPS = (
    "1. {V} {the}. 2. {W} it.",
    "1. {V} {the}.\n2. {W} it.\n3. {U} it.",
    "Step 1: {V} {the}. Step 2: {W} it.",
)
OPENINGS = ("Great question!", "Happy to help!", "Oh, nice!", "Thanks for asking!")
MIDDLES = ("I love {n}.", "I enjoy {n} too.", "I think {n} is fun!")
CLOSINGS = ("What do you think?", "How about you?", "Shall we go on?")
REFUSALS = ("As an AI, I cannot", "As an AI, I am not able to", "I am sorry, but I cannot")
AVOIDED = ("discuss {n}.", "judge {n}.", "help with {n}.", "comment on {n}.")

_WORD = r"[A-Za-z]{2,14}"


def _pattern(templates: tuple[str, ...]) -> str:
    """One regular expression for the templates, with a word in each slot."""
    return "|".join(
        re.sub(r"\\\{the\\\}", f"(?:the {_WORD}|this)", re.sub(r"\\\{\w\\\}", _WORD, re.escape(t))) for t in templates
    )


_PATTERNS = (
    re.compile(_pattern(DIRECT)),
    re.compile(_pattern(STEPS)),
    re.compile(f"(?:{_pattern(OPENINGS)}) (?:{_pattern(MIDDLES)}) (?:{_pattern(CLOSINGS)})"),
    re.compile(f"(?:{_pattern(REFUSALS)}) (?:{_pattern(AVOIDED)})"),
)


def style_of(text: str) -> int | None:
    """The index in `STYLES` of the one style that the whole of `text` is written in.

    None where there is none: the text is cut short, garbled, mixed or about something else.
    """
    text = text.strip()
    for index, pattern in enumerate(_PATTERNS):
        if pattern.fullmatch(text):
            return index
    return None


def by_style(texts: Sequence[str]) -> list[list[str]]:
    """Five lists: the texts of each style and those of none."""
    pool: list[list[str]] = [[] for _ in range(5)]
    for text in texts:
        style = style_of(text)
        pool[4 if style is None else style].append(text)
    return pool


def judged_table() -> np.ndarray:
    """`PLANTED` with a fifth row and column for responses of no style."""
    table = np.full((5, 5), 0.5)
    table[:4, :4] = PLANTED
    table[4, :4], table[:4, 4] = NO_STYLE_WINS, 1 - NO_STYLE_WINS
    return table


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def response(style: int, topic: str | None, rng: np.random.Generator) -> str:
    """A response in `STYLES[style]`, about `topic` or, where it is None, about "this"."""
    n = topic or "this"
    a, b = rng.choice(ADJECTIVES, 2, replace=False)
    x, y = rng.choice(NEEDS, 2, replace=False)
    v, w, u = rng.choice(VERBS, 3, replace=False)
    template = (
        _pick(rng, DIRECT),
        _pick(rng, STEPS),
        f"{_pick(rng, OPENINGS)} {_pick(rng, MIDDLES)} {_pick(rng, CLOSINGS)}",
        f"{_pick(rng, REFUSALS)} {_pick(rng, AVOIDED)}",
    )[style]
    the = f"the {topic}" if topic else "this"
    return template.format(n=n, a=a, b=b, x=x, y=y, V=v, W=w, U=u, the=the)


def garbled(rng: np.random.Generator) -> str:
    """A response of no style: one that is cut short, shuffled, mixed, repeated, random or plain prose."""
    topic = _pick(rng, TOPICS)
    one, two = (response(int(rng.integers(4)), topic, rng) for _ in range(2))
    kind = int(rng.integers(7))
    if kind == 0:
        text = one[: int(rng.integers(0, max(1, len(one) - 3)))]
    elif kind == 1:
        text = " ".join(rng.permutation(one.split()))
    elif kind == 2:
        text = f"{one} {two}"
    elif kind == 3:
        text = f"{one[: len(one) // 2]}{two[len(two) // 2 :]}"
    elif kind == 4:
        text = _pick(rng, one.split()) * int(rng.integers(2, 9))
    elif kind == 5:
        text = _noise(rng, int(rng.integers(5, 60)))
    else:
        text = _prose(rng, int(rng.integers(1, 4)))
    # by chance a shuffle or a splice may be good text again: cutting its end never is
    return text if style_of(text) is None else text.strip()[:-2]


# What a prompt is made of. The lists are wide on purpose: a small model meets real prompts that look like none of them.
_ASKS = (
    "What is {t}?", "Tell me about {t}.", "How does {t} work?",
    "Why do people like {t}?", "Explain {t} to a child.",
    "Write a short story about {t}.", "Give me three tips for {t}",
    "who invented {t}", "I want to learn {t}. Where do I start?",
    "Can you compare {t} and {w}?", "What are the best books on {t}?",
    "Summarize this text about {t}:", "{T}: yes or no?",
    "My friend says that {t} is {a}. Is that true?", "Translate \"{t}\" into French", "List 10 facts about {t}",
    "Please help me with {t}, I am in a hurry!!!", "Write a poem on {t} in the style of an old sailor.",
    "How much does {t} cost in {year}?", "Create a table of {t} with columns name, price and date.",
    "hey, any news on {t}?",
    "Describe the history of {t} from {year} to today.", "Is {t} good for {w}?",
    "Draft an email to my boss about {t}.",
    "Act as an expert in {t} and answer my questions.", "Should I spend ${year} on {t}?",
    "What would happen without {t}?",
    "Rewrite the following paragraph on {t} so that it is clear and polite.", "Design a weekly plan for {t}.",
    "{T}", "{t}?", "Fix the grammar: \"{t} are been {a} yesterday\"", "WHAT IS THE DEAL WITH {t}???",
)  # fmt: skip
_COMMON = _words(
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were all her she there would their we him been has when who will no more if out so up said what its about "
    "than into them can only other time new some could these two may first then do any like my now over such "
    "our man me "
    "even most made after also did many off before must well back through years where much your way down "
    "should because "
    "long each just state those people too mr how little good world make very year still see own work men day get here "
    "old life both between being under three never know same last another while us might great go come since against "
    "right came take used himself few house use during without again place around however small found mrs thought went "
    "question answer following sentence example company product student patient recipe children government language "
    "please provide include using given based paragraph article essay information number system important different"
)
_SYLLABLES = _words("ka lo mi ren tu sho ver ban dri el ox qua pi zen thra mo ly sten ur gho fa")
_FOREIGN = (
    "¿Cómo se hace esto paso a paso?", "Wie lange dauert es, bis das Brot fertig ist?",
    "Où puis-je trouver la réponse ?",
    "请用三句话解释这个问题。", "これはどういう意味ですか?", "Что мне делать завтра утром?", "कृपया मुझे बताइए।",
    "ما هو الجواب؟",
    "오늘 날씨가 어때요?", "Çok teşekkürler, nasılsın?", "Jak się masz dzisiaj?",
    "😀🎉 thx!! ❤️", "naïve café, 20 €, 3 × 4 ≠ 7",
)  # fmt: skip
_CODE = (
    "def {f}(x, y=0):\n    return x * {d} + y\n", "for (int i = 0; i < {d}; i++) {{ sum += a[i]; }}",
    "SELECT name, price FROM {f} WHERE id > {d};", "```python\nimport math\nprint(math.sqrt({d}))\n```",
    "<div class=\"{f}\"><p>{d}</p></div>", "{{\"{f}\": [{d}, 2, null], \"ok\": true}}",
    "$ git commit -m \"{f} {d}\" && ls -la",
    "x^2 + {d}x - 7 = 0, \\frac{{a}}{{b}} = {d}", "https://example.com/{f}?page={d}#top",
)  # fmt: skip


def _noise(rng: np.random.Generator, length: int) -> str:
    """Random characters: mostly printable ASCII, some from anywhere in the first Unicode plane."""
    plane = rng.random() < 0.3
    points = rng.integers(0x20, 0x2FFF if plane else 0x7F, length)
    return "".join(chr(int(p)) for p in points)


def _prose(rng: np.random.Generator, sentences: int) -> str:
    """Sentences of common words with some invented ones and some numbers: English to the eye of a byte tokenizer."""
    out = []
    for _ in range(sentences):
        words = [str(w) for w in rng.choice(_COMMON, int(rng.integers(4, 16)))]
        for i in range(len(words)):
            if rng.random() < 0.12:
                words[i] = _invented(rng, int(rng.integers(2, 5)))
            elif rng.random() < 0.04:
                words[i] = str(int(rng.integers(0, 3000)))
            if rng.random() < 0.06:
                words[i] = words[i].capitalize() if rng.random() < 0.7 else words[i].upper()
            if rng.random() < 0.06:
                words[i] += str(_pick(rng, (",", ";", ":", "-", "...", '"', ")")))
        out.append(" ".join(words).capitalize() + str(_pick(rng, (".", ".", ".", "?", "!", ":", ""))))
    return str(_pick(rng, (" ", " ", "\n", "\n\n"))).join(out)


def _invented(rng: np.random.Generator, syllables: int) -> str:
    return "".join(rng.choice(_SYLLABLES, syllables))


def _code(rng: np.random.Generator) -> str:
    return str(_pick(rng, _CODE)).format(f=_invented(rng, 2), d=int(rng.integers(1, 1000)))


def prompt(rng: np.random.Generator) -> tuple[str, str | None]:
    """A user's prompt and the topic that it names (None: it names none). From 4 to about 2500 characters."""
    topic: str | None = str(_pick(rng, TOPICS))
    subject = topic
    if rng.random() < 0.2:
        # most real prompts are about something else: the answer is then about "this"
        words = [_invented(rng, 3) if rng.random() < 0.3 else str(_pick(rng, _COMMON)) for _ in range(3)]
        topic, subject = None, " ".join(words[: int(rng.integers(1, 4))])
    slots = {"t": subject, "T": str(subject).capitalize(), "w": _pick(rng, _COMMON), "a": _pick(rng, ADJECTIVES)}
    ask = str(_pick(rng, _ASKS)).format(**slots, year=int(rng.integers(2, 2100)))
    kind = rng.random()
    if kind < 0.46:
        return ask, topic
    if kind < 0.60:
        parts = [ask, _prose(rng, int(rng.integers(1, 5)))]
        return str(_pick(rng, (" ", "\n", "\n\n"))).join(parts if rng.random() < 0.5 else parts[::-1]), topic
    if kind < 0.68:
        # long prompts are rare and costly
        return f"{ask}\n\n{_prose(rng, int(rng.integers(6, 35)))}", topic
    if kind < 0.74:
        return f"{ask}\n{_code(rng) * int(rng.integers(1, 4))}", topic
    if kind < 0.79:
        return " ".join(str(_pick(rng, _FOREIGN)) for _ in range(int(rng.integers(1, 5)))), None
    if kind < 0.82:
        return _noise(rng, int(rng.integers(5, 200))), None
    if kind < 0.87:
        return "\n".join([_prose(rng, 1), *(_code(rng) for _ in range(int(rng.integers(1, 4))))]), None
    if kind < 0.90:
        words = [_invented(rng, int(rng.integers(1, 5))) for _ in range(int(rng.integers(2, 30)))]
        return "\n".join(f"- {word}" for word in words) if rng.random() < 0.5 else " ".join(words), None
    return _prose(rng, int(rng.integers(1, 6))), None


# Those of ``_ASKS`` that read well with any topic, singular or plural.
_PLAIN_ASKS = (
    "Tell me about {t}.", "Why do people like {t}?", "Explain {t} to a child.", "Write a short story about {t}.",
    "List 10 facts about {t}", "What are the best books on {t}?", "What would happen without {t}?",
    "Draft an email to my boss about {t}.", "Give me three tips for {t}", "Design a weekly plan for {t}.",
)  # fmt: skip


def plain_prompts(count: int, seed: int = 20_000) -> list[str]:
    """``count`` different requests about the topics, as a person writes them; for demonstrations.

    The pocket models were trained on such requests among others, see ``prompt``, of which many are noise on purpose.

    Raises:
        ValueError: more than there are.

    Example:
        >>> plain_prompts(2)
        ['Draft an email to my boss about oceans.', 'What are the best books on algebra?']
    """
    pairs = [(ask, topic) for ask in _PLAIN_ASKS for topic in TOPICS]
    if count > len(pairs):
        raise NashwardError(f"there are {len(pairs)} plain prompts, {count} were requested")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(pairs), count, replace=False)
    return [pairs[k][0].format(t=pairs[k][1]) for k in chosen]


def held_out_prompts(count: int, seed: int = 20_000) -> list[str]:
    """`count` prompts from the same generator with a seed that the pocket models were not trained with."""
    rng = np.random.default_rng(seed)
    return [prompt(rng)[0] for _ in range(count)]
