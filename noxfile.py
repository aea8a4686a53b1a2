"""Everything one does with the project: `nox --list`."""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typecheck", "tests"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    session.env["PYTHONDONTWRITEBYTECODE"] = ""  # uv compiles nothing, and each process would compile torch for itself
    session.install("--constraint", "constraints.txt", "--editable", ".", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def bench(session: nox.Session) -> None:
    """Run what is missing of a suite (digits unless named) and write its report under reports/."""
    install(session)
    session.run("vae-variants", "bench", *session.posargs)


@nox.session
def claims(session: nox.Session) -> None:
    """Put the textbook's claims to the test, quickly and on digits unless told otherwise, and write reports/claims."""
    install(session)
    session.run("vae-variants", "study", *(session.posargs or ["--fidelity", "quick"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, a file at a time on each core."""
    install(session, "test")
    spread = ["--numprocesses=auto", "--dist=loadfile", "--no-loadscope-reorder"]  # by name: a long file must not be the last to begin
    session.run("pytest", *spread, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def mutants(session: nox.Session) -> None:
    """Put known bugs into a copy of the project, one at a time, and see that the tests named for each catch it."""
    install(session, "test")
    session.run("python", "tests/mutate.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill a suite a hundred times and compare what it ends with; try ten thousand cases of everything that is read."""
    install(session, "test")
    session.run("python", "tests/faults/kills.py", "--kills", "80")
    session.run("python", "tests/faults/kills.py", "--kills", "20", "--engine", "ray", "--jobs", "2")
    session.run("pytest", "tests/harness/test_fuzz.py", env={"FUZZ": "10000"})


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
    """Time the hot paths, each beside what it is compared with."""
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
    """Train, score and sample in turn with Pythae and a plain loop, and write reports/speed, on an idle machine."""
    install(session, "test", "peers")
    session.run("pytest", "bench/peers", "-p", "no:cacheprovider")
    session.run("python", "bench/peers/measure.py", *session.posargs)
    session.run("python", "bench/peers/report.py")
