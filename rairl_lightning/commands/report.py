"""``rairl report``: one page about a run."""

from __future__ import annotations

from pathlib import Path

from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.evaluation.run_names import latest
from rairl_lightning.functional._checks import check_number

PAGE = "report.html"


def report(
    run: Path | None = None,
    out: Path | None = None,
    against: Path | None = None,
    rerank: Path | None = None,
    localise: Path | None = None,
    scores: Path | None = None,
    traces: int = 6,
) -> None:
    """Write one self-contained HTML page about a run: no server, no network, nothing to install to read it.

    Example:
      rairl report
      rairl report runs/gsm8k --against runs/gsm8k_dense --rerank runs/rerank --localise runs/localise

    On the page: results and verdict; the curves of both players with the phases marked; findings of Health and of the
    leak probes; accuracy at every N beside every other way to choose; reliability; localisation; traces with each token
    on the colour of its reward, the expert's beside them (hover, tap, or arrow keys show value, position, step and
    log-probability); perturbed demonstrations with the true and the predicted place; the configuration, and what
    differs from another run's.

    It reads files only (config.yaml, TensorBoard's events, what callbacks and commands wrote) and loads no model. What
    a run does not have is left out, and the page says so. A page of an earlier report is replaced.

    Args:
        run: a run's folder; may be given without --run. Without one, that of the run started last in runs/.
        out: file to write; RUN/report.html without it.
        against: another run's folder: its curves are drawn dashed, and the differing settings listed.
        rerank: folder that `rairl rerank` wrote; RUN/rerank if that is there.
        localise: folder that `rairl localise` wrote; RUN/localise if that is there.
        scores: folder that `rairl score --tokens true` wrote; its traces are shown with the run's own; RUN/score if
            that is there.
        traces: traces of each kind to show (best, worst, wrong but paid, right but unpaid), and perturbed pairs, 1-100.
    """
    check_number("traces", traces, at_least=1)
    if traces > 100:
        raise ConfigError("The page would be too large.", expected="--traces 1 to 100", got=traces)
    run = latest() if run is None else run
    if run is None:
        raise CheckpointError("There is no run in runs/.", got="none", remedy="give its folder: rairl report FOLDER")
    given = {"run": run, "against": against, "rerank": rerank, "localise": localise, "scores": scores}
    for name, folder in given.items():
        if folder is not None and not folder.is_dir():
            raise CheckpointError(
                f"--{name} is not a folder.", got=folder, remedy="give the folder that the command wrote"
            )
    from rairl_lightning.reporting.page import GENERATOR, render
    from rairl_lightning.reporting.sections import Sources

    page = run / PAGE if out is None else out
    if page.exists() and GENERATOR not in _head(page):
        raise ConfigError("There is a file that no report wrote.", got=page, remedy="give another --out")
    sources = Sources(run, against, *(_result(run, name, given[name]) for name in ("rerank", "localise", "scores")))
    text = render(sources, traces)
    page.parent.mkdir(parents=True, exist_ok=True)
    partial = page.with_name(f"{page.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(page)
    print(f"Saved {page}: {page.stat().st_size / 1e6:.2f} MB.")


def _result(run: Path, name: str, given: Path | None) -> Path | None:
    own = run / {"scores": "score"}.get(name, name)
    return given if given is not None else own if own.is_dir() else None


def _head(page: Path) -> str:
    with page.open("rb") as file:
        return file.read(4096).decode("utf-8", "replace")
