"""The pictures of docs/people.md, from the page in a headless Chromium: ``python -m docs.people_pictures``."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from tests.browser import opened

from nashward.llm.config import Asking
from nashward.llm.people import Asker, CastVote, VoteStore
from nashward.llm.people.server import VotingPage, serving

HERE = Path(__file__).parent
PROMPT = "How do I boil an egg so that the yolk stays soft?"
SHORT = (
    "Bring water to the boil, lower the egg in gently and wait **six minutes**. Then cool it in cold water.\n\n"
    "- a large egg: seven minutes\n- from the fridge: one more\n\n<b>HTML of a model is text.</b>"
)
LONG = "\n".join(
    f"{k}. {line}"
    for k, line in enumerate(
        ["Take an egg out of the fridge.", "Fill a pot with water, so that it covers the egg.", "Boil it.",
         "Turn the heat down a little.", "Lower the egg in with a spoon.", "Look at the clock.", "Wait.", "Wait more.",
         "Fill a bowl with cold water.", "Take the egg out with the spoon.", "Put it into the bowl.", "Dry the egg.",
         "Put it into a cup.", "Open it.", "Add salt.", "Taste it.", "Add more salt.", "Eat it.", "Clean the pot."], 1
    )
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as home, VoteStore(home + "/people") as store:
        store.add_responses(PROMPT, [SHORT, LONG])
        earlier = [CastVote(f"Prompt {k}", "x", "y", "a", "Bob", id=str(k)) for k in range(13)]
        store.add_votes(earlier)
        store.open_question("Ann", 1, "random", "b")
        store.set_target(40, 0)
        rubric = "Prefer what a cook could follow.\n\n**Short is not worse.**"
        page = VotingPage(store, Asker(store, Asking(repeats=0.0, random_share=0.0, seed=1)), rubric)
        with serving(page) as server, opened(Path(home) / "profile") as browser:
            browser.window(1000, 560)
            browser.go(server.address)
            browser.wait("form")
            browser.type("Ann")
            browser.press("Enter")
            browser.wait("!busy && question !== null")
            for name, width, height, dark in (("people", 1000, 560, False), ("people-phone", 390, 760, True)):
                browser.window(width, height, dark)
                file = Path(home) / "picture.png"
                browser.screenshot(file)
                image = Image.open(io.BytesIO(file.read_bytes())).convert("RGB").quantize(32)
                image.save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
