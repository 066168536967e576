"""What is pure loads no Tango, and what has to be quick loads nothing heavy."""

import subprocess
import sys
import tomllib

import pytest

from tests.support import REPOSITORY

CONTRACT = "Tango stays at the edge"

MORE = ("bandoneon.site.reader", "bandoneon.site.desired", "bandoneon.site.schema", "bandoneon.client.texts")
"""Pure too, though the contract does not name them."""

HEAVY = ("tango", "pydantic", "numpy", "polars", "pyarrow", "h5py", "rich", "taurus", "PyQt6")


def contract() -> tuple[list[str], list[str]]:
    """The modules that must stay pure, and what they must not load, as the layers' own contract has them."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    found = next(one for one in settings["tool"]["importlinter"]["contracts"] if one["name"] == CONTRACT)
    return [module for pattern in found["source_modules"] for module in modules(pattern)], found["forbidden_modules"]


def modules(pattern: str) -> list[str]:
    """Every module that a pattern like `a.*.b` names, packages with all that is in them."""
    path = pattern.replace(".", "/")
    files = [*REPOSITORY.glob(f"{path}.py"), *REPOSITORY.glob(f"{path}/**/*.py")]
    names = [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files]
    return sorted(name.removesuffix(".__init__") for name in names)


def loaded(code: str, names: list[str] | tuple[str, ...]) -> list[str]:
    """Which of `names` a fresh interpreter has loaded after `code`."""
    report = f"\nimport sys\nprint(*(name for name in {list(names)!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


def test_the_contract_names_modules_that_exist() -> None:
    """Each line of the contract stands for at least one file."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    found = next(one for one in settings["tool"]["importlinter"]["contracts"] if one["name"] == CONTRACT)
    assert [pattern for pattern in found["source_modules"] if not modules(pattern)] == []


def test_pure_modules_load_no_tango() -> None:
    """All of them together, in one fresh interpreter, bring neither Tango nor windows."""
    pure, forbidden = contract()
    assert len(pure) > 30
    assert loaded("\n".join(f"import {name}" for name in (*pure, *MORE)), forbidden) == []


@pytest.mark.parametrize("name", ["bandoneon", "bandoneon.client", "bandoneon.cli", "bandoneon.cli.app", "archiver"])
def test_packages_load_nothing_heavy(name: str) -> None:
    """What everyone imports first costs nothing."""
    assert loaded(f"import {name}", HEAVY) == []


def test_help_loads_nothing_heavy() -> None:
    """The help of the program needs neither Tango nor the site's model."""
    code = (
        "import contextlib, sys\nfrom bandoneon.cli import main\nsys.argv = ['bandoneon', '--help']\n"
        "with contextlib.suppress(SystemExit):\n    main()"
    )
    assert loaded(code, HEAVY) == []
