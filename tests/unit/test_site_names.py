"""Names in a site file that nothing has: each is refused with its place and what is allowed."""

from pathlib import Path

import pytest

from bandoneon.cli.wanted import wanted_of
from bandoneon.errors import SiteError
from bandoneon.site.reader import read_site
from tests.support import REPOSITORY

WHOLE = """\
site: bench
instruments:
  - name: lab/power/1
    class: Newport1830C
    simulate: {model: newport_1830c, setup: default}
    properties: {logging_level: DEBUG}
    quantities:
      POWER: {deadband: 1.0e-9}
      poll_count: {period_s: 1}
  - name: lab/bus/1
    class: ElliptecBus
    connection: tcp://a:1
  - {name: lab/rotator/1, class: ELL14, bus: lab/bus/1, properties: {address: "2", allow_exchange: true}}
supervision:
  servers:
    Newport1830C/*: {max_restarts: 9}
"""


def refusal(tmp_path: Path, text: str) -> SiteError:
    """The error that what `text` asks for is refused with."""
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(SiteError) as caught:
        wanted_of(read_site(path, {}))
    return caught.value


@pytest.mark.parametrize("name", ["site.yaml", "compose.site.yaml"])
def test_the_committed_sites_name_what_there_is(name: str) -> None:
    """Nothing in deploy/ is refused."""
    assert wanted_of(read_site(REPOSITORY / "deploy" / name, {}))


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "said"),
    [
        (
            "POWER:",
            "powwer:",
            8,
            "instruments.0.quantities.powwer",
            "has no quantity powwer; did you mean power? Allow",
        ),
        (
            "{address",
            "{adress",
            13,
            "instruments.2.properties.adress",
            "ELL14 has no property adress; did you mean add",
        ),
        ("newport_1830c", "newport_1830", 5, "instruments.0.simulate.model", "Allowed are: ell14, newport_1830c"),
        (
            "setup: default",
            "setup: x",
            5,
            "instruments.0.simulate.setup",
            "newport_1830c has no setup x; Allowed are: ",
        ),
        ("1830C/*", "1830/*", 16, "supervision.servers.Newport1830/*", "fits no server; did you mean Newport1830C/lab"),
        ("1830C/*", "X*", 16, "supervision.servers.NewportX*", "Allowed are: ElliptecBus/lab_bus_1, Newport1830C/lab"),
    ],
)
def test_a_name_that_nothing_has_is_refused(
    tmp_path: Path, before: str, after: str, line: int, key: str, said: str
) -> None:
    """File, line, key, and what is allowed there."""
    assert before in WHOLE
    error = refusal(tmp_path, WHOLE.replace(before, after, 1))
    assert (error.line, error.key) == (line, key)
    assert said in str(error)
