"""Builds the wheel and the source distribution of what is committed, and tries both outside the repository.

``python -m tools.release`` (``make release-check``) needs the packages build and twine, and a network for what the
package depends on. Each of the two is checked by twine, has to hold every file of the package that git knows, and is
installed into an empty environment, in which its files compile without a warning and the command line and the README's
Python run in another folder. ``--python python3.13`` makes the environment of another Python, and may be given several
times; ``--environment FOLDER`` takes one that is there, with its packages; ``--demo`` plays the demonstration too.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"src/nashward": "nashward"} | {f: f"nashward/{f}" for f in ("configs", "games", "llm", "theory")}
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
RELATIVE = re.compile(r"\]\((?!https?://)")  # a link that leads nowhere on the page of a package index


def packaged(tracked: list[str]) -> set[str]:
    """Where a wheel has the files of the package, from their paths in the repository.

    Example:
        >>> sorted(packaged(["games/step.py", "src/nashward/cli/main.py", "docs/index.md"]))
        ['nashward/cli/main.py', 'nashward/games/step.py']
    """
    return {
        name.replace(folder, place, 1)
        for name in tracked
        for folder, place in FOLDERS.items()
        if name.startswith(f"{folder}/")
    }


def output(*command: str | Path, at: Path = ROOT) -> str:
    """What a command prints; it is shown and ends the check where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=at, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}exit code {done.returncode}"
        )
    return done.stdout


def empty(base: str, folder: Path) -> Path:
    """An environment of that Python, with the CPU build of torch where a package source has it."""
    output(base, "-m", "venv", folder)
    torch = next(line for line in (ROOT / "constraints.txt").read_text().split() if line.startswith("torch=="))
    cpu = (str(folder / "bin" / "python"), *PIP, f"{torch}+cpu")  # else the usual build comes with the package
    subprocess.run(cpu, capture_output=True, check=False)
    return folder


def build(folder: Path) -> list[Path]:
    """The wheel and the source distribution of the last commit."""
    archive, source = folder / "source.tar", folder / "source"
    output("git", "archive", "HEAD", "--output", archive)
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    output(sys.executable, "-m", "build", "--outdir", folder / "dist", source)
    files = sorted((folder / "dist").iterdir())
    output(sys.executable, "-m", "twine", "check", "--strict", *files)
    return files


def check_content(file: Path, tracked: list[str]) -> None:
    """Ends where a distribution lacks a file of the package, or its description has a link into the repository."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as packed:
            lacking = packaged(tracked) - set(packed.namelist())
            (metadata,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
            if link := RELATIVE.search(packed.read(metadata).decode("utf-8")):
                sys.exit(f"{file.name}: its description has a relative link: {link.string[link.start() - 40 :][:80]}")
    else:
        with tarfile.open(file) as unpacked:
            held = {name.partition("/")[2] for name in unpacked.getnames()}
        lacking = {name for name in tracked if packaged([name])} - held
    if lacking:
        sys.exit(f"{file.name} lacks {', '.join(sorted(lacking)[:5])} ({len(lacking)} files)")


def try_out(python: Path, demo: bool) -> None:
    """The command line and the README's Python, in another folder."""
    nashward = python.with_name("nashward")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        assert version in output(nashward, "--version", at=folder)
        place = output(python, "-c", "import nashward; print(nashward.__file__)", at=folder)
        assert str(ROOT) not in place, place
        output(nashward, "zoo", "--page", "zoo.html", at=folder)
        output(nashward, "solve", "mujoco_soccer", "--plot", "nash.png", at=folder)
        assert "sppo-paper" in output(nashward, "config", "--preset", "sppo-paper", at=folder)
        output(python, "-W", "error", "-m", "compileall", "-q", "-f", Path(place.strip()).parent, at=folder)
        align = ("--policy", "pocket:policy", "--oracle", "pocket:pairrm", "--prompts", "pocket:prompts")
        few = ("--out", "run", "--iterations", "1", "--prompts-per-iteration", "12", "--responses", "3")
        output(nashward, "align", *align, *few, "--max-new-tokens", "24", at=folder)
        assert "iteration-01" in output(nashward, "evaluate", "run", at=folder)
        assert (folder / "run" / "report.html").stat().st_size > 10_000
        for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL):
            output(python, "-c", code, at=folder)
        if demo:
            output(nashward, "demo", at=folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=str(__doc__).splitlines()[0])
    parser.add_argument("--python", action="append", help="of an empty environment (default: this one)")
    parser.add_argument("--environment", action="append", type=Path, help="one that is there, in place of a new one")
    parser.add_argument("--demo", action="store_true", help="play the demonstration too, which takes minutes")
    args = parser.parse_args()
    tracked = [name for name in output("git", "ls-files").splitlines() if not (ROOT / name).is_symlink()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = build(folder)
        for file in files:
            check_content(file, tracked)
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB, complete", flush=True)
        environments = list(args.environment or ())
        for base in args.python or ([] if environments else [sys.executable]):
            environments.append(empty(base, folder / f"environment-{len(environments)}"))
        for environment in environments:
            python = environment / "bin" / "python"
            for file in files:
                output(python, *PIP, "--constraint", ROOT / "constraints.txt", f"{file}[llm]")
                output(python, *PIP, "--force-reinstall", "--no-deps", file)  # the other one has the same version
                try_out(python, args.demo)
                version = output(python, "--version").strip()
                print(f"{version}: {file.name} installs and runs", flush=True)


if __name__ == "__main__":
    main()
