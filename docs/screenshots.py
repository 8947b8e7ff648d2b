"""Pictures of the report for these pages, by headless Chromium (Debian's ``chromium``).

    rairl fit --config configs/quickstart.yaml --config own.yaml     # a short run, as in docs/tutorial.md
    python docs/screenshots.py runs/own

Writes ``report-light.png``, ``report-dark.png``, ``report-narrow.png`` and ``report-curves.png``; look at them before
they are committed. Without Chromium nothing is done.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rairl_lightning.commands.report import report

LIGHT, DARK = 1, 0  # of Blink's preferred colour scheme
COLOURS = 255
LARGEST = 200_000  # bytes of a picture


@dataclass(frozen=True)
class Shot:
    """A window on the page: its size in pixels, and the part that is shown."""

    name: str
    width: int
    height: int
    scheme: int = LIGHT
    section: str = ""


SHOTS = (
    Shot("light", 1280, 1500),
    Shot("dark", 1280, 1500, DARK),
    Shot("narrow", 500, 1500),
    Shot("curves", 1280, 1900, section="curves"),
)


def shoot(chromium: str, page: Path, shot: Shot, out: Path) -> Path:
    """Take one picture, in few colours."""
    if shot.section:  # Chromium does not scroll to a fragment before it takes the picture
        text = page.read_text(encoding="utf-8")
        start = text.index(f'<section id="{shot.section}">')
        page = page.with_name(f"{shot.section}.html")
        page.write_text(text[: text.index("<header>")] + "<main>" + text[start:], encoding="utf-8")
    picture = out / f"report-{shot.name}.png"
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}", f"--blink-settings=preferredColorScheme={shot.scheme}",
        f"--window-size={shot.width},{shot.height}", f"--screenshot={picture}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            picture, optimize=True
        )
    if picture.stat().st_size > LARGEST:
        raise SystemExit(f"{picture} has {picture.stat().st_size} bytes; at most {LARGEST} are wanted")
    return picture


def main() -> None:
    """Write the report of a run, and take its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images", help="folder of the pictures")
    args = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no chromium: no picture was taken.")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        report(args.run, page)
        for shot in SHOTS:
            print(shoot(chromium, page, shot, args.out))


if __name__ == "__main__":
    main()
