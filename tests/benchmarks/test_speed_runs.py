"""The benchmarks' processes on the tiny built-in model: what they count, and that the whole runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import compare_trl
import pytest
import shape_7b
import speed_ours
import speed_parts
import speed_runs
import throughput
from speed_floors import Shape
from speed_machine import machine, peak_memory_mb, slug
from speed_options import SMOLLM2, parser, settle, work
from speed_questions import questions, source
from speed_work import Question, Result, Work

from rairl_lightning.data.demonstrations import GSM8K, Arithmetic
from rairl_lightning.errors import DataError, TrainingError
from rairl_lightning.models import BackboneSpec
from rairl_lightning.models.loading import load_backbone, load_tokenizer
from rairl_lightning.rollouts import InPlace

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
TINY = BackboneSpec("builtin:dials").path
KEYS = {"grpo_forced", "grpo_natural", "sft", "memory", "sampling_of_floor", "training_of_floor", "rairl_over_grpo"}


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(TINY, 2, Arithmetic(16, 4, 4, min_steps=4, max_steps=6))


@pytest.fixture
def quick() -> Callable[..., Work]:
    given = settle(parser("").parse_args(["--quick", "--threads", "1", "--group-size", "2", "--new-tokens", "5"]))
    return lambda algorithm, **changes: work(given, algorithm, **changes)


@pytest.mark.parametrize("algorithm", ["grpo", "rairl"])
def test_rounds_are_counted(quick: Callable[..., Work], algorithm: str) -> None:
    one = quick(algorithm, rounds=2)
    found = speed_ours.measure(one)
    prompts = 2 * sum(len(question.prompt_ids) for question in one.questions)
    assert found.lengths == [[5] * 4] * 2 and found.generated == [20, 20], "forced, and the first round is not counted"
    assert found.trained == [prompts + 20] * 2 and found.trained_completion == [20, 20]
    assert set(found.phases) == {"sample", "score", "policy"} | ({"discriminator"} if algorithm == "rairl" else set())
    for number, seconds in enumerate(found.seconds):
        assert 0 < sum(values[number] for values in found.phases.values()) <= seconds


def test_forced_rows_outlive_their_end_of_turn(asked: list[Question]) -> None:
    """The built-in model ends its turn after about 60 tokens; a negative control lets it."""
    free = Work("sampling", TINY, asked, group_size=2, new_tokens=160, forced=False)
    natural, forced = speed_ours.measure(free), speed_ours.measure(replace(free, forced=True))
    assert min(natural.lengths[0]) < 160 and natural.generated == [sum(natural.lengths[0])]
    assert forced.lengths == [[160] * 4] and len(forced.phases["prefill"]) == len(forced.seconds) == 1


def test_sft_steps_are_counted(quick: Callable[..., Work]) -> None:
    one = quick("sft", rounds=2, prompts=3)
    found = speed_ours.measure(one)
    completion = sum(len(question.completion_ids) for question in one.questions)
    assert found.trained_completion == [completion] * 2 and found.generated == [0, 0]
    assert found.trained == [completion + sum(len(question.prompt_ids) for question in one.questions)] * 2


def test_questions_are_short_enough_and_come_again() -> None:
    given = Arithmetic(4, 2, 2, min_steps=4, max_steps=6)
    lengths = sorted(len(one.prompt_ids) for one in questions(TINY, 4, given))
    few = questions(TINY, 5, given, most_tokens=lengths[1])
    assert len(few) == 5 == len({one.id for one in few}) and {len(one.prompt_ids) for one in few} <= set(lengths[:2])
    with pytest.raises(DataError, match="short enough"):
        questions(TINY, 1, given, most_tokens=1)


def test_built_in_questions_where_there_is_no_gsm8k(tmp_path: Path) -> None:
    assert isinstance(source(tmp_path / "nowhere"), Arithmetic) and isinstance(source(tmp_path), GSM8K)


def test_work_and_result_survive_their_files(tmp_path: Path, asked: list[Question]) -> None:
    one = Work("grpo", TINY, asked, sampler_arguments={"max_rows": 2})
    one.write(tmp_path / "work.json")
    assert Work.read(tmp_path / "work.json") == one and one.traces == 8
    found = Result([1.5], {"sample": [1.0]}, [3], [5], [3], [[1, 2]], 10.0, None, {"torch": "2"})
    found.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == found


def test_sampler_is_an_option(asked: list[Question]) -> None:
    made = speed_parts.sampler(Work("grpo", TINY, asked, forced=False, sampler_arguments={"max_rows": 3}), 7)
    assert (type(made).__name__, made.max_new_tokens, made.max_rows) == ("SharedPrefixSampler", 7, 3)
    made = speed_parts.sampler(Work("grpo", TINY, asked, forced=False, sampler_arguments={"weights": "InPlace"}), 7)
    assert isinstance(made.weights, InPlace)


def test_peak_memory_is_the_process_s_own() -> None:
    """A process that holds little, started by this one, which holds much, must not report ours."""
    mine = peak_memory_mb()["resident"]
    stub = "import sys, types; sys.modules['torch'] = types.ModuleType('torch'); sys.path.insert(0, sys.argv[1]); "
    stub += "import speed_machine as m; print(m._resident_high_water())"
    folder = str(Path(speed_runs.__file__).parent)
    said = subprocess.run([sys.executable, "-c", stub, folder], capture_output=True, text=True, check=True).stdout
    assert float(said) / 1e6 < mine / 3


def test_comparison_runs_in_turns_and_within_its_time() -> None:
    made = Result([1.0], {}, [1], [1], [1], [[1]], 1.0, None, {})
    order: list[tuple[str, str]] = []

    def run(side: str, one: Work) -> Result:
        order.append((side, one.algorithm))
        return made

    works = {"grpo_forced": Work("grpo", TINY, []), "rairl": Work("rairl", TINY, [])}
    found = compare_trl.repeat(works, "trl", 2, 10.0, run)
    assert order == [("ours", "grpo"), ("trl", "grpo"), ("ours", "rairl")] * 2
    assert found["grpo_forced"] == {"ours": [made] * 2, "peer": [made] * 2} and not found["rairl"]["peer"]
    order.clear()
    compare_trl.repeat(works, "trl", 5, 0.0, run)
    assert len(order) == 3, "one repetition, however little time there is"


@pytest.mark.slow
def test_quick_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours against itself; that this gives 1 is tested without a clock, in test_speed_figures."""
    out = tmp_path / "compare.json"
    monkeypatch.setattr(
        sys, "argv", ["compare_trl", "--quick", "--repetitions", "1", "--threads", "1", "--out", str(out)]
    )
    compare_trl.main()
    said = json.loads(out.read_text())
    assert set(said) >= KEYS | {"commit", "machine", "dirty"} and said["peer"] == "ours"
    assert all(len(said[name]) == 3 and said[name][0] > 0 for name in KEYS)
    assert "-dirty" not in said["commit"] and {"processor", "cores", "threads", "torch"} <= set(said["machine"])
    assert "| grpo_forced |" in capsys.readouterr().out
    details = json.loads((tmp_path / f"compare-{slug(said['machine'])}.json").read_text())
    assert details["limits"]["decoding_rows"] == 8 and details["runs"]["rairl"]["peer"] == []


def test_machine_has_no_name_of_a_host() -> None:
    import socket

    assert socket.gethostname() not in json.dumps(machine())


@pytest.mark.slow
def test_quick_sweep_writes_plot_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "sweep.json"
    monkeypatch.setattr(throughput, "QUICK_TRACES", (2, 4))
    monkeypatch.setattr(
        sys, "argv", ["throughput", "--quick", "--sweep", "--group-size", "2", "--threads", "1", "--out", str(out)]
    )
    throughput.main()
    said = json.loads(out.read_text())
    assert [row["value"] for row in said["rows"]] == [2, 4, 4, 8] and set(said["fits"]) == {"traces", "new tokens"}
    assert (tmp_path / "sweep.png").stat().st_size > 0
    assert (tmp_path / "sweep.csv").read_text().startswith("axis,value,seconds,trained_tokens")
    traces = [row["trained_tokens"] for row in said["rows"] if row["axis"] == "traces"]
    assert traces[1] > 1.5 * traces[0]


def test_figures_and_their_table() -> None:
    """60 tokens sampled in 3 s where 40 a second are the most; 5 learnt in 2 s where 50 a second are."""
    one = Result([6.0], {"sample": [3.0], "policy": [2.0]}, [60], [5], [3], [[30, 30]], 7.0, None, {})
    limits = {"gemm_flops_per_second": 52800.0, "decoding_tokens_per_second": 40.0}
    found = throughput.figures(one, "grpo", Shape(4, 6, 2, 2, 1, 2, 10), limits)
    assert (found["sampled_per_second"], found["of_decoding_floor"]) == (20.0, 0.5)
    assert (found["trained_per_second"], found["of_training_floor"]) == (2.5, pytest.approx(0.05))
    printed = throughput.table({"grpo": [found, found | {"seconds": 4.0}, found | {"seconds": 5.0}]})
    assert printed.splitlines()[-1] == "| grpo | 5.0 | 20 | 0.50 | 2 | 0.05 | 7 |  | sample 3.0, policy 2.0 |"


def test_figures_without_floors_or_sampling() -> None:
    one = Result([2.0], {"sft": [2.0]}, [0], [5], [3], [[]], 7.0, 3.0, {})
    found = throughput.figures(one, "sft", Shape(4, 6, 2, 2, 1, 2, 10), None)
    assert found["sampled_per_second"] is found["of_decoding_floor"] is found["of_training_floor"] is None
    assert throughput.table({"sft": [found]}).splitlines()[-1] == "| sft | 2.0 |  |  | 2 |  | 7 | 3 | sft 2.0 |"


@pytest.fixture
def toy_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of our side."""

    def put(script: str) -> None:
        (tmp_path / "side.py").write_text(f"import json, os, sys, time\n{script}\n")
        monkeypatch.setitem(speed_runs.SIDES, "ours", tmp_path / "side.py")

    return put


def test_a_process_has_its_threads_and_no_network(toy_side: Callable[[str], None], asked: list[Question]) -> None:
    toy_side(
        "threads, model = os.environ['OMP_NUM_THREADS'], json.load(open(sys.argv[1]))['model']\n"
        "said = dict(seconds=[1], phases={}, generated=[], trained=[], trained_completion=[], lengths=[],"
        "resident_mb=1, device_mb=None, "
        "versions={'threads': threads, 'model': model, 'hub': os.environ['HF_HUB_OFFLINE']})\n"
        "json.dump(said, open(sys.argv[2], 'w'))"
    )
    found = speed_runs.run("ours", Work("grpo", "a model", asked, threads=3))
    assert found.versions == {"threads": "3", "model": "a model", "hub": "1"}


@pytest.mark.parametrize(
    ("script", "limit", "got"),
    [
        ("sys.exit('It broke.')", 100, "exit code 1\nIt broke."),
        ("", 100, "exit code 0"),
        ("time.sleep(60)", 1, "code -1"),
    ],
)
def test_a_process_that_fails_says_why(
    toy_side: Callable[[str], None], asked: list[Question], script: str, limit: float, got: str
) -> None:
    toy_side(script)
    with pytest.raises(TrainingError, match="ours did not finish grpo") as error:
        speed_runs.run("ours", Work("grpo", TINY, asked), limit)
    assert got in str(error.value)


def test_shape_7b_on_a_tiny_shape(tmp_path: Path) -> None:
    """What is written loads as NF4 with a word for every id, and every layer has storage of its own."""
    shape = Shape(64, 128, 2, 4, 2, 16, 600)
    spec = BackboneSpec(str(shape_7b.build(tmp_path / "model", shape)), quantisation="nf4", dtype="bfloat16")
    assert Shape.of(spec.path) == shape and len(load_tokenizer(spec)) == shape.vocabulary
    with pytest.warns(UserWarning, match="quantization_config"):
        model = load_backbone(spec)
    first, second = (layer.mlp.up_proj.weight for layer in model.model.layers)
    assert first.dtype.is_floating_point is False and first.quant_state.nested
    assert first.data_ptr() != second.data_ptr() and first.numel() == shape.hidden * shape.intermediate // 2
    assert shape_7b.QWEN_7B.block_parameters + 2 * shape_7b.QWEN_7B.head_parameters == 7_615_283_200


def test_default_model_is_where_make_puts_it() -> None:
    assert SMOLLM2.parent.name == "models" and SMOLLM2.name == "SmolLM2-135M-Instruct"
