"""``rairl export`` from a run to a folder that others read."""

from __future__ import annotations

import io
import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import exported
import gates
import pytest
import torch
from exported import CASES, TEXTS, Export, usage
from short_runs import train
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

import rairl_lightning.components as components
from rairl_lightning.callbacks import AdapterCheckpoint
from rairl_lightning.cli import main
from rairl_lightning.errors import CheckpointError, ConfigError, ModelError
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.types import TokenBatch

pytestmark = pytest.mark.timeout(360)  # what all tests share is made once, before the first of them
SAME, NF4 = 2e-5, 2e-3
POLICY = "mixed merged"  # it has two backbones: for the policy the discriminator's is not even loaded


def said_by(run: Path, question: str, completion: str, finished: bool) -> dict[str, Any]:
    """What the reward says itself."""
    reward = TrainedReward.load(run, device="cpu")
    ids, text = reward.codec.encode_trace(question, completion, finished)
    assert text == completion, "a trace that the tokenizer keeps"
    scores = reward.score(TokenBatch.from_traces([ids], reward.codec.pad_id))
    return {"trace": float(scores.traces_N[0]), "tokens": scores.rewards_NT[0, len(ids.prompt_ids) :].tolist()}


# --- The reward, read by others -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every case, exported."""
    folder = tmp_path_factory.mktemp("exported")
    for name, case in CASES.items():
        merged = ["--merged"] if case.merged else []
        assert main(["export", str(trained[name]), f"--out={folder / name}", "--device=cpu", *merged]) == 0
    policy = ["--what=policy", "--merged", f"--out={folder / 'policy'}", "--device=cpu"]
    assert main(["export", str(trained[POLICY]), *policy]) == 0
    return {name: folder / name for name in (*CASES, "policy")}


@pytest.fixture(scope="module")
def elsewhere(written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What the cards' own lines give where this package cannot be imported: as printed, then about other traces."""
    scripts = []
    for name, folder in written.items():
        code = usage((folder / "README.md").read_text())
        asked = () if name == "policy" else TEXTS
        for number, text in enumerate((None, *asked)):
            script = tmp_path_factory.mktemp("usage") / f"{number}.py"
            script.write_text(code if text is None else exported.asking(code, *text))
            scripts.append((name, folder, script))
    found = exported.without_us([(folder, script) for _, folder, script in scripts])
    return {name: [one for one, (of, *_) in zip(found, scripts, strict=True) if of == name] for name in written}


@pytest.mark.parametrize("case", CASES)
def test_the_usage_gives_the_same_rewards_without_this_package(
    trained: dict[str, Path], elsewhere: dict[str, list[dict[str, Any]]], case: str
) -> None:
    tolerance = NF4 if "nf4" in case else SAME
    printed, *others = elsewhere[case]
    assert len(printed["tokens"]) > 10, "the card's own example runs as it is printed"
    for text, theirs in zip(TEXTS, others, strict=True):
        ours = said_by(trained[case], *text)
        assert theirs["trace"] == pytest.approx(ours["trace"], abs=tolerance)
        assert theirs["tokens"] == pytest.approx(ours["tokens"], abs=tolerance)
    spread = torch.tensor([value for one in others for value in one["tokens"]]).std()
    assert spread > 100 * SAME, "a reward that says the same of everything would be matched by anything"


def test_another_reading_would_be_noticed(trained: dict[str, Path], elsewhere: dict[str, list[dict[str, Any]]]) -> None:
    """The negative control: the same weights on another grid, and the reward without its shaping."""
    for case, wrong in (
        ("interval", {"granularity": components.Interval(4)}),
        ("f, step", {"critic": components.TwoHead(0.9)}),
        ("mixed merged", {"critic": components.TwoHead(read_out=components.ReadMixed(0.7))}),
    ):
        reward = TrainedReward.load(trained[case], device="cpu")
        reward = replace(reward, reader=replace(reward.reader, **wrong))
        ids, _ = reward.codec.encode_trace(*TEXTS[0])
        other = reward.score(TokenBatch.from_traces([ids], reward.codec.pad_id)).rewards_NT[0, len(ids.prompt_ids) :]
        apart = (torch.tensor(elsewhere[case][1]["tokens"]) - other).abs().max()
        assert apart > 10 * NF4, case


def test_what_is_written(written: dict[str, Path]) -> None:
    # A test that loads steps.py leaves its compiled form.
    names = {name: {file.name for file in folder.iterdir() if file.is_file()} for name, folder in written.items()}
    assert "adapter_model.safetensors" in names["interval"] and "model.safetensors" not in names["interval"]
    assert "model.safetensors" in names["interval merged"] & names["all weights, dense"] & names["mixed merged"]
    assert [name for name in names if "steps.py" in names[name]] == ["f, step"]
    for name, folder in written.items():
        record = json.loads((folder / "rairl_export.json").read_text())
        assert set(record["files"]) == names[name] and record["gap"]["mean"] < SAME * 100
    merged = json.loads((written["mixed merged"] / "config.json").read_text())
    assert merged["id2label"] == {"0": "g_reward", "1": "h_potential"}
    assert merged["architectures"] == ["LlamaForTokenClassification"] and "rairl" not in json.dumps(merged)


def test_no_place_of_this_machine_is_told(written: dict[str, Path], base: Path) -> None:
    for folder in (written["interval merged"], written["all weights, dense"]):
        for file in folder.glob("*"):
            assert str(base.parent).encode() not in file.read_bytes(), file.name
    assert str(base) in (written["interval"] / "adapter_config.json").read_text(), "an adapter needs its base"
    assert str(base) not in (written["interval"] / "README.md").read_text()


def test_the_client_of_the_page_on_serving(
    root: Path, written: dict[str, Path], trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server is one of ours that answers as vLLM's documentation says: no vLLM was run."""
    folder = written["interval merged"]
    model = AutoModelForTokenClassification.from_pretrained(folder)

    def urlopen(request: Any) -> io.StringIO:
        asked = json.loads(request.data)
        assert request.full_url == "http://localhost:8000/pooling" and asked["use_activation"] is False
        rows = model(torch.tensor([asked["input"]])).logits[0].tolist()
        return io.StringIO(json.dumps({"data": [{"index": 0, "object": "pooling", "data": rows}]}))

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    script = tmp_path / "client.py"
    code = usage((root / "docs" / "how-to" / "serve.md").read_text())
    script.write_text(code.replace('"runs/gsm8k_reward"', repr(str(folder))))
    outputs = runpy.run_path(str(script))["outputs"]
    for question, completion, finished in TEXTS:
        reward = TrainedReward.load(trained["interval merged"], device="cpu")
        ids, _ = reward.codec.encode_trace(question, completion, finished)
        tokens = TokenBatch.from_traces([ids], reward.codec.pad_id)
        ours = reward.models.discriminator.score(tokens, 999)[0, len(ids.prompt_ids) :]
        assert torch.allclose(torch.tensor(outputs(question, completion, finished))[:, 0], ours, atol=SAME)


# --- What is compared ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_merging_over_a_4_bit_base_has_a_gap_that_is_said(
    export: Export, trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained["nf4, sparse"]
    assert export(run, "--what=policy", "--tolerance=1e-4") == 0, "an adapter stands on the base it was trained on"
    assert "Log-probabilities (nats) of" in capsys.readouterr().out
    assert export(run, "--what=policy", "--merged", "--tolerance=1e-4", out="merged") == ModelError.exit_code
    said_so = capsys.readouterr()
    assert "leave out --merged" in said_so.err and "mean difference" in said_so.err
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"], "nothing is left behind, no temporary folder either"
    assert export(run, "--what=policy", "--merged", "--tolerance=1e-4", "--force", out="merged") == 0
    record = json.loads((tmp_path / "merged" / "rairl_export.json").read_text())
    assert record["gap"]["mean"] > 1e-4 and "quantization" not in (tmp_path / "merged" / "config.json").read_text()


def test_texts_of_the_run_are_compared(export: Export, base: Path, tmp_path: Path) -> None:
    train(exported.shared(base), tmp_path / "run")
    rows = [{"prompt": f"gate {n % 3}", "completion": exported.WAY, "finished": True} for n in range(9)]
    (tmp_path / "run" / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    assert export(tmp_path / "run" / "checkpoints" / "last.ckpt") == 0
    record = json.loads((tmp_path / "out" / "rairl_export.json").read_text())
    assert record["gap"]["texts"] == 3 and record["questions_trained_on"] == 8
    assert record["gap"]["mean"] < SAME


# --- The policy ---------------------------------------------------------------------------------------------------


def test_a_policy_is_a_causal_language_model(
    export: Export,
    trained: dict[str, Path],
    written: dict[str, Path],
    elsewhere: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    assert export(trained[POLICY], "--what=policy") == 0
    reward = TrainedReward.load(trained[POLICY], device="cpu")
    ids, _ = reward.codec.encode_trace(*TEXTS[0])
    tokens = TokenBatch.from_traces([ids], reward.codec.pad_id)
    ours = reward.models.policy.logprobs(tokens).logprobs[0, len(ids.prompt_ids) :]
    base = reward.models.policy.causal_lm.config._name_or_path

    def logprobs(folder: Path | str) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(folder)  # with PEFT installed it reads adapters, too
        every = model(tokens.input_ids).logits[0, :-1].log_softmax(-1)
        return every.gather(-1, tokens.input_ids[0, 1:, None])[len(ids.prompt_ids) - 1 :, 0]

    for folder in (tmp_path / "out", written["policy"]):
        assert torch.allclose(logprobs(folder), ours, atol=SAME)
    assert not torch.allclose(logprobs(base), ours, atol=1e-2), "the negative control"
    assert elsewhere["policy"][0]["ids"], "its usage runs"


@pytest.mark.slow
def test_a_baseline_has_a_policy_and_no_reward(
    export: Export, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    trainer = gates.trainer(run, [AdapterCheckpoint()], limit_val_batches=1.0)
    trainer.fit(gates.sft(exported.shared(base)), datamodule=gates.data())
    assert export(run) == CheckpointError.exit_code
    assert "no reward" in capsys.readouterr().err
    assert export(run, "--what=policy") == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert "A **policy**" in (tmp_path / "out" / "README.md").read_text()


# --- Refusals -----------------------------------------------------------------------------------------------------


def test_a_head_that_is_not_linear_is_refused_with_the_reason(
    export: Export, expectation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(expectation) == ModelError.exit_code
    err = capsys.readouterr().err
    assert "ExpectationHead is no token classifier" in err and "`rairl score`" in err
    assert list(tmp_path.iterdir()) == []
    assert export(expectation, "--what=policy") == 0, "its policy is like any other"


def test_an_export_replaces_exports_alone(
    export: Export, trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = trained["interval"], tmp_path / "out"
    assert export(run, "--merged") == 0
    assert export(run) == ConfigError.exit_code and "--overwrite true" in capsys.readouterr().err
    assert (out / "model.safetensors").is_file()
    assert export(run, "--overwrite") == 0
    assert not (out / "model.safetensors").exists() and (out / "adapter_model.safetensors").is_file()
    (out / "mine.txt").write_text("mine")
    assert export(run, "--overwrite") == ConfigError.exit_code and "mine.txt" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert export(run, out="file") == ConfigError.exit_code
    assert export(run, f"--rerank={tmp_path}/none", out="other") == CheckpointError.exit_code
    assert export(run, "--tolerance=-1", out="other") == ConfigError.exit_code
