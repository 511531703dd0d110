"""One file a command, and the table of them, which ``nashward --help`` shows without importing one."""

from __future__ import annotations

from ..command import Entry

COMMANDS = {
    "demo": Entry("solve a small zoo, then align a pocket model; writes report.html", "tables.demo:COMMAND"),
    "solve": Entry("the Nash equilibrium of a game, and how solvers get there", "tables.solve:COMMAND"),
    "zoo": Entry("the named games, what is known of each, and a page of pictures of them", "tables.zoo:COMMAND"),
    "theory": Entry("the theorems held against the solvers: bound, measured, ratio, verdict", "tables.theory:COMMAND"),
    "align": Entry("self-play of a language model under a preference oracle", "runs.align:ALIGN"),
    "sample": Entry("the first stage of align alone: draw the responses of the next step", "runs.align:SAMPLE"),
    "judge": Entry("the second stage of align alone: the oracle's win probabilities", "runs.align:JUDGE"),
    "train": Entry("the third stage of align alone: fit the adapter of the next step", "runs.align:TRAIN"),
    "plan": Entry(
        "will it fit: the peak memory of each phase on a card or a CPU, before anything is loaded", "runs.plan:COMMAND"
    ),
    "config": Entry(
        "the settings of align as a TOML file, each with where it is from; runs nothing", "runs.config:COMMAND"
    ),
    "status": Entry("where a run stands and what is left", "runs.status:COMMAND"),
    "report": Entry(
        "write report.html of a run, finished or not; of several runs, one page that compares them",
        "runs.report:COMMAND",
    ),
    "fit-oracle": Entry(
        "a preference oracle of your own, from people's or a judge's verdicts on pairs", "judges.fit_oracle:COMMAND"
    ),
    "vote": Entry("a page where people say which of two responses is better", "judges.vote:COMMAND"),
    "diagnose": Entry(
        "what is wrong with a judge: bias, noise, accuracy, and what they cost", "judges.diagnose:COMMAND"
    ),
    "evaluate": Entry(
        "the iterates of a run against each other: their game, lengths, and what was given up for the oracle",
        "evaluation.evaluate:COMMAND",
    ),
    "leaderboard": Entry(
        "models that responded to the same prompts, or fought battles: the Nash among them, and every other ranking",
        "evaluation.leaderboard:COMMAND",
    ),
    "exploit": Entry("who beats it: a lower bound on the duality gap of a run's policy", "evaluation.exploit:COMMAND"),
    "frontier": Entry(
        "what a win rate under one objective costs under another, for each policy of a run",
        "evaluation.frontier:COMMAND",
    ),
    "best-of-n": Entry("of n responses to each prompt the one that an oracle prefers", "evaluation.best_of_n:COMMAND"),
    "answer": Entry("answer prompts with a policy: a base, an adapter or a mixture of them", "delivery.answer:COMMAND"),
    "mix": Entry(
        "a mixture of adapters of one base, or one adapter with their averaged weights", "delivery.mix:COMMAND"
    ),
    "export": Entry(
        "a policy of a run for other programs, proved by replaying stored responses; its preference data, its card",
        "delivery.export:COMMAND",
    ),
    "benchmark": Entry(
        "public benchmarks, before beside after: the Open LLM Leaderboard's tasks, MT-Bench, Arena-Hard",
        "delivery.benchmark:COMMAND",
    ),
}
