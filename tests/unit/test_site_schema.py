"""The committed JSON schema of the site file."""

import json
from typing import Any

import pytest
import yaml

from bandoneon.site.schema import schema
from tests.support import REPOSITORY

COMMITTED = REPOSITORY / "deploy" / "schema" / "site.schema.json"


def test_the_committed_schema_is_up_to_date() -> None:
    """`python -m bandoneon.site.schema deploy/schema/site.schema.json` would change nothing."""
    assert COMMITTED.read_text() == schema()


@pytest.mark.parametrize("name", ["site.yaml", "compose.site.yaml"])
def test_the_committed_sites_name_the_schema(name: str) -> None:
    """An editor finds the schema by the file's first line, and every key of the file is in it."""
    text = (REPOSITORY / "deploy" / name).read_text()
    assert text.startswith("# yaml-language-server: $schema=schema/site.schema.json\n")
    assert yaml.safe_load(text).keys() <= json.loads(COMMITTED.read_text())["properties"].keys()


def test_no_part_allows_unknown_keys_and_each_key_is_explained() -> None:
    """An editor can underline a misspelt key and show what a key is for."""
    content: dict[str, Any] = json.loads(COMMITTED.read_text())
    for part in [content, *content["$defs"].values()]:
        assert part["additionalProperties"] is False
    instrument = content["$defs"]["Instrument"]["properties"]
    assert [key for key, value in instrument.items() if not value.get("description")] == []
