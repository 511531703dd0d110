"""What is said of a name that is no folder: whether the hub has no such model, keeps it, or cannot be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from nashward.llm.policy.local import hub


def _error(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "no")
    return error


@pytest.mark.parametrize(
    ("kind", "said", "silent"),
    [
        (RepositoryNotFoundError, "the hub has no model oracles/mine", "hf download"),
        (GatedRepoError, "accepted its terms", "hf download"),
        (LocalEntryNotFoundError, "hf download oracles/mine", "hf auth login"),
    ],
)
def test_each_reason_is_said_beside_the_folder_that_is_not_there(
    kind: type[Exception], said: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(name: str, **_: Any) -> str:
        asked.append(name)
        raise _error(kind)

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError) as caught:
        hub.check_on_hub("oracles/mine", "config.json")
    assert "there is no folder oracles/mine here" in str(caught.value)
    assert said in str(caught.value)
    assert silent not in str(caught.value)
    assert asked == ["oracles/mine"]  # once


def test_what_is_in_the_cache_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    monkeypatch.setattr(hub, "snapshot_download", None)
    hub.check_on_hub("owner/name", "config.json")


def test_what_is_no_id_of_the_hub_is_refused_without_asking_it() -> None:
    for name in ("my model", "owner--name", "x" * 97):
        with pytest.raises(FileNotFoundError, match="owner/name") as caught:
            hub.check_on_hub(name, "config.json")
        assert f"there is no folder {name} here" in str(caught.value)
        assert "hf auth login" not in str(caught.value)


def test_a_model_without_the_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"owner/name of the hub has no config\.json"):
        hub.check_on_hub("owner/name", "config.json")


def test_a_file_that_is_not_there_is_no_name_on_the_hub() -> None:
    with pytest.raises(FileNotFoundError, match=r"no file mixture\.json") as caught:
        hub.fetch("mixture.json", "adapter_config.json", "adapter")
    assert "hf download" not in str(caught.value)
