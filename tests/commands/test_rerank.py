"""``rairl rerank`` from a command line to its files."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from traces import completion

from rairl_lightning.cli import main
from rairl_lightning.commands.rerank import FILES
from rairl_lightning.components import Last, Minimum, Product
from rairl_lightning.data.traces import SampledQuestion
from rairl_lightning.errors import CheckpointError, ConfigError, DataError
from rairl_lightning.evaluation.long_traces import LeftOut
from rairl_lightning.evaluation.reranking import run as reranking
from rairl_lightning.evaluation.reranking.plots import PLOTS, write_plots
from rairl_lightning.evaluation.reranking.scoring import score_questions
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.text.graders import Grade
from rairl_lightning.types import Demonstration, TokenBatch

Rerank = Callable[..., int]
WAYS = ("left", "right", "left", "right")


def line(gate: int, text: str, **fields: Any) -> str:
    row = {"question_id": f"gate-{gate}", "prompt": f"gate {gate}", "answer": "left", "completion": text, **fields}
    return json.dumps(row)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve questions of four traces; the rows of a question do not lie together, and some are odd."""
    rows = [
        line(gate, completion((gate + trace) % 3, way), category=("odd", "even")[gate % 2], trace=trace)
        for trace, way in enumerate(WAYS)
        for gate in range(12)
    ]
    rows += [line(12, "", trace=0), line(12, completion(1), trace=1)]
    rows += [line(13, "<think>\n" + "1 + 2 = 3\n" * 2000, trace=0), line(14, completion(1), trace=0)]
    path = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, which take most of the time of so few traces."""
    monkeypatch.setattr(reranking, "write_plots", lambda folder, report: None)


@pytest.fixture
def rerank(run: Path, tmp_path: Path, undrawn: None) -> Rerank:
    def command(*args: str, out: str = "out") -> int:
        return main(["rerank", f"--reward={run}", f"--out={tmp_path / out}", "--device=cpu", *args])

    return command


def traces(path: Path) -> list[str]:
    return ["--traces=TraceFile", f"--traces.path={path}"]


def summary(folder: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((folder / "summary.json").read_text(), parse_constant=refuse)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in path.read_text().splitlines()]


def test_files_figures_and_table(
    rerank: Rerank, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranking, "write_plots", write_plots)
    assert rerank(*traces(file)) == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == set(FILES) and len(FILES) == 2 + 2 * len(PLOTS)
    found = summary(out)
    assert found["selection"]["questions"] + found["counts"]["questions"] == 15
    assert set(found["best_of"]) == {"2", "4"}
    four = found["best_of"]["4"]["all"]["right"]
    assert four["random"][0] == four["majority"][0] == 0.5 and four["oracle"] == [1, 1, 1]
    assert found["reward_from"] and found["commit"] and found["seed"] == 0 and "TraceFile" in found["traces_from"]
    assert found["calibration"]["method"] == "Temperature" and found["calibration"]["parameters"]["temperature"] > 0
    written = rows(out / "reranked.jsonl")
    assert len(written) == 12 * 4 + 4 and {row["split"] for row in written} == {"reported", "selection"}
    assert sum(row["reward"] is None for row in written) == 2, "the empty one, and the one beyond the context"
    text = capsys.readouterr().out
    assert "Gain over random" in text and "N = 4" in text and str(out) in text.replace("\n", "")


def test_rewards_and_logprobs_are_the_models(rerank: Rerank, run: Path, file: Path, tmp_path: Path) -> None:
    assert rerank(*traces(file), "--calibration=NoCalibration") == 0
    reward = TrainedReward.load(run, device="cpu")
    for row in rows(tmp_path / "out" / "reranked.jsonl"):
        if row["reward"] is not None:
            ids, _ = reward.codec.encode_trace(row["prompt"], row["completion"])
            alone = float(reward.score(TokenBatch.from_traces([ids], reward.codec.pad_id)).traces_N)
            assert row["reward"] == pytest.approx(alone, abs=1e-4)
            assert row["probability"] == pytest.approx(1 / (1 + math.exp(-alone)), abs=1e-4)
    group = [row for row in rows(tmp_path / "out" / "reranked.jsonl") if row["question_id"] == "gate-3"]
    tokens = TokenBatch.from_traces(
        [reward.codec.encode_trace(row["prompt"], row["completion"])[0] for row in group], reward.codec.pad_id
    )
    means = masked_mean(reward.models.policy.score(tokens, 9999).logprobs, tokens.completion_mask, dim=1)
    likeliest = means >= means.max() - 1e-5
    assert ["logprob" in row["chosen_by"] for row in group] == likeliest.tolist()
    lengths = tokens.completion_lengths_N
    assert ["shortest" in row["chosen_by"] for row in group] == (lengths == lengths.min()).tolist()


def test_questions_of_the_training_are_told(
    rerank: Rerank, run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["--calibration=NoCalibration"]
    assert rerank(*traces(file), *plain) == 0
    assert summary(tmp_path / "out")["counts"]["questions_trained_on"] == 8, "gates 0 to 7"
    assert "8 of 15 questions are ones the reward was trained on" in capsys.readouterr().out
    unseen = tmp_path / "unseen.jsonl"
    unseen.write_text("\n".join(one for one in file.read_text().splitlines() if '"prompt": "gate 9"' in one))
    assert rerank(*traces(unseen), *plain, out="unseen") == 0
    assert summary(tmp_path / "unseen")["counts"]["questions_trained_on"] == 0
    older = tmp_path / "adapters"
    shutil.copytree(run / "adapters", older)
    record = json.loads((older / "reward.json").read_text())
    (older / "reward.json").write_text(
        json.dumps({name: part for name, part in record.items() if name != "trained_on"})
    )
    assert main(["rerank", f"--reward={older}", f"--out={tmp_path / 'older'}", *traces(file), *plain]) == 0
    assert summary(tmp_path / "older")["counts"]["questions_trained_on"] is None, "nobody knows"
    assert "trained on" not in capsys.readouterr().out


def test_no_figure_depends_on_the_order_of_the_file(rerank: Rerank, file: Path, tmp_path: Path) -> None:
    lines = file.read_text().splitlines()
    (tmp_path / "shuffled.jsonl").write_text("\n".join(random.Random(0).sample(lines, len(lines))))
    assert rerank(*traces(file)) == 0 and rerank(*traces(tmp_path / "shuffled.jsonl"), out="other") == 0
    first, second = summary(tmp_path / "out"), summary(tmp_path / "other")
    for name in ("best_of", "pass@k", "auroc", "counts", "selection"):
        assert first[name] == second[name]
    assert first["traces_from"] != second["traces_from"]


def test_without_a_fit_every_question_is_reported(rerank: Rerank, file: Path, tmp_path: Path) -> None:
    assert rerank(*traces(file), "--calibration=NoCalibration", "--sizes=[3,1]") == 0
    found = summary(tmp_path / "out")
    assert found["counts"]["questions"] == 15 and found["selection"] == {"questions": 0, "traces": 0}
    assert set(found["best_of"]) == {"1", "3"}
    counts = found["counts"]
    assert (counts["traces_empty"], counts["traces_too_long"], counts["traces_without_reward"]) == (1, 1, 2)
    assert counts["traces_unanswered"] == 2 and counts["questions_with_one_trace"] == 2
    assert rerank(*traces(file), "--calibration=NoCalibration", "--long=Windows", out="windows") == 0
    assert summary(tmp_path / "windows")["counts"]["traces_without_reward"] == 1, "control: the long one is read"


def test_poolings_are_chosen_on_a_file_of_their_own(rerank: Rerank, run: Path, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "selection.jsonl"
    other.write_text("\n".join(line(gate, completion(gate % 2, way)) for gate in range(20, 26) for way in WAYS))
    chosen = ["--poolings+=Minimum", "--poolings+=Last", "--calibration=Isotonic"]
    apart = ["--selection=TraceFile", f"--selection.path={other}"]
    assert rerank(*traces(file), *chosen, *apart) == 0
    found = summary(tmp_path / "out")
    assert set(found["pooling"]["measured"]) == {"Minimum", "Last"} and found["counts"]["questions"] == 15
    assert found["selection"] == {"questions": 6, "traces": 24}
    best = max(found["pooling"]["measured"], key=found["pooling"]["measured"].get)
    reward = TrainedReward.load(run, device="cpu", pooling={"Minimum": Minimum(), "Last": Last()}[best])
    (row, *_) = rows(tmp_path / "out" / "reranked.jsonl")
    ids, _ = reward.codec.encode_trace(row["prompt"], row["completion"])
    alone = float(reward.score(TokenBatch.from_traces([ids], reward.codec.pad_id)).traces_N)
    assert found["pooling"]["chosen"] == best and row["reward"] == pytest.approx(alone, abs=1e-4)


def test_a_pooling_says_how_its_rewards_vote(run: Path) -> None:
    question = Demonstration("1", "gate 1", "", "left")
    sampled = SampledQuestion(
        question, (completion(1, "left"), ""), ("left", None), (Grade.RIGHT, Grade.UNANSWERED), (0, -1)
    )
    reward = TrainedReward.load(run, device="cpu")
    (one,) = score_questions(reward, [sampled], [Product(), Minimum()], LeftOut())
    assert one.log_weights["Product"][0] == one.rewards["Product"][0] < 0
    minimum = one.rewards["Minimum"][0]
    assert one.log_weights["Minimum"][0] == pytest.approx(-math.log1p(math.exp(-minimum))) != minimum
    assert one.votes("Product")[1] == -math.inf == one.votes("Minimum")[1], "without a reward"


def test_a_question_to_fit_and_to_report_on_is_refused(
    rerank: Rerank, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["--selection=TraceFile", f"--selection.path={file}"]
    assert rerank(*traces(file), *same) == DataError.exit_code
    assert "reported on a question that it is chosen on" in capsys.readouterr().err


# --- Sampling from the reward's policy ----------------------------------------------------------------------------

SAMPLING = ["--data=gates.Gates", "--sampling.samples=4", "--sampling.max_new_tokens=20", "--sampling.temperature=1"]


def test_the_policy_answers_and_its_traces_can_be_used_again(rerank: Rerank, tmp_path: Path) -> None:
    assert rerank(*SAMPLING, "--sampling.limit=3") == 0
    out = tmp_path / "out"
    found = summary(out)
    assert found["counts"]["questions"] == 3 == found["selection"]["questions"] and found["counts"]["traces"] == 12
    assert {row["question_id"] for row in rows(out / "traces.jsonl")} == {"gate-12", "gate-13", "gate-14"}, (
        "the test split"
    )
    assert {row["question_id"] for row in rows(out / "selection.jsonl")} == {"gate-8", "gate-9", "gate-10"}
    again = [*traces(out / "traces.jsonl"), "--selection=TraceFile", f"--selection.path={out / 'selection.jsonl'}"]
    as_is = ["--traces.layout=AsIs", "--selection.layout=AsIs"]
    assert rerank(*again, *as_is, out="again") == 0
    for name in ("best_of", "pass@k", "auroc", "calibration", "rewards", "counts"):
        assert summary(tmp_path / "again")[name] == found[name]


def test_another_policy_or_seed_answers_differently(rerank: Rerank, run: Path, tmp_path: Path, base: Path) -> None:
    pair = gates.shared(base).build()
    with torch.no_grad():
        for parameter in pair.trainable_parameters("policy"):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    pair.save_adapters(tmp_path / "other")
    plain = ["--calibration=NoCalibration", *SAMPLING]
    policies = {"own": [], "same": [f"--policy={run}"], "else": [f"--policy={tmp_path}/other"], "seed": ["--seed=1"]}
    for out, policy in policies.items():
        assert rerank(*plain, *policy, out=out) == 0
    own, same, other, seed = ((tmp_path / out / "traces.jsonl").read_text() for out in policies)
    assert own == same and len({own, other, seed}) == 3
    assert len({summary(tmp_path / out)["fingerprint"] for out in policies}) == 1, "the reward is the same"
    assert not (tmp_path / "own" / "selection.jsonl").exists(), "nothing is fitted"
    (tmp_path / "other" / "reward.json").write_text(json.dumps({"base": "another"}))
    assert rerank(*plain, f"--policy={tmp_path}/other", out="x") == CheckpointError.exit_code
    assert rerank(*plain, f"--policy={tmp_path}/nowhere", out="y") == CheckpointError.exit_code


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "either --traces or --data"),
        (["--traces=TraceFile", "--traces.path=x", "--data=gates.Gates"], "either --traces or --data"),
        ([*SAMPLING, "--selection=TraceFile", "--selection.path=x"], "--data without --selection"),
        (
            [*traces(Path("x")), "--selection=TraceFile", "--selection.path=x", "--calibration=NoCalibration"],
            "nothing to",
        ),
        ([*SAMPLING, "--sampling.fit_split=test"], "Nothing is fitted or chosen on the test split"),
        ([*SAMPLING, "--sampling.split=tset"], "no such split"),
        ([*SAMPLING, "--sampling.split=selection"], "not reported on it"),
        ([*SAMPLING, "--sampling.samples=0"], "samples"),
        ([*SAMPLING, "--sizes=[0]"], "sizes"),
        ([*SAMPLING, "--sizes=[]"], "no N to choose among"),
        ([*SAMPLING, "--sizes=[64,32]"], "--sampling.samples >= 32"),
    ],
)
def test_what_cannot_be_is_refused(
    rerank: Rerank, capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    assert rerank(*args) == ConfigError.exit_code
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err


def test_an_earlier_result_stays(rerank: Rerank, file: Path, tmp_path: Path) -> None:
    plain = [*traces(file), "--calibration=NoCalibration"]
    assert rerank(*plain) == 0
    assert rerank(*plain) == ConfigError.exit_code
    assert (tmp_path / "out" / "summary.json").exists()
    assert rerank(*plain, "--overwrite=true") == 0


def test_where_nothing_can_be_chosen_it_says_so(
    rerank: Rerank, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [*traces(file), "--calibration=NoCalibration"]
    assert rerank(*plain, "--sizes=[5,9]") == 0
    assert "as any of the sizes 5, 9" in capsys.readouterr().out and not summary(tmp_path / "out")["best_of"]
    assert rerank(*plain, "--sizes=[4,9]", out="some") == 0 and "as any of the sizes" not in capsys.readouterr().out
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"prompt": "gate 1", "answer": "left"}) + "\n")
    data = ["--data=JsonLines", f"--data.test={path}", "--sampling.samples=2"]
    assert rerank(*data, out="empty") == DataError.exit_code
    assert "--calibration NoCalibration" in capsys.readouterr().err
