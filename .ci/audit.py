"""Known vulnerabilities of the versions in requirements.lock: fails for any, and says what could not be checked."""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ServiceError", "Max retries", "HTTPError")


def main(lock: Path = LOCK) -> int:
    """Ask PyPI's database by pip-audit; 1 if it knows of a vulnerability, or says what nobody expected."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    asked = subprocess.run(
        [*command, "--progress-spinner", "off", "--format", "json"], capture_output=True, text=True, check=False
    )
    if not asked.stdout.strip():
        if any(sign in asked.stderr for sign in UNREACHABLE):
            print("audit: the database cannot be reached from here; NOTHING was checked")
            return 0
        print(asked.stderr, file=sys.stderr)
        return 1
    return report(json.loads(asked.stdout)["dependencies"])


def report(dependencies: list[dict]) -> int:
    """Print what was found.

    >>> report([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}])
    audit: 1 packages without a known vulnerability, 0 with one, 1 that could not be checked
    0
    """
    checked = [one for one in dependencies if "skip_reason" not in one]
    bad = [one for one in checked if one["vulns"]]
    for one in bad:
        for vulnerability in one["vulns"]:
            fixed = ", ".join(vulnerability.get("fix_versions") or ["no version"])
            print(f"audit: {one['name']} {one['version']}: {vulnerability['id']}, mended in {fixed}")
    if not checked:
        print("audit: the package index in use has no database of vulnerabilities; NOTHING was checked")
        return 0
    left = len(dependencies) - len(checked)
    print(
        f"audit: {len(checked) - len(bad)} packages without a known vulnerability, {len(bad)} with one, "
        f"{left} that could not be checked"
    )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
