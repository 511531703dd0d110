"""Best of n: the rules on exact tables, and what they ask of an oracle."""

from itertools import permutations

import numpy as np
import pytest

from nashward.llm.oracles import Function, PreferenceOracle, RewardFunction
from nashward.llm.oracles.best_of_n import Rule, select_best, table_winner
from nashward.llm.pocket.styles import PLANTED

RULES: list[Rule] = ["mean-win-rate", "copeland", "knock-out"]
NAN = np.nan


def table(upper):
    """The table of win probabilities with this upper triangle."""
    P = np.triu(np.asarray(upper, dtype=float), 1)
    return P + np.tril(1 - P.T, -1) + np.eye(len(P)) / 2


class Tables(PreferenceOracle):
    """Win probabilities from one table a prompt; a candidate is the text of its index. It keeps what it was asked."""

    name = "tables"
    symmetric = True

    def __init__(self, tables):
        self.tables = tables
        self.asked, self.calls = [], 0

    def raw_logits(self, prompts, candidates, pairs):
        self.calls += 1
        found = []
        for prompt, texts, own in zip(prompts, candidates, pairs, strict=True):
            places = [(int(texts[i]), int(texts[j])) for i, j in own]
            self.asked += [(prompt, *sorted(place)) for place in places]
            p = np.array([self.tables[prompt][place] for place in places])
            found.append(np.log(p) - np.log1p(-p))
        return found


def names(n):
    return [str(i) for i in range(n)]


def random_table(n, seed):
    return table(np.random.default_rng(seed).uniform(0.02, 0.98, (n, n)))


def test_a_cycle_with_a_condorcet_loser():
    # direct beats steps, steps beat friendly, friendly beats direct; all beat evasive
    assert table_winner(PLANTED, "mean-win-rate") == 0  # .65 against .60 and .60
    assert table_winner(PLANTED, "copeland") == 0  # three have beaten two: the mean win rate decides
    assert table_winner(PLANTED, "knock-out") == 2  # direct beats steps, friendly beats evasive, friendly beats direct
    for order in permutations(range(4)):
        P = PLANTED[np.ix_(order, order)]
        assert order[table_winner(P, "mean-win-rate")] == order[table_winner(P, "copeland")] == 0
        assert order[table_winner(P, "knock-out")] != 3
    assert {order[table_winner(PLANTED[np.ix_(order, order)], "knock-out")] for order in permutations(range(4))} == {
        0,
        1,
        2,
    }


def test_the_three_rules_differ():
    P = table(
        [[0, 0.45, 0.99, 0.45, 0.99], [0, 0, 0.45, 0.60, 0.55], [0, 0, 0, 0.45, 0.60], [0, 0, 0, 0, 0.55], [0] * 5]
    )
    assert table_winner(P, "mean-win-rate") == 0  # .72: it beats two, but surely
    assert table_winner(P, "copeland") == 1  # it beats three, as 3 does, and has .54 against .51
    # 2 beats 1 and, later, 3 and 4 meet: 3 beats 4, 3 beats 2; 0 had a bye and loses to 3
    order = [1, 2, 3, 4, 0]
    assert [order[table_winner(P[np.ix_(order, order)], rule)] for rule in RULES] == [0, 1, 3]


@pytest.mark.parametrize("rule", RULES)
def test_a_tie_goes_to_the_earliest(rule):
    assert table_winner(np.full((5, 5), 0.5), rule) == 0
    assert table_winner(np.array([[0.5]]), rule) == 0
    assert table_winner(table([[0, 0.4, 0.4], [0, 0, 0.5], [0, 0, 0]]), rule) == 1


def test_equal_win_rates_are_equal_in_whatever_order_they_are_added():
    rng = np.random.default_rng(0)
    for _ in range(50):
        P = np.full((7, 7), 0.5)
        for step, p in zip((1, 2, 3), rng.uniform(0, 1, 3), strict=True):
            for i in range(7):
                P[i, (i + step) % 7], P[(i + step) % 7, i] = p, 1 - p
        assert table_winner(P, "mean-win-rate") == table_winner(P, "copeland") == 0


def test_copeland_counts_a_tie_as_a_half():
    P = table([[0, 0.5, 0.5, 0.9], [0, 0, 0.4, 0.6], [0, 0, 0, 0.6], [0, 0, 0, 0]])
    assert table_winner(P, "copeland") == 2  # 2.5 against 2.0, 1.5 and 0
    assert table_winner(P, "mean-win-rate") == 0


@pytest.mark.parametrize("rule", ["copeland", "knock-out"])
def test_a_condorcet_winner_is_found(rule):
    for seed in range(40):
        n = 3 + seed % 6
        P = random_table(n, seed)
        best = seed % n
        P[best], P[:, best] = 0.51, 0.49
        assert table_winner(P, rule) == best


def test_a_missing_judgement_is_no_coin_flip():
    P = np.array([[0.5, NAN, 0.6], [NAN, 0.5, 0.7], [0.4, 0.3, 0.5]])
    assert table_winner(P, "mean-win-rate") == 1  # .7 alone, not (.7 + .5) / 2
    assert table_winner(P, "copeland") == 1  # one each: the mean win rate decides
    assert table_winner(P, "knock-out") == 0  # the earlier of 0 and 1 goes on
    order = [1, 0, 2]
    assert order[table_winner(P[np.ix_(order, order)], "knock-out")] == 1


@pytest.mark.parametrize("rule", RULES)
def test_a_candidate_without_a_judgement_is_last(rule):
    for n in (3, 4, 5):
        for silent in range(n):
            P = random_table(n, n)
            P[silent], P[:, silent] = NAN, NAN
            others = [i for i in range(n) if i != silent]
            found = table_winner(P, rule)
            assert found != silent
            if rule != "knock-out":  # where the others meet each other as if it were not there
                assert found == others[table_winner(P[np.ix_(others, others)], rule)]


@pytest.mark.parametrize("rule", RULES)
def test_all_missing_is_an_error(rule):
    with pytest.raises(ValueError, match="the 3 candidates are missing"):
        table_winner(np.where(np.eye(3, dtype=bool), 0.5, NAN), rule)
    silent = Function(lambda prompt, a, b: None if prompt == "hard" else 0.9 if a == "good" else 0.2, name="silent")
    with pytest.raises(ValueError, match="silent gave no judgement for prompt 1, 'hard'"):
        select_best(silent, ["easy", "hard"], [["bad", "good"]] * 2, rule)
    assert select_best(silent, ["easy", "hard"], [["bad", "good"], ["alone"]], rule) == [1, 0]


@pytest.mark.parametrize("rule", RULES)
def test_missing_judgements_are_counted(rule, caplog):
    P = random_table(3, 0)
    P[0, 1] = P[1, 0] = NAN
    select_best(Tables({"p": P}), ["p"], [names(3)], rule)
    (warning,) = [record.getMessage() for record in caplog.records if record.name.endswith("best_of_n")]
    assert f"1 of {2 if rule == 'knock-out' else 3} pairs" in warning
    caplog.clear()
    select_best(Tables({"p": random_table(3, 0)}), ["p"], [names(3)], rule)
    assert not caplog.records


def test_in_a_knock_out_who_was_judged_goes_before_who_never_was():
    P = random_table(4, 0)
    P[0], P[:, 0] = NAN, NAN
    assert select_best(Tables({"p": P}), ["p"], [names(4)], "knock-out") == [2 if P[2, 3] > 0.5 else 3]


@pytest.mark.parametrize("rule", RULES)
def test_on_an_oracle_as_on_its_tables(rule):
    tables = {f"p{n}": random_table(n, 10 + n) for n in range(1, 9)}
    found = select_best(Tables(tables), list(tables), [names(len(P)) for P in tables.values()], rule)
    assert found == [table_winner(P, rule) for P in tables.values()]


def looked_at(tables):
    """Judges whose promise to be symmetric was looked at, which takes another pair."""
    oracle = Tables({**tables, "look": random_table(2, 0)})
    select_best(oracle, ["look"], [names(2)])
    assert oracle.asked == [("look", 0, 1)] * 2
    oracle.asked, oracle.calls = [], 0
    return oracle


def test_a_knock_out_asks_n_minus_one_comparisons_a_round_at_once():
    sizes = {"a": 1, "b": 2, "c": 5, "d": 8}
    oracle = looked_at({prompt: random_table(n, n) for prompt, n in sizes.items()})
    select_best(oracle, list(sizes), [names(n) for n in sizes.values()], "knock-out")
    assert [sum(asked[0] == prompt for asked in oracle.asked) for prompt in sizes] == [0, 1, 4, 7]
    assert len(set(oracle.asked)) == len(oracle.asked)
    assert oracle.calls == 3  # rounds of the largest
    assert {(i, j) for prompt, i, j in oracle.asked if prompt == "c"} >= {(0, 1), (2, 3)}

    full = looked_at(oracle.tables)
    select_best(full, list(sizes), [names(n) for n in sizes.values()])
    assert [sum(asked[0] == prompt for asked in full.asked) for prompt in sizes] == [0, 1, 10, 28]
    assert full.calls == 1


def test_the_three_rules_agree_with_argmax_on_a_transitive_oracle():
    rng = np.random.default_rng(3)
    for _ in range(20):
        rewards = {str(i): float(r) for i, r in enumerate(rng.normal(0.0, 2.0, rng.integers(2, 10)))}
        rewards["twin"] = max(rewards.values())  # a tie with the best of the others
        texts = [str(text) for text in rng.permutation(list(rewards))]
        oracle = RewardFunction(lambda completions, own=rewards: [own[text] for text in completions])
        best = int(np.argmax([rewards[text] for text in texts]))
        assert [select_best(oracle, ["p"], [texts], rule) for rule in RULES] == [[best]] * 3


def test_an_oracle_that_favours_the_first_shown_is_asked_both_ways():
    biased = Function(lambda prompt, a, b: 0.9 if len(a) >= len(b) else 0.6)
    assert [select_best(biased, ["p"], [["a", "bbb", "cc"]], rule) for rule in RULES] == [[1]] * 3


@pytest.mark.parametrize("rule", RULES)
def test_judgements_come_from_the_cache(tmp_path, rule):
    oracle = Tables({"p": random_table(5, 0)})
    oracle.fingerprint = "tables 0"
    first = select_best(oracle, ["p"], [names(5)], rule, cache=tmp_path / "judgements.sqlite")
    calls = oracle.calls
    assert select_best(oracle, ["p"], [names(5)], rule, cache=tmp_path / "judgements.sqlite") == first
    assert oracle.calls == calls > 0


def test_a_knock_out_needs_no_table_of_its_own():
    oracle = Tables({"p": PLANTED})
    oracle.aggregation = "sppo-official"  # which is not defined against opponents
    assert select_best(oracle, ["p"], [names(4)], "knock-out") == [2]


def test_against_opponents_the_largest_mean_win_rate_is_the_best():
    P = random_table(6, 1)
    oracle = Tables({"p": P})
    for against in ([3], [2, 4, 5], [0, 0, 1]):
        (found,) = select_best(oracle, ["p"], [names(6)], opponents=[[str(j) for j in against]])
        assert found == int(np.argmax(P[:, against].mean(1)))
    assert select_best(Tables({"p": np.full((3, 3), 0.5)}), ["p"], [names(3)], opponents=[["1"]]) == [0]
    with pytest.raises(ValueError, match="against opponents the rule is mean-win-rate, got 'copeland'"):
        select_best(oracle, ["p"], [names(6)], "copeland", opponents=[["1"]])
    silent = Function(lambda prompt, a, b: None, name="silent")
    with pytest.raises(ValueError, match="silent gave no judgement for prompt 0"):
        select_best(silent, ["p"], [["x", "y"]], opponents=[["z"]])


def test_errors_name_what_was_given():
    with pytest.raises(ValueError, match="rule is 'best'; expected one of mean-win-rate, copeland, knock-out"):
        table_winner(PLANTED, "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rule is 'best'"):
        select_best(Tables({}), [], [], "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"P has shape \(4, 3\); expected \[n, n\]"):
        table_winner(PLANTED[:, :3])
    with pytest.raises(ValueError, match=r"P has shape \(0, 0\)"):
        table_winner(np.zeros((0, 0)))
    with pytest.raises(ValueError, match=r"P holds -2; expected win probabilities"):
        table_winner(np.array([[0.5, 2.0], [-2.0, 0.5]]).T)
    for rule in RULES:
        with pytest.raises(ValueError, match="2 prompts but 1 list of candidates"):
            select_best(Tables({}), ["p", "q"], [["0"]], rule)
        with pytest.raises(ValueError, match="candidates of prompt 0: expected a list"):
            select_best(Tables({}), ["p"], ["01"], rule)
