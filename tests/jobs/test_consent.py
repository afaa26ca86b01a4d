"""Whose jobs need consent, and which portraits no job animates: at submit, and again when it is rendered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.denylist import Denial, DenyList, Entry
from ifmdm_core.errors import Forbidden
from ifmdm_core.provenance import sha256_of
from ifmdm_core.storage import S3Config
from infra import cli
from jobs.client import JobClient
from jobs.names import FOLDERS
from tests.jobs.command_line import Commands
from tests.jobs.small_store import SmallStore


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def test_a_tenant_may_need_consent_for_every_job(disk: SmallStore) -> None:
    disk.let_in("strict", consent="required")
    for given in ({}, {"consent": " "}):
        with pytest.raises(Forbidden, match="consent") as error:
            disk.submit("one", "strict", **given)
        assert error.value.field == "consent"
    assert not disk.keys("queue/")
    ref = disk.submit("one", "strict", consent="form 17")
    disk.work()
    assert disk.state(ref) == "published"


def test_a_policy_that_came_after_the_submit_counts_too(disk: SmallStore) -> None:
    disk.let_in("acme")
    ref = disk.submit("one", "acme")
    disk.let_in("acme", consent="required")
    disk.work()
    state = disk.view(ref).state
    assert state.state == "failed"
    assert state.fault is not None
    assert (state.fault.kind, state.fault.field) == ("Forbidden", "consent")


def test_an_uploaded_portrait_on_the_list_is_refused_at_submit(s3_config: S3Config, tmp_path: Path) -> None:
    small = SmallStore("s3://renders/consent", s3_config)
    small.let_in("acme")
    photo, sound = tmp_path / "ann.png", tmp_path / "ann.wav"
    photo.write_bytes(b"a picture of ann")
    sound.write_bytes(b"what she says")
    denial = Denial(reason="she asked us to", contact="privacy@example.com")
    DenyList(small.storage).add(Entry(sha256_of(photo.read_bytes())), denial)
    client = JobClient("s3://renders/consent", "acme", s3_config)
    with pytest.raises(Forbidden, match="she asked us to") as error:
        client.submit(portrait=str(photo), audio=str(sound), output=small.uri("out/ann.mp4"))
    assert (error.value.field, error.value.fix.startswith("ask privacy@example.com")) == ("portrait", True)
    assert not small.keys("jobs/acme/")
    photo.write_bytes(b"a picture of somebody else")
    assert client.submit(portrait=str(photo), audio=str(sound), output=small.uri("out/b.mp4")).created


def test_the_lists_are_out_of_a_tenants_reach(disk: SmallStore) -> None:
    assert {"deny", "audit"} <= FOLDERS
    for field, key in (("output", "deny/x.mp4"), ("output", "audit/a/b/x.mp4"), ("portrait", "deny/x.json")):
        with pytest.raises(Forbidden, match="job store's own"):
            disk.submit("one", **{field: disk.uri(key)})


def test_the_commands_put_on_the_list_show_it_and_take_off(
    disk: SmallStore, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path
) -> None:
    blank = tmp_path / "blank.png"
    blank.write_bytes(b"no picture")
    words = ("--reason", "a court order", "--contact", "legal@example.com")

    def deny(verb: str, *words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main(["jobs", "deny", verb, "--root", str(disk.storage.root), *words])
        out, err = capsys.readouterr()
        assert end.value.code == code, err
        return out

    assert "is on the list now" in deny("add", str(portrait), *words)
    assert "stays as it was" in deny("add", str(portrait), "--reason", "another")
    deny("add", str(blank), *words, code=2)
    deny("add", str(blank), *words, "--file-only")
    shown = deny("ls")
    assert shown.count("a court order") == 2
    assert "file, look" in shown
    digest = sha256_of(portrait.read_bytes())
    assert "off the list" in deny("rm", digest[:10], "--reason", "she changed her mind")
    assert deny("ls").count("a court order") == 1
    deny("rm", digest[:10], code=3)
    told = Commands(disk, capsys).json("audit")
    assert [(line["what"], line["note"]) for line in told if line["subject"] == digest] == [
        ("portrait denied", "a court order"), ("portrait denied", "another"), ("denial lifted", "she changed her mind"),
    ]  # fmt: skip
    Commands(disk, capsys)("audit", "--verify")
