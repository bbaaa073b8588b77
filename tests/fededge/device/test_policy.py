"""The policy file: read strictly, again when it changes, and the first rule that is for an order decides."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge.device.policy import Loaded, PolicyFile
from fededge.errors import SiteError
from tests.enrolled_site import EnrolledSite
from tests.stand_in_gateway import KEY

pytestmark = pytest.mark.environment("edge")


FOLLOWED = {"task": "a", "class": "b", "trusted_key": "coordinator.pub.pem"}


@pytest.fixture
def site(tmp_path: Path) -> EnrolledSite:
    return EnrolledSite(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ["train", "sell"]}, "rules.0.kinds.1"),
        ({"min_clients": 0}, "rules.0.min_clients"),
        (
            {"rounds_per_day": "many"},
            "rules.0.rounds_per_day: Input should be a valid integer (found 'many')",
        ),
        (
            {"limits": {"memory": 1}},
            "rules.0.limits.memory: there is no such key",
        ),
        ({"signers": []}, "rules.0.signers"),
        ({"signers": ["missing.pem"]}, "rules.0.signers: cannot read"),
        ({"signers": ["policy.yaml"]}, "rules.0.signers"),
        ({"datasets": {"steps": "data"}, "tasks": []}, "rules.0.tasks"),
        ({"name": "../x"}, "rules.0.name"),
        ({"code": 1}, "rules.0.code"),
        ({"hosts": "a"}, "hosts"),
        ({"hosts": ["[::1"]}, "hosts.0"),
        ({"datasets": {}}, "datasets"),
        ({"conditions": {"always": {"charging": "yes"}}}, "conditions.always.charging"),
        ({"conditions": {"time_zone": "Mars/Olympus"}}, "conditions.time_zone: Value error, no time zone"),
        ({"conditions": {"max_age_seconds": 0}}, "conditions.max_age_seconds"),
        ({"releases": [{"task": "a", "class": "b"}]}, "releases.0.trusted_key"),
        ({"releases": [{"task": "a", "class": "b", "trusted_key": "missing.pem"}]}, "releases.0.trusted_key"),
        ({"releases": [FOLLOWED, dict(FOLLOWED)]}, "releases lists a task twice"),
        ({"serving": {"port": 0}}, "serving.port"),
        ({"poll_seconds": 0}, "poll_seconds"),
    ],
)
def test_a_mistake_is_told_by_its_key_in_one_line(
    site: EnrolledSite, changes: dict[str, Any], message: str
) -> None:
    site.write_policy(**changes)
    with pytest.raises(SiteError) as refused:
        Loaded(site.policy_file)
    assert message in str(refused.value)
    assert str(site.policy_file) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "rules: {", "rules: &a [*a]", "\0", "datasets: {}\ndatasets: {}", "- - - -"]
)
def test_what_is_no_policy_is_refused(site: EnrolledSite, text: str) -> None:
    site.policy_file.write_text(text)
    with pytest.raises(SiteError):
        Loaded(site.policy_file)


def test_rules_are_named_once_and_speak_of_datasets_that_there_are(site: EnrolledSite) -> None:
    policy = yaml.safe_load(site.policy_file.read_text())
    site.policy_file.write_text(json.dumps(policy | {"rules": policy["rules"] * 2}))
    with pytest.raises(SiteError, match="two rules 'ada'"):
        Loaded(site.policy_file)
    site.write_policy(datasets={"other": "data"})
    with pytest.raises(SiteError, match=r"'steps' is none of datasets \(other\)"):
        Loaded(site.policy_file)


def test_the_first_rule_for_task_owner_signer_and_dataset_decides(site: EnrolledSite) -> None:
    policy = yaml.safe_load(site.policy_file.read_text())
    first = policy["rules"][0]
    rules = [
        first | {"name": "theirs", "owners": ["bob"]},
        first | {"name": "heart", "tasks": ["heart-?"]},
        first | {"name": "wear", "tasks": ["wear*", "steps"]},
        first | {"name": "all", "tasks": ["*"], "owners": ["*"]},
    ]
    site.policy_file.write_text(json.dumps(policy | {"rules": rules}))
    loaded = Loaded(site.policy_file)

    def found(
        task: str, owner: str = "ada", signer: str = KEY.public.id, dataset: str = "steps"
    ) -> str | None:
        rule = loaded.rule_for(task, owner, signer, dataset)
        return rule.name if rule else None

    assert found("wearables") == "wear"
    assert found("wearables", "bob") == "theirs"
    assert found("heart-2") == "heart"
    assert found("heart-22") == "all"
    assert found("wearables", signer="sha256:0") is None
    assert found("wearables", dataset="pulse") is None


def test_a_policy_is_read_again_when_it_or_a_key_changes(site: EnrolledSite, tmp_path: Path) -> None:
    policy = PolicyFile(site.policy_file)
    first = policy.current()
    assert policy.current() is first
    site.write_policy(min_clients=9)
    assert policy.current().policy.rules[0].min_clients == 9
    (tmp_path / "coordinator.pub.pem").write_bytes(b"no key")
    for _ in range(2):
        with pytest.raises(SiteError, match=r"rules\.0\.signers"):
            policy.current()
    (tmp_path / "coordinator.pub.pem").write_bytes(KEY.public.pem)
    assert policy.current().key(KEY.public.id) is not None


def test_a_policy_without_rules_follows_releases_and_one_without_either_is_none(site: EnrolledSite) -> None:
    site.policy_file.write_text(yaml.safe_dump({"releases": [FOLLOWED]}))
    loaded = Loaded(site.policy_file)
    assert loaded.releases["a"][1].id == KEY.public.id
    assert loaded.rule_for("a", "ada", KEY.public.id, "steps") is None
    site.policy_file.write_text(yaml.safe_dump({"hosts": ["bucket"]}))
    with pytest.raises(SiteError, match="no rules, no releases and no program"):
        Loaded(site.policy_file)
