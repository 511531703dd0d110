"""A serving engine behind a server as the source of responses: token ids from there, log-probabilities from here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from nashward.counted import counted
from nashward.errors import EndpointError, NashwardError
from nashward.shortened import quoted

from ...clients.client import Client
from ...config.endpoint import Endpoint
from ...config.sampling import Sampling
from ...data.rollouts import Response
from ...store.fingerprints import fingerprint
from ..handles import Adapter, Sampled
from ..logprobs import sequence_logprobs
from ..model import LanguageModel
from .child import ChildServer

OTHER_MODEL = 1.0  # nats per token, mean: more than rounding makes of the same model
WARNED = 0.05  # nats per token, mean: 4 bits here and 16 there differ by more
SCORED = 8  # responses that are scored at once

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineSource:
    """Responses that a serving engine draws: a server that speaks OpenAI's protocol of completions with token ids.

    The engine gets a prompt's token ids and returns those that it drew. The adapter is loaded into it by its path,
    under a name made from its content, which the server has to list before anything is drawn. Each response is scored
    by our own network as well: the mean of |log pi_engine(y) - log pi(y)| / |y| over responses is reported, warned
    about above 0.05 nats, and refused above 1: then the engine serves another model. What is fitted are our own
    log-probabilities.

    Args:
        server: the URL of the server, up to its /v1; or one of our own, which runs from ``start`` to ``close``.
        settings: those of the sampler.
        endpoint: how the server is called.
        served: the name of the base on the server; None: the only one that it has.
        adapter: the adapter to draw from; see ``of``.

    Raises:
        EndpointError: from drawing: the server does not answer, cannot load the adapter, or serves another model.

    Example:
        >>> EngineSource("http://127.0.0.1:8000/v1", Sampling(max_new_tokens=8)).enumerates
        False
    """

    server: str | ChildServer
    settings: Sampling = field(default_factory=Sampling)
    endpoint: Endpoint = field(default_factory=Endpoint)
    served: str | None = None
    adapter: Adapter | None = None
    enumerates = False

    def of(self, policy: Sampled) -> EngineSource:
        """The same engine, drawing from a policy.

        Raises:
            NashwardError: a token-level mixture, which no engine has.
        """
        if not isinstance(policy, Adapter):
            raise NashwardError(
                f"{policy.label} is a token-level mixture, which no engine draws: take mixtures = 'fitted'"
            )
        return replace(self, adapter=policy)

    def announce(self, prompts: int) -> None:
        """Log what is about to be sent to somebody else's server."""
        if not isinstance(self.server, ChildServer):
            self._client().announce(f"the token ids of {counted(prompts, 'prompt')}, and the path of the adapter")

    def start(self) -> None:
        """Start a server of our own that does not run."""
        if isinstance(self.server, ChildServer):
            self.server.start()

    def close(self) -> None:
        """Stop a server of our own when nothing more is drawn and its memory is needed for something else."""
        if isinstance(self.server, ChildServer):
            self.server.stop()

    def _client(self) -> Client:
        if isinstance(self.server, ChildServer):
            return self.server.client(self.endpoint)
        return Client(self.server, self.endpoint)

    def draw(
        self, model: LanguageModel, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]]
    ) -> list[list[Response]]:
        """The responses to each prompt's token ids, one per seed, each of weight 1 / K."""
        client = self._client()
        name = self._loaded(client)
        jobs = [(ids, seed) for ids, row in zip(prompts, seeds, strict=True) for seed in row]
        drawn: list[Any] = [None] * len(jobs)

        def post(job: tuple[Sequence[int], int]) -> Any:
            return client.post("/completions", self._body(model, name, *job))

        for k, answer in client.as_completed(post, jobs):
            drawn[k] = self._read(model, answer, client.server.place)
        self._compare(model, [ids for ids, _ in jobs], drawn, client.server.place)
        responses = iter(response for response, _ in drawn)
        return [[replace(next(responses), weight=1 / len(row)) for _ in row] for row in seeds]

    def _loaded(self, client: Client) -> str:
        """The name of the adapter on the server, which has it."""
        place, names = client.server.place, _names(client)
        base = self.served or (names[0] if len(names) == 1 else None)
        others = [one for one in names if not one.startswith("nashward-")]
        if self.served is None and base is None:
            if len(others) != 1:
                raise EndpointError(
                    f"{place} serves {', '.join(names) or 'nothing'}: name the base with --engine-model"
                )
            base = others[0]
        if base not in names:
            raise EndpointError(f"{place} serves no {base}; it serves {', '.join(names)}")
        if self.adapter is None:
            return str(base)
        folder = Path(self.adapter.folder).resolve()
        name = f"nashward-{fingerprint(folder)}"
        if name not in names:
            try:
                client.post("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, text=True)
            except EndpointError as error:
                if name in _names(client):
                    return name  # another process has loaded it meanwhile, which a server may refuse to do twice
                raise EndpointError(
                    f"{place} does not load the adapter {folder}: vLLM takes adapters when it is started with "
                    "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and the path has to be visible to it "
                    f"({error})",
                    error.status,
                ) from None
            if name not in _names(client):
                raise EndpointError(
                    f"{place} took the adapter {folder} and does not list it: it would answer as the base"
                )
        return name

    def _body(self, model: LanguageModel, name: str, ids: Sequence[int], seed: int) -> dict[str, Any]:
        settings = self.settings
        return {
            "model": name,
            "prompt": list(ids),
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": seed & 0x7FFFFFFF,
            "logprobs": 1,
            "stop_token_ids": model.stop_ids,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }

    def _read(self, model: LanguageModel, answer: Any, place: str) -> tuple[Response, float | None]:
        """A response, and its log-probability by the engine where it is given."""
        try:
            choice = answer["choices"][0]
            text, ids, stopped = choice["text"], choice.get("token_ids"), choice.get("finish_reason") == "stop"
        except (LookupError, TypeError, AttributeError):
            raise EndpointError(
                f"{place} answers with something other than a completion; is it the URL of its /v1?"
            ) from None
        logprobs = choice.get("logprobs") if isinstance(choice.get("logprobs"), dict) else {}
        if ids is None:
            ids = self._encoded(model, text, logprobs.get("tokens"), place)
        rows = model.network.get_input_embeddings().weight.shape[0]
        if not isinstance(ids, list) or not all(isinstance(token, int) and 0 <= token < rows for token in ids):
            raise EndpointError(f"{place} gives token ids that {model.name} does not have: it serves another model")
        scores = logprobs.get("token_logprobs")
        if not isinstance(scores, list) or len(scores) != len(ids) or None in scores:
            scores = None
        score = None if scores is None else float(sum(scores))
        end = next((k for k, token in enumerate(ids) if token in model.stop_ids), None)
        if end is None and stopped:  # the engine keeps its stop token to itself
            stop = choice.get("stop_reason")
            stop = stop if isinstance(stop, int) else model.tokenizer.eos_token_id
            if stop not in model.stop_ids:
                raise EndpointError(f"{place} ended a response without saying by which token, of {model.stop_ids}")
            end, ids, score = len(ids), [*ids, stop], None
        if end is None:
            return Response(ids[: self.settings.max_new_tokens], False, model.decode(ids)), score
        if end + 1 != len(ids):
            raise EndpointError(f"{place} went on after a stop token: it serves another model, or another tokenizer")
        return Response(ids, True, model.decode(ids[:end])), score

    @staticmethod
    def _encoded(model: LanguageModel, text: str, tokens: Any, place: str) -> list[int]:
        """The ids of a text that comes without them, if its tokens or their number show that they are the same.

        Raises:
            EndpointError: they do not: what would be fitted is another response.
        """
        ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        same = isinstance(tokens, list) and len(tokens) == len(ids)
        if not same or model.tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise EndpointError(
                f"{place} gives text without token ids, and the text {quoted(text, 40)} does not encode to as many "
                "tokens as it was drawn in; take an engine that returns them (vLLM: return_token_ids)"
            )
        return ids

    def _compare(
        self, model: LanguageModel, prompts: Sequence[Sequence[int]], drawn: Sequence[tuple[Response, float | None]],
        place: str,
    ) -> None:  # fmt: skip
        """Measure how far the engine's log-probabilities are from our own."""
        scored = [
            (ids, r.ids, score) for ids, (r, score) in zip(prompts, drawn, strict=True) if score is not None and r.ids
        ]
        if not scored:
            logger.warning("%s gives no log-probabilities: whether it serves this policy cannot be seen", place)
            return
        differences = []
        for start in range(0, len(scored), SCORED):
            part = scored[start : start + SCORED]
            with torch.inference_mode():
                own = sequence_logprobs(model.network, [p for p, _, _ in part], [y for _, y, _ in part], model.pad_id)
            differences += [abs(score - mine) / len(y) for (_, y, score), mine in zip(part, own.tolist(), strict=True)]
        mean = sum(differences) / len(differences)
        model.on_event({"engine": place, "logprob_difference": mean, "largest": max(differences)})
        if mean > OTHER_MODEL:
            raise EndpointError(
                f"{place} serves another model: its log-probabilities are {mean:.2g} nats per token from those of "
                f"{model.name} with {'no adapter' if self.adapter is None else self.adapter.label}"
            )
        level = logging.WARNING if mean > WARNED else logging.INFO
        logger.log(level, "%s: log-probabilities %.2g nats per token from our own, which are used", place, mean)


def _names(client: Client) -> list[str]:
    """What the server serves."""
    answer = client.get("/models")
    try:
        return [str(model["id"]) for model in answer["data"]]
    except (LookupError, TypeError):
        raise EndpointError(f"{client.server.place} does not list its models; is it the URL of its /v1?") from None
