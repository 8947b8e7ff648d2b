"""Uploading an export, with the hub intercepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exported import Export

from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.exporting import hub

pytestmark = pytest.mark.timeout(360)  # what all tests share is made once, before the first of them


class Hub:
    """In the place of the hub: remembers what it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def __call__(self, **kwargs: Any) -> Hub:
        assert kwargs == {"library_name": "rairl_lightning"}
        return self

    def create_repo(self, name: str, **kwargs: Any) -> None:
        self.calls.append(("create", {"name": name, **kwargs}))
        if self.error is not None:
            raise self.error

    def upload_folder(self, **kwargs: Any) -> str:
        self.calls.append(("upload", kwargs))
        return "https://hub/commit/1"


def test_an_export_is_uploaded(
    export: Export, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    fake = Hub()
    monkeypatch.setattr(hub, "HfApi", fake)
    assert export(trained["interval"], "--merged", "--push_to_hub=somebody/reward") == 0
    (_, made), (_, sent) = fake.calls
    assert made == {"name": "somebody/reward", "private": True, "exist_ok": True}
    assert sent["repo_id"] == "somebody/reward" and sent["folder_path"] == tmp_path / "out"
    assert set(sent["allow_patterns"]) == {file.name for file in (tmp_path / "out").iterdir()}
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'folder = "somebody/reward"' in card and "\n# reward\n" in card
    assert "https://hub/commit/1" in capsys.readouterr().out


def test_what_cannot_be_uploaded(
    export: Export, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Hub(ConnectionError("no route"))
    monkeypatch.setattr(hub, "HfApi", fake)
    assert export(trained["interval"], "--push_to_hub=a/b/c") == ConfigError.exit_code
    assert "OWNER/NAME" in capsys.readouterr().err
    assert export(trained["interval"], "--push_to_hub=somebody/reward") == ConfigError.exit_code
    assert "stands on a folder of this machine" in capsys.readouterr().err and fake.calls == []
    assert export(trained["interval"], "--merged", "--push_to_hub=somebody/reward") == ModelError.exit_code
    err = capsys.readouterr().err
    assert "no route" in err and "hf auth login" in err and "it lies in" in err
