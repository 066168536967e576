"""Writes the JSON schema of the site file, for editors.

python -m bandoneon.site.schema deploy/schema/site.schema.json
"""

import json
import sys
from pathlib import Path

from bandoneon.site.model import Site


def schema() -> str:
    """Return the schema as text, the same for the same model."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Site.model_json_schema(by_alias=True)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema())
