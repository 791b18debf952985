"""Fetch what `vendor.toml` lists, or compare what is here with it: `python .ci/vendor.py [--check]`.

Fetching needs npm; what it gets is taken only if it is what the file says.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def differences(package: dict[str, Any]) -> list[str]:
    """Say which files are missing, changed, or not listed."""
    folder = ROOT / package["folder"]
    wanted = {Path(path).name: digest for path, digest in package["files"].items()}
    here = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*")}
    return [
        f"{folder.relative_to(ROOT) / name}: SHA-256 is {here.get(name, 'none, it is missing')}, "
        f"expected {wanted.get(name, 'no such file')}"
        for name in sorted(wanted.keys() | here.keys())
        if wanted.get(name) != here.get(name)
    ]


def fetch(package: dict[str, Any]) -> None:
    """Get the package of npm, and take its files if it has the integrity that is listed. Raises SystemExit."""
    with tempfile.TemporaryDirectory() as scratch:
        named = f"{package['name']}@{package['version']}"
        subprocess.run(["npm", "pack", named, "--silent"], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        [archive] = Path(scratch).glob("*.tgz")
        method, _, expected = package["integrity"].partition("-")
        seen = base64.b64encode(hashlib.new(method, archive.read_bytes()).digest()).decode()
        if seen != expected:
            sys.exit(f"{named}: integrity is {method}-{seen}, expected {package['integrity']}")
        folder = ROOT / package["folder"]
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as opened:
            for path in package["files"]:
                member = opened.extractfile(f"package/{path}")
                assert member is not None
                (folder / Path(path).name).write_bytes(member.read())


def main() -> None:
    packages = tomllib.loads((ROOT / "vendor.toml").read_text())["package"]
    if "--check" not in sys.argv[1:]:
        for package in packages:
            fetch(package)
    found = [line for package in packages for line in differences(package)]
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
