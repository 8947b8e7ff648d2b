"""What `--print_config` and `rairl completion` say."""

from __future__ import annotations

import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from rairl_lightning.cli import guarded, main
from rairl_lightning.cli_print import WIDTH, commented

NF4 = "--model.pair.backbone.quantisation"


def printed(config: Path, flag: str, capsys: pytest.CaptureFixture[str], *others: str) -> str:
    from rairl_lightning.cli_parser import ROOMS, PlannedCLI
    from rairl_lightning.data.datamodule import DemonstrationDataModule

    for room in ROOMS:
        import_module(f"rairl_lightning.{room}")
    assert guarded(lambda: PlannedCLI(DemonstrationDataModule, ["fit", f"--config={config}", *others, flag])) == 0
    return capsys.readouterr().out


def test_the_configuration_is_printed_short_with_comments_and_is_the_whole(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = root / "configs" / "quickstart.yaml"
    short, whole = printed(shipped, "--print_config", capsys), printed(shipped, "--print_config=full", capsys)
    lines = short.splitlines()
    assert len(lines) < len(whole.splitlines()) / 2 and max(map(len, lines)) <= WIDTH
    assert sum("  # " in line for line in lines) > 0.7 * len(lines)
    assert "    rounds: 12  # adversarial rounds (paper: 500), >= 0" in lines
    assert "      epochs: 30  # Most passes over the demonstrations; 0 skips the phase (paper: 0)" in lines
    (tmp_path / "short.yaml").write_text(short)
    again = printed(tmp_path / "short.yaml", "--print_config=full", capsys)
    assert yaml.safe_load(again) == yaml.safe_load(whole)
    (tmp_path / "short.yaml").write_text(short.replace("rounds: 12 ", "rounds: 13 "))
    assert yaml.safe_load(printed(tmp_path / "short.yaml", "--print_config=full", capsys)) != yaml.safe_load(whole)


@pytest.mark.parametrize("given", [[NF4, "null"], [f"{NF4}=null"]])
def test_a_null_of_a_part_is_as_good_as_a_file(
    given: list[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "whole.yaml"
    overlay.write_text("model: {init_args: {pair: {init_args: {backbone: {quantisation: null}}}}}")
    shipped = root / "configs" / "gsm8k.yaml"
    by_file = printed(shipped, "--print_config=full", capsys, f"--config={overlay}")
    assert printed(shipped, "--print_config=full", capsys, *given) == by_file
    backbone = yaml.safe_load(by_file)["model"]["init_args"]["pair"]["init_args"]["backbone"]
    assert backbone["quantisation"] is None and backbone["dtype"] == "bfloat16"


def test_texts_of_several_lines_and_what_looks_like_another_type_come_back() -> None:
    config = {"model": {"prompt": "a:\n  b #c", "name": "1", "none": None, "list": [1, "2"], "odd": " x\ny\n"}}
    assert yaml.safe_load(commented(yaml.safe_dump(config), {})) == config


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from rairl_lightning.cli_completion import script

    file = tmp_path_factory.mktemp("completion") / "rairl.bash"
    file.write_text(script())
    return file


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    ask = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rairl; echo "${COMPREPLY[*]}"'
    said = subprocess.run(["bash", "-c", ask, script, *words], capture_output=True, text=True, timeout=30, check=True)
    assert said.stderr == ""
    return set(said.stdout.split())


def test_bash_completes_commands_options_and_classes(completion: Path) -> None:
    assert completed(completion, "rairl", "re") == {"rerank", "report"}
    assert completed(completion, "rairl", "fit", "--model.gran") == {"--model.granularity"}
    assert completed(completion, "rairl", "fit", "--model.granularity", "") == {"Dense", "Interval", "Sparse", "Step"}
    assert completed(completion, "rairl", "validate", "--model.granularity", "=", "De") == {"Dense"}
    assert completed(completion, "rairl", "fit", "--model", "") == {"RAIRL", "SFT", "GRPO"}
    assert completed(completion, "rairl", "score", "--rew") == {"--reward"}
    assert completed(completion, "rairl", "plan", "--dev") == {"--device"}
    assert "--config" in completed(completion, "rairl", "plan", "--c")
    assert completed(completion, "rairl", "completion", "") == {"bash", "zsh"}
    assert completed(completion, "rairl", "fit", "--config", "configs/q") == set()  # left to bash, which knows files


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert "expected: bash | zsh" in capsys.readouterr().err
