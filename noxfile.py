"""The project's sessions: `nox --list`."""

import json
import shlex
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typecheck", "tests"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    session.env["PYTHONDONTWRITEBYTECODE"] = ""  # otherwise each process compiles torch again
    session.install("--constraint", "constraints.txt", "--editable", ".", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def bench(session: nox.Session) -> None:
    """Run a suite (digits by default) and write its report under reports/."""
    install(session)
    session.run("vae-variants", "bench", *session.posargs)


@nox.session
def reports(session: nox.Session) -> None:
    """Write each committed report again from its archive, and the leaderboard, after a change of the report's code."""
    install(session)
    headers = sorted(Path("reports").glob("*/archive.json"))
    session.run("vae-variants", "leaderboard", *(str(header.parent) for header in headers))
    for header in headers:
        command = json.loads(header.read_text(encoding="utf-8"))["report"]["command"]
        session.run("vae-variants", "report", *shlex.split(command)[2:], "--records", str(header.parent))


@nox.session
def claims(session: nox.Session) -> None:
    """Test the textbook's claims (by default at the preset quick on digits) and write reports/claims."""
    install(session)
    session.run("vae-variants", "study", *(session.posargs or ["--fidelity", "quick"]))


def pytest(session: nox.Session, *arguments: str) -> None:
    """Each core runs one test file at a time, in the order of `tests/conftest.py`, so that no long file starts last."""
    install(session, "test")
    spread = ["--numprocesses=auto", "--dist=loadfile", "--no-loadscope-reorder"]
    session.run("pytest", *spread, *arguments, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests."""
    pytest(session)


@nox.session
def quick(session: nox.Session) -> None:
    """Run the tests that take less than a minute together."""
    pytest(session, "-m", "not slow and not process and not browser")


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant known bugs in a copy of the project, one at a time, and expect the named tests to fail."""
    install(session, "test")
    session.run("python", "tests/mutate.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill a suite a hundred times and compare its results; fuzz each kind of input with ten thousand cases."""
    install(session, "test")
    session.run("python", "tests/faults/kills.py", "--kills", "80")
    session.run("python", "tests/faults/kills.py", "--kills", "20", "--engine", "ray", "--jobs", "2")
    session.run("python", "tests/faults/reports.py", "--kills", "20", "--disks", "20")
    session.run("pytest", "tests/harness/test_fuzz.py", "tests/report/test_strangers.py", env={"FUZZ": "10000"})


@nox.session
def docs(session: nox.Session) -> None:
    """Run the notebooks of the course, and build the site of README, docs and reports: build/site/index.html."""
    install(session, "docs")
    session.run(
        "sphinx-build", "--fail-on-warning", "--keep-going", "-c", "docs/site", "-d", "build/doctrees", *session.posargs, ".", "build/site"
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("--constraint", "constraints.txt", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types."""
    install(session, "typecheck")
    session.run("mypy")


@nox.session
def speed(session: nox.Session) -> None:
    """Run the benchmarks; compare ratios within one run only."""
    install(session, "test")
    session.run(
        "pytest",
        "bench/speed",
        "--benchmark-only",
        "--benchmark-group-by=group",
        "--benchmark-columns=median,iqr,ops,rounds",
        *session.posargs,
    )


@nox.session
def peers(session: nox.Session) -> None:
    """Compare with Pythae and a plain loop on an idle machine, and write reports/speed."""
    install(session, "test", "peers")
    session.run("pytest", "bench/peers", "-p", "no:cacheprovider")
    session.run("python", "bench/peers/measure.py", *session.posargs)
    session.run("python", "bench/peers/report.py")
