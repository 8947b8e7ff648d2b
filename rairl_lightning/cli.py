"""The command ``rairl``. Nothing heavy is imported until there is something to run."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pickle import UnpicklingError

from rairl_lightning.commands import COMMANDS
from rairl_lightning.errors import CheckpointError, RAIRLError
from rairl_lightning.evaluation.provenance import versions
from rairl_lightning.text.visible import visible

_USES = "".join(f"  {name:<10} {about}\n" for name, about in COMMANDS.items())

HELP = f"""\
rairl: learn a reasoning reward from expert demonstrations, and use it.

Start here
  rairl fit --config configs/quickstart.yaml      train a tiny model, on a CPU, in minutes
  rairl fit --config configs/gsm8k.yaml           train on GSM8K demonstrations
  rairl fit --config configs/gsm8k_sft.yaml       the baselines: gsm8k_sft.yaml, gsm8k_grpo.yaml
  rairl score --reward runs/quickstart --traces TraceFile --traces.path runs/quickstart/traces.jsonl

Commands
  fit        train the policy and its reward on expert demonstrations
  validate   pass@1 of a checkpoint on the test questions
  test       the same, and what the reward is worth there: reranking, localisation
  predict    the policy's answers to the test questions
{_USES}  completion a shell script that completes all this: rairl completion bash (or zsh)

Change anything
  --config a.yaml --config b.yaml                 files are merged, the later wins
  --model.reward ClippedLogit                     swap a part by its class
  --trainer.fast_dev_run true                     rehearse: a round of every phase, nothing is kept
  --print_config                                  what differs from the defaults, explained; =full shows all
  --ckpt_path last                                continue a run (or a file's path); what you configure stays
  --trainer.default_root_dir FOLDER               where it writes; without one in runs/, by date and name

Ctrl-C ends a run after the round under way and saves it; twice, at once.
rairl COMMAND --help lists every option, --version the versions in use, --debug shows where an error arose.
"""

INTERRUPTED = 128 + 2
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: arguments without the program's name; those of the process if None.

    Returns:
        0, the error's ``exit_code``, 2 for a wrong configuration, 130 after Ctrl-C, 143 after SIGTERM.
    """
    given = list(sys.argv[1:] if args is None else args)
    arguments = [argument for argument in given if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        print("\n".join(versions()))
        return 0
    return guarded(lambda: _launch(arguments), debug=arguments != given or os.environ.get("RAIRL_DEBUG") == "1")


def guarded(command: Callable[[], None], *, debug: bool = False) -> int:
    """Run ``command`` and turn its end into an exit code, its errors into one message each.

    Args:
        command: what to run.
        debug: let errors through with their traceback.
    """
    try:
        command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (RAIRLError, OSError, UnpicklingError) as error:
        known = error if isinstance(error, RAIRLError) else _explained(error)
        if debug or known is None:
            raise
        print(visible(f"error: {known}", keep="\n"), file=sys.stderr)  # it may quote a file
        return known.exit_code
    return 0


def _launch(arguments: Sequence[str]) -> None:
    # Before torch is loaded: on a CPU shared with other work, threads that spin while they wait made steps of a small
    # model up to 50 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from rairl_lightning.cli_quiet import no_loading_bars, quieten

    quieten()
    if arguments[0] == "plan":
        from rairl_lightning.cli_plan import launch as launch_plan

        launch_plan(arguments[1:])
        return
    if arguments[0] == "completion":
        from rairl_lightning.cli_completion import launch as launch_completion

        launch_completion(arguments[1:])
        return
    if arguments[0] in COMMANDS:
        from rairl_lightning.cli_commands import launch as launch_command

        launch_command(arguments[0], arguments[1:])
        return
    from rairl_lightning.cli_parser import launch

    no_loading_bars()
    launch(arguments)


def _explained(error: OSError | UnpicklingError) -> RAIRLError | None:
    if isinstance(error, UnpicklingError):
        return CheckpointError(
            "The checkpoint holds more than tensors and plain values; nothing of it was run.",
            got=str(error).partition("\n")[0],
            remedy="use a checkpoint of rairl_lightning; --weights_only false reads one that you trust",
        )
    kinds = FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError
    if isinstance(error, kinds) or error.errno == errno.EROFS:
        return CheckpointError(
            "A file cannot be read or written.",
            got=error,
            remedy="check the path (--ckpt_path, --config, --out, --trainer.default_root_dir) and its permissions",
        )
    if error.errno not in DISK_FULL:
        return None
    return CheckpointError(
        "The disk is full: the last file was not written, earlier checkpoints are whole.",
        got=error,
        remedy="free some space, or point --trainer.default_root_dir elsewhere, then continue with --ckpt_path",
    )
