"""The least rights of docs/jobs.md are enough for what each part does, and for no more; the S3 server enforces them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from ifmdm_core.denylist import Denial, DenyList, Entry
from ifmdm_core.errors import Forbidden
from ifmdm_core.storage import S3Config, open_storage
from jobs import steer
from jobs.audit import lines
from jobs.fsck import repair_when_due
from jobs.gc import collect
from jobs.init import let_in
from jobs.names import output_holder
from jobs.store import JobStore
from jobs.sweeper import Sweeper
from jobs.tenants import Places, TenantPolicy
from tests.jobs.small_store import SmallStore

IAM = Path(__file__).parents[2] / "infra" / "iam"
ROOT = "iam"
USERS = ("submitter", "worker", "reader", "operator")

As = Callable[[str], S3Config]


def policy(name: str) -> dict[str, Any]:
    """The file for the tenant acme, whose inputs and outputs are in the test's bucket too."""
    text = (IAM / f"{name}.json").read_text()
    for word, value in {
        "INPUT_BUCKET/INPUT_PREFIX": f"renders/{ROOT}/in", "OUTPUT_BUCKET/OUTPUT_PREFIX": f"renders/{ROOT}/out",
        "BUCKET": "renders", "ROOT": ROOT, "TENANT": "acme",
    }.items():  # fmt: skip
        text = text.replace(word, value)
    found: dict[str, Any] = json.loads(text)
    # The server of the tests knows no conditions: neither s3:prefix, nor what is denied under some only.
    found["Statement"] = [statement for statement in found["Statement"] if statement["Effect"] == "Allow"]
    for statement in found["Statement"]:
        statement.pop("Condition", None)
    return found


@pytest.fixture
def as_(s3_config: S3Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[As]:
    """Settings of a user with the rights of one file; who has none of them is refused from now on."""
    from moto import settings

    iam = boto3.client("iam", endpoint_url=s3_config.endpoint, region_name="us-east-1")
    profiles = []
    for name in USERS:
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy(name)))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        profiles.append(
            f"[{name}]\naws_access_key_id={key['AccessKeyId']}\naws_secret_access_key={key['SecretAccessKey']}\n"
        )
    credentials = tmp_path / "credentials"
    credentials.write_text("\n".join(profiles))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    yield lambda name: s3_config.model_copy(update={"profile": name})
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))
    for name in USERS:
        iam.delete_user_policy(UserName=name, PolicyName=name)
        for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName=name)


@pytest.fixture
def small(s3_config: S3Config, monkeypatch: pytest.MonkeyPatch, as_: As) -> SmallStore:
    from moto import settings

    small = SmallStore(f"s3://renders/{ROOT}", s3_config)
    small.let_in("acme")
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    return small


def test_a_submitter_a_worker_and_a_reader_have_what_they_need(small: SmallStore, as_: As) -> None:
    submitter = _as_user(small, as_("submitter"))
    first, second = (submitter.submit(name, "acme") for name in ("first", "second"))
    steer.stop(submitter.store, second, "cancel")
    assert submitter.state(second) == "queued"  # its log is not a submitter's to write

    worker = _as_user(small, as_("worker"))
    worker.work()
    sweeper = Sweeper(worker.store, worker.places)
    assert sweeper.due()
    assert not sweeper.sweep().problems
    assert repair_when_due(worker.store, worker.places, 3600.0) is not None

    reader = _as_user(small, as_("reader"))
    assert (reader.state(first), reader.state(second)) == ("published", "cancelled")
    assert reader.storage.get(f"{first.attempt(1)}/log.jsonl")
    assert reader.storage.get("out/first.mp4")


def test_none_of_them_can_do_more(small: SmallStore, as_: As) -> None:
    submitter, worker, reader, operator = (_as_user(small, as_(name)) for name in USERS)
    ref = submitter.submit("one", "acme")
    cannot = {
        "submitter writes a log": lambda: submitter.storage.put(ref.log(1), b"{}"),
        "submitter writes for another tenant": lambda: submitter.storage.put("jobs/other/x/spec.json", b"{}"),
        "submitter reads another tenant": lambda: submitter.storage.get("jobs/default/x/spec.json"),
        "submitter gives itself rights": lambda: submitter.storage.put("tenants/acme.json", b"{}"),
        "submitter publishes": lambda: submitter.storage.put("out/one.mp4", b""),
        "worker gives rights": lambda: worker.storage.put("tenants/acme.json", b"{}"),
        "worker deletes a video": lambda: worker.storage.delete("out/one.mp4"),
        "worker deletes a job's log": lambda: worker.storage.delete(ref.log(1)),
        "worker deletes a job": lambda: worker.storage.delete(ref.spec),
        "worker takes back a right": lambda: worker.storage.delete(output_holder(str(ref), 1)),
        "worker deletes from the audit log": lambda: worker.storage.delete(
            "audit/acme/changes/00000001.json"
        ),
        "operator deletes from the audit log": lambda: operator.storage.delete("audit/acme/changes/1.json"),
        "submitter writes the audit log": lambda: submitter.storage.put("audit/acme/x/1.json", b""),
        "submitter denies a portrait": lambda: submitter.storage.put(Entry("0" * 64).key, b"{}"),
        "worker lifts a denial": lambda: worker.storage.delete(Entry("0" * 64).key),
        "reader reads the audit log": lambda: reader.storage.get("audit/acme/changes/00000001.json"),
        "reader submits": lambda: reader.storage.put("queue/acme/x", b""),
        "reader cancels": lambda: reader.storage.put(ref.wish(0, "stop"), b"{}"),
        "reader reads another tenant": lambda: reader.storage.get("attempts/other/x/1/log.jsonl"),
    }
    for what, act in cannot.items():
        try:
            act()
        except Forbidden:
            continue
        pytest.fail(what)


def test_an_operator_lets_in_denies_cleans_up_and_reads_what_was_told(small: SmallStore, as_: As) -> None:
    operator, submitter = _as_user(small, as_("operator")), _as_user(small, as_("submitter"))
    ref = submitter.submit("one", "acme")
    steer.stop(operator.store, ref, "cancel")
    let_in(operator.store, "umbrella", TenantPolicy(cap=3))
    DenyList(operator.storage).add(Entry("0" * 64), Denial(reason="she asked us to"))
    assert not collect(operator.store, keep_days=0, dry_run=False).problems
    assert operator.view(ref).final
    told = lines(operator.store)
    assert [(line.what, line.subject) for line in told if line.source == "audit"] == [
        ("policy changed", "tenants/umbrella.json")
    ]
    assert [line.what for line in told if line.subject == ref.id] == ["submitted", "cancelled"], told


def test_submitters_and_workers_see_the_deny_list(small: SmallStore, as_: As) -> None:
    operator = _as_user(small, as_("operator"))
    DenyList(operator.storage).add(Entry("0" * 64), Denial(reason="she asked us to"))
    for name in ("submitter", "worker"):
        with pytest.raises(Forbidden, match="she asked us to"):
            DenyList(_as_user(small, as_(name)).storage).refuse("the portrait", "0" * 64)


@pytest.mark.parametrize(
    ("name", "folders"), [("worker", {"jobs", "outputs", "audit"}), ("operator", {"audit"})]
)
def test_what_was_written_down_is_written_once(name: str, folders: set[str]) -> None:
    """Enforced where a store knows the condition key (AWS); the server of the tests does not."""
    statements = json.loads((IAM / f"{name}.json").read_text())["Statement"]
    (denied,) = (statement for statement in statements if statement["Effect"] == "Deny")
    assert denied["Action"] == ["s3:PutObject"]
    assert denied["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    assert set(denied["Resource"]) == {f"arn:aws:s3:::BUCKET/ROOT/{folder}/*" for folder in folders}


def _as_user(small: SmallStore, s3: S3Config) -> SmallStore:
    """The same store with a user's rights."""
    user = object.__new__(SmallStore)
    user.__dict__.update(small.__dict__)
    user.storage = open_storage(f"s3://renders/{ROOT}", s3)
    user.store, user.places = JobStore(user.storage, f"{s3.profile}@desk", small.clock), Places(s3)
    return user
