"""Attacks on a device: models and plans that are signed and still do harm, a gateway that offers what it wants."""

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fededge import storage
from fededge.device import isolation
from fededge.device.child import Runner, RunnerFailed, Setting
from fededge.device.policy_keys import Limits
from fededge.device.trial import MODEL, tried
from fededge.errors import ReleaseError
from fededge.protocol import Decline, Follow, Hello, Offer, Releases, ReportMessage
from fededge.signing import LIMIT
from tests.enrolled_site import ROOT, EnrolledSite, in_loop
from tests.following_device import FIRST, SECOND, Device, failed, fetches, manifest, runs, signed, told
from tests.stand_in_gateway import KEY, StandInGateway, plan_zip

pytestmark = pytest.mark.environment("edge")
LITERT = ROOT / "tests" / "fixtures" / "litert"
COMMAND = [sys.executable, "-m", "fededge.device.litert_runner"]
FEW = Limits(memory_bytes=400 << 20, seconds=20.0)


def mutants(data: bytes, count: int) -> Iterator[bytes]:
    """Files that are a little other than `data`: bytes changed, taken out, doubled, cut off."""
    chance = random.Random(11)
    for number in range(count):
        changed = bytearray(data)
        at = chance.randrange(len(changed))
        match number % 4:
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + 4] = chance.randbytes(4)
            case 2:
                del changed[at : at + chance.randrange(1, 9)]
            case _:
                del changed[at:]
        yield bytes(changed)


@pytest.mark.slow
def test_whatever_a_model_file_holds_only_the_child_that_tries_it_may_end(tmp_path: Path) -> None:
    isolated = isolation.mistake() is None

    async def scenario() -> None:
        refused = 0
        for mutant in mutants(FIRST, 16):
            folder = tmp_path / "trial"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / MODEL).write_bytes(mutant)
            release = manifest(1, mutant)
            try:
                await tried(folder, release, release.devices["camera"], FEW, None, (), isolated)
            except ReleaseError:
                refused += 1
        assert refused >= 4  # those that are cut off, at least

    in_loop(scenario)


@pytest.mark.slow
def test_whatever_a_plans_model_holds_only_the_runner_may_end(tmp_path: Path) -> None:
    original = (LITERT / "plan" / "client.tflite").read_bytes()
    isolated = isolation.mistake() is None

    async def scenario() -> None:
        failures = 0
        for number, mutant in enumerate(mutants(original, 12)):
            plan = tmp_path / f"plan-{number}"
            shutil.copytree(LITERT / "plan", plan)
            (plan / "client.tflite").write_bytes(mutant)
            setting = Setting(plan, LITERT / "client", (), FEW, KEY.public.pem)
            runner = Runner(COMMAND, tmp_path / "runner", isolated)
            asked = {"do": "train", "seed": 3, "round": 1, "client": "a", "share": 1.0}
            try:
                answered = await runner.ask(setting, asked, LITERT / "weights", tmp_path / "update")
                failures += "error" in answered.answer
            except RunnerFailed:
                failures += 1
            finally:
                await runner.close()
        assert failures >= 3

    in_loop(scenario)


@pytest.mark.parametrize("harm", ["crash", "nonsense", "eat", "spin"])
def test_a_plan_that_does_harm_three_times_is_not_run_again(tmp_path: Path, harm: str) -> None:
    site = EnrolledSite(tmp_path)
    limits = {"memory_bytes": 300_000_000, "cpu_seconds": 0.5, "seconds": 20.0}
    site.write_policy(limits=limits)
    plan = plan_zip(do=harm)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            for number in (1, 2, 3):
                async with site.running(gateway):
                    await gateway.hears(Hello, number)
                    await gateway.tell(gateway.order(number, plan=plan))
                    assert (await gateway.hears(ReportMessage, number)).failure is not None
            async with site.running(gateway):
                await gateway.hears(Hello, 4)
                await gateway.tell(gateway.order(4, plan=plan))
                assert "tried 3 times here" in (await gateway.hears(Decline)).reason
                await gateway.tell(gateway.order(5))
                assert (await gateway.hears(ReportMessage, 4)).failure is None

    in_loop(scenario)


def test_a_gateway_that_offers_what_nobody_follows_makes_a_device_fetch_nothing(tmp_path: Path) -> None:
    device = Device(tmp_path)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, runs(1))
                asked = fetches(gateway)
                gateway.offers.clear()
                manifest_, model = gateway.keep(signed(2, SECOND)), gateway.keep(SECOND)
                others = [Offer(task=f"other-{n}", manifest=manifest_, model=model) for n in range(16)]
                for _ in range(20):
                    await gateway.tell(Releases(offers=others))
                huge = manifest_.model_copy(update={"bytes": LIMIT + 1})
                await gateway.tell(Releases(offers=[Offer(task="tiny", manifest=huge, model=model)]))
                await told(gateway, failed("is larger than"))
                assert asked == []
                elsewhere = manifest_.model_copy(update={"url": "http://169.254.169.254/latest/meta-data"})
                other = elsewhere.model_copy(update={"digest": storage.digest(b"other")})
                await gateway.tell(Releases(offers=[Offer(task="tiny", manifest=other, model=model)]))
                await told(gateway, failed("neither the gateway nor among the policy's hosts"))
                assert asked == []

    in_loop(scenario)


def test_many_offers_at_once_are_worked_on_one_after_another(tmp_path: Path) -> None:
    device = Device(tmp_path)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with device.running(gateway):
                await gateway.hears(Follow)
                for version in range(1, 12):
                    gateway.release(signed(version, FIRST), FIRST)
                    await gateway.tell(Releases(offers=list(gateway.offers.values())))
                await told(gateway, runs(11))
            assert len(list((device.releases / "releases").iterdir())) <= 2

    in_loop(scenario)
