"""``rairl export``: a trained policy or reward as an ordinary Hugging Face model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rairl_lightning.errors import CheckpointError
from rairl_lightning.functional._checks import check_number


def export(  # noqa: PLR0913  one argument, one option
    run: Path,
    what: Literal["policy", "reward"] = "reward",
    out: Path = Path("runs/export"),
    merged: bool = False,
    tolerance: float = 0.05,
    force: bool = False,
    push_to_hub: str | None = None,
    private: bool = True,
    rerank: Path | None = None,
    localise: Path | None = None,
    device: str = "auto",
    backbone: str | None = None,
    run_config: str | None = None,
    plugins: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Write a trained policy or reward as an ordinary Hugging Face model, with a card.

    Example:
      rairl export runs/gsm8k --what reward --out runs/gsm8k_reward
      rairl export runs/gsm8k --what policy --merged --out runs/gsm8k_policy --push_to_hub OWNER/NAME

    A policy becomes a causal language model, a reward a token classifier; both load with transformers (and PEFT, for
    an adapter) where this package is not installed. README.md, the card, has the lines that use it and say what they
    give: template, grid, clip and pooling included; rairl_export.json has the same for programs.

    What was written is read back by transformers alone and compared with what was trained, on traces of the run: the
    policy's log-probabilities, what the reward pays. The gap is printed; above the tolerance nothing is left behind.
    Merging an adapter that was trained over a 4-bit base adds it to the base in full precision, which is another model:
    there the gap is what quantisation was worth.

    A head that is not linear (ExpectationHead) is no token classifier, and is refused.

    Args:
        run: a run's folder, its checkpoint (.ckpt), or its exported adapters; may be given without --run.
        what: policy or reward.
        out: folder to write to.
        merged: add the adapter to the weights; without it the adapter alone is written, which needs its base model.
        tolerance: of the mean difference, as a share of the standard deviation of the numbers themselves, >= 0.
        force: write in spite of a larger gap.
        push_to_hub: owner/name of a repository to upload to, with the login of `hf auth login`.
        private: whether that repository is private, if it is made now.
        rerank: folder that `rairl rerank` wrote, for the card; RUN/rerank if that is there.
        localise: folder that `rairl localise` wrote, for the card; RUN/localise if that is there.
        device: cpu, cuda, cuda:1, …; auto takes an accelerator if there is one.
        backbone: folder or hub id of the base model, if it is not where it was in training.
        run_config: config.yaml of the run, for a checkpoint that does not say what it is made of.
        plugins: packages of your own whose classes the run may name; they are imported.
        overwrite: replace an earlier export in OUT.
    """
    check_number("tolerance", tolerance, at_least=0)
    for name, folder in {"rerank": rerank, "localise": localise}.items():
        if folder is not None and not folder.is_dir():
            raise CheckpointError(
                f"--{name} is not a folder.", got=folder, remedy="give the folder that the command wrote"
            )
    from rairl_lightning.evaluation.artefact import Artefact
    from rairl_lightning.evaluation.summary import write_summary
    from rairl_lightning.evaluation.trained import device_named
    from rairl_lightning.exporting import Target, check_repository, export_policy, export_reward, push
    from rairl_lightning.exporting.card import card, measured, record
    from rairl_lightning.exporting.folder import CARD, RECORD
    from rairl_lightning.exporting.snippet import HERE
    from rairl_lightning.exporting.texts import run_of
    from rairl_lightning.reporting.sections import Sources

    target = Target(out, overwrite)
    target.check()
    artefact = Artefact.read(run, run_config, plugins, needs_reward=what == "reward").with_backbone(backbone)
    if push_to_hub is not None:
        check_repository(push_to_hub)
    home = run_of(artefact.path)
    found = measured(Sources(home, None, _result(home, "rerank", rerank), _result(home, "localise", localise)))
    write = export_policy if what == "policy" else export_reward
    with target.writing() as folder:
        exported = write(artefact, folder, device_named(device), merged=merged, name=push_to_hub or HERE)
        print(f"{exported.gap.sentence[0].upper()}{exported.gap.sentence[1:]}.")
        if not force:
            exported.gap.check(tolerance, merged=merged)
        title = (push_to_hub or out.resolve().name).rpartition("/")[2]
        (folder / CARD).write_text(card(artefact, exported, found, title), encoding="utf-8")
        names = [*(file.name for file in folder.iterdir()), RECORD]
        write_summary(folder / RECORD, record(artefact, exported, found, names))
    print(f"Saved {out}: a {what}, {'an adapter' if exported.adapter else 'a whole model'}, {len(names)} files.")
    if push_to_hub is not None:
        print("Uploaded: " + push(out, names, push_to_hub, private=private, message=f"rairl export: {what}"))


def _result(run: Path, name: str, given: Path | None) -> Path | None:
    own = run / name
    return given if given is not None else own if own.is_dir() else None
