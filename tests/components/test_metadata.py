"""Each component's metadata.yaml, by the format of Kubeflow's collection of components."""

from pathlib import Path

import jsonschema
import pytest
import yaml

COMPONENTS = Path(__file__).resolve().parents[2] / "components"
SCHEMA = yaml.safe_load(Path(__file__).with_name("metadata_schema.yaml").read_text())
FOLDERS = sorted(file.parent for file in COMPONENTS.glob("*/*/component.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_component_is_described_in_kubeflows_format(folder: Path) -> None:
    described = yaml.safe_load((folder / "metadata.yaml").read_text())
    described["lastVerified"] = described["lastVerified"].isoformat()
    jsonschema.validate(described, SCHEMA)
    assert described["name"] == folder.name
    ordered = [key for key in described if key in SCHEMA["required"]]
    assert ordered == SCHEMA["required"]
