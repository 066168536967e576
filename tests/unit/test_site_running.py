"""The site that is up on this machine: remembered per site, the last one as default."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bandoneon.errors import SiteError
from bandoneon.site.running import RunningSite, default_data, default_root
from tests.journals import files_limited_to


def site(root: Path, name: str, port: int = 1) -> RunningSite:
    """A site that was brought up below `root`."""
    found = RunningSite(name, f"127.0.0.1:{port}", data=root / "data", run=root / name, host="local", hosts=["local"])
    found.write()
    return found


def test_the_last_site_is_the_default_and_each_is_found_by_name(tmp_path: Path) -> None:
    """A second site replaces the default and not the first one's own file."""
    first, second = site(tmp_path, "first", 1), site(tmp_path, "second", 2)
    assert RunningSite.find(tmp_path) == second
    assert RunningSite.find(tmp_path, "first") == first
    assert first.socket == tmp_path / "first" / "spawner.sock"
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second", "site.json"}


def test_where_nothing_was_brought_up(tmp_path: Path) -> None:
    """The sentence says how to begin, or which sites there are."""
    with pytest.raises(SiteError, match=r"no site is up here: bring one up with `./run up`"):
        RunningSite.find(tmp_path)
    with pytest.raises(SiteError, match="site x is not up here"):
        RunningSite.find(tmp_path, "x")
    site(tmp_path, "first")
    with pytest.raises(SiteError, match="never brought up here; known are: first"):
        RunningSite.find(tmp_path, "x")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"site": "x"}', '{"site": 1, "run": 2, "data": 3, "more": 4}'])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    """Whatever is in it, the answer is one sentence."""
    (tmp_path / "site.json").write_text(text)
    with pytest.raises(SiteError, match=r"run `./run up` again"):
        RunningSite.find(tmp_path)


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    """What was added since has a default."""
    site(tmp_path, "first")
    path = tmp_path / "site.json"
    kept = json.loads(path.read_text())
    del kept["hosts"]
    path.write_text(json.dumps(kept))
    assert RunningSite.find(tmp_path).hosts == []


def test_a_full_disk_leaves_what_was_known_and_no_rubbish(tmp_path: Path) -> None:
    """A site that cannot be written down is an error; the file of before is whole."""
    known = site(tmp_path, "first")
    with files_limited_to(100), pytest.raises(OSError, match="File too large"):
        replace(known, host="other").write()
    assert RunningSite.find(tmp_path, "first") == known
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["site.json"]


def test_directories_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """BANDONEON_RUN and BANDONEON_DATA win over the present directory; both are absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BANDONEON_RUN", raising=False)
    monkeypatch.delenv("BANDONEON_DATA", raising=False)
    assert default_root() == tmp_path / ".run"
    assert default_data("demo") == tmp_path / "data" / "demo"
    monkeypatch.setenv("BANDONEON_RUN", "other")
    monkeypatch.setenv("BANDONEON_DATA", "/there")
    assert default_root() == tmp_path / "other"
    assert default_data("demo") == Path("/there")
