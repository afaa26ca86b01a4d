"""Manifests: every row a job or told by line, submitted once however often it is tried."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, Cancelled, Conflict, Forbidden, NotFound, Unavailable
from ifmdm_core.storage import S3Config
from ifmdm_core.uri import Uri
from jobs.client import JobClient
from jobs.entries import Fault
from jobs.manifest.journal import (
    Journal,
    JournalHead,
    JournalRow,
    head_of,
    journal_beside,
    read_head,
    read_journal,
)
from jobs.manifest.rejects import rejects_beside
from jobs.manifest.row_jobs import Defaults, given_fields, nested
from jobs.manifest.rows import open_rows
from jobs.manifest.run import ManifestRun, Summary
from jobs.manifest.template import Template
from jobs.spec import parse_job
from tests.jobs.small_store import SmallStore

HEAD = JournalHead("s3://bucket/jobs", "default", "m.csv")


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def client_of(small: SmallStore) -> JobClient:
    root = small.storage.root
    s3 = small.storage._config if root.scheme == "s3" else None  # type: ignore[attr-defined]
    return JobClient(root, s3=s3, clock=small.clock)


def table(small: SmallStore, rows: int, bad: dict[int, dict[str, str]] | None = None) -> str:
    """A CSV whose row N has seed N and output out/N.mp4, but for what `bad` says of rows."""
    lines = ["portrait,audio,output,controls.seed,labels.row"]
    for number in range(1, rows + 1):
        values = {
            "portrait": small.uri("in/ann.png"), "audio": small.uri("in/ann.wav"),
            "output": small.uri(f"out/{number}.mp4"), "seed": str(number), "row": f"r{number}",
        }  # fmt: skip
        lines.append(",".join({**values, **(bad or {}).get(number, {})}.values()))
    return "\n".join(lines) + "\n"


def submit(small: SmallStore, path: Path, defaults: Defaults | None = None, **options: Any) -> Summary:
    return ManifestRun(client_of(small), path, defaults or Defaults(), **options).run()


def told(path: Path) -> list[dict[str, str]]:
    with rejects_beside(path).open(newline="") as file:
        return list(csv.DictReader(file))


# Rows


def test_rows_of_all_kinds_are_the_same_jobs(
    write: Callable[[str, str | bytes], Path], tmp_path: Path
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    values = {"portrait": "s3://bucket/a.jpg", "audio": "s3://bucket/a.wav", "output": "s3://bucket/a.mp4"}
    text = "portrait,audio,output,priority,controls.seed,controls.intensity,labels.team\n"
    cells = ",".join([*values.values(), "5", "7", "none", "x"])
    whole = {**values, "priority": 5, "controls": {"seed": 7, "intensity": None}, "labels": {"team": "x"}}
    flat = {**values, "priority": 5, "controls.seed": 7, "labels.team": "x"}
    table = pa.Table.from_pylist([{**flat, "controls.intensity": "none", "key": None}])
    parquet.write_table(table, tmp_path / "m.parquet")
    paths = [
        write("m.csv", text + cells),
        write("excel.csv", "\ufeff" + (text + cells).replace(",", ";").replace("\n", "\r\n")),
        write("m.tsv", (text + cells).replace(",", "\t")),
        write("m.jsonl", "\n" + json.dumps(whole) + "\n"),
        write(
            "flat.ndjson",
            json.dumps({**flat, "controls.intensity": None, "key": None}).replace("null", '"none"', 1),
        ),
        tmp_path / "m.parquet",
    ]
    jobs = [[Defaults().job(row) for row in open_rows(path)] for path in paths]
    assert jobs == [[parse_job(whole)]] * len(paths)


def test_lines_are_those_of_the_file(write: Callable[[str, str | bytes], Path]) -> None:
    text = 'portrait,consent\n"a","two\nlines"\n\nb,c\n'
    assert [(row.number, row.line) for row in open_rows(write("m.csv", text))] == [(1, 2), (2, 5)]
    assert [(row.number, row.line) for row in open_rows(write("m.jsonl", '{}\n\n{"a":1}\n'))] == [
        (1, 1),
        (2, 3),
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.csv", b"portrait,audio\na,b,c\nd,e\n", "3 cells for 2 columns"),
        ("m.csv", b"portrait,audio\n\xff\xfe,b\nd,e\n", "portrait is no UTF-8"),
        ("m.csv", b"portrait,audio\n" + b"x" * 200_000 + b",b\nd,e\n", "cannot be read"),
        ("m.jsonl", b'{"portrait": \n{"portrait": "d"}\n', "not JSON"),
        ("m.jsonl", b'[1]\n{"portrait": "d"}\n', "is a list"),
        ("m.jsonl", b'"' + b"x" * (1 << 20) + b'"\n{"portrait": "d"}\n', "longer than 1 MiB"),
    ],
)
def test_a_row_that_cannot_be_read_spoils_no_other(
    write: Callable[[str, str | bytes], Path], name: str, text: bytes, says: str
) -> None:
    first, second = open_rows(write(name, text))
    assert first.fault is not None
    assert says in str(first.fault)
    assert (first.number, first.line, second.number, second.line) == (
        1,
        2 if name == "m.csv" else 1,
        2,
        second.line,
    )
    assert second.fault is None
    assert second.values["portrait"] == "d"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.csv", "", "no heading"),
        ("m.csv", "portrait,adio\n", "unknown column 'adio'; did you mean 'audio'?"),
        ("m.csv", "portrait,controls.sede\n", "did you mean 'seed'?"),
        ("m.csv", "portrait.x\n", "portrait is one value"),
        ("m.csv", "portrait,portrait\n", "'portrait' is there twice"),
        ("m.txt", "portrait\n", "its name must end in"),
        ("m.parquet", "no table", "is no Parquet file"),
    ],
)
def test_files_that_are_no_manifest_are_told_at_once(
    write: Callable[[str, str | bytes], Path], name: str, text: str, says: str
) -> None:
    with pytest.raises(BadInput) as error:
        list(open_rows(write(name, text)))
    assert says in str(error.value)


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_rows(tmp_path / "m.csv")


def test_labels_may_have_dots_and_numbers() -> None:
    assert nested({"labels.team.sub": 3, "labels.b": "x"}) == {"labels": {"team.sub": "3", "b": "x"}}


# Defaults and templates


def test_rows_go_before_defaults() -> None:
    fields = given_fields(
        ["controls.steps=4", "controls.seed=1"], ["team=a", "who=b=c"], model="demo", priority=3, consent=None
    )
    assert fields == {
        "controls": {"steps": 4, "seed": 1}, "labels": {"team": "a", "who": "b=c"}, "model": "demo", "priority": 3
    }  # fmt: skip
    row = {"portrait": "p.jpg", "audio": "a.wav", "output": "o.mp4", "controls.seed": "9", "labels.team": "z"}
    rows = [type("R", (), {"values": row, "fault": None, "number": 1})]
    job = Defaults(fields).job(rows[0])  # type: ignore[arg-type]
    assert (job.controls.steps, job.controls.seed, job.priority) == (4, 9, 3)
    assert job.labels == {"team": "z", "who": "b=c"}


@pytest.mark.parametrize(
    ("settings", "labels", "says"),
    [
        (["contrlos.steps=4"], [], "unknown column"),
        (["controls.steps"], [], "name=value"),
        ([], ["team"], "NAME=VALUE"),
    ],
)
def test_options_that_cannot_be_are_told(settings: list[str], labels: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        given_fields(settings, labels)


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("s3://b/{row:06d}-{portrait.stem}.mp4", "s3://b/000012-ann.b.mp4"),
        ("{portrait.parent}/{audio.name}.mp4", "faces/x.wav.mp4"),
        ("{labels.team}/{controls.seed:03d}-{key}.mp4", "a/007-k.mp4"),
        ("{{{row}}}.mp4", "{12}.mp4"),
    ],
)
def test_outputs_are_named_after_rows(template: str, output: str) -> None:
    values = {
        "portrait": "s3://bucket/faces/ann.b.jpg", "audio": "x.wav", "labels": {"team": "a"},
        "controls": {"seed": "7"}, "key": "k",
    }  # fmt: skip
    assert Template(template).fill(12, values) == output


@pytest.mark.parametrize(
    "template", ["{}", "{row!r}", "{portrait}", "{portrait.__class__}", "{row", "{portrait.stem.x}"]
)
def test_templates_that_no_row_could_fill_are_refused(template: str) -> None:
    with pytest.raises(BadInput):
        Template(template)


@pytest.mark.parametrize(
    "template", ["{labels.team}.mp4", "{key}.mp4", "{controls.seed}.mp4", "{labels}.mp4"]
)
def test_a_row_that_lacks_what_the_template_names_is_told(template: str) -> None:
    with pytest.raises(BadInput, match="which this row has not"):
        Template(template).fill(1, {"portrait": "a.jpg"})


@given(st.text(max_size=30))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = Template(text)
    except BadInput:
        return
    with contextlib.suppress(BadInput):
        assert isinstance(template.fill(1, {"portrait": "a.jpg", "audio": "a.wav"}), str)


# Submitting


def test_good_rows_become_jobs_and_bad_ones_are_told_by_line(
    small: SmallStore, write: Callable[[str, str | bytes], Path]
) -> None:
    bad = {
        2: {"seed": "many"},
        5: {"audio": small.uri("in/nobody.wav")},
        7: {"output": small.uri("out/6.mp4")},
        9: {"portrait": "s3://elsewhere/a.jpg"},
        11: {"output": "=cmd()"},
    }
    path = write("m.csv", table(small, 12, bad))
    summary = submit(small, path)
    assert (summary.rows, summary.submitted, summary.already, summary.rejected) == (12, 7, 0, 5)
    rejects = {int(row["line"]): row for row in told(path)}
    assert sorted(rejects) == [number + 1 for number in bad]
    assert [rejects[line]["field"] for line in (3, 6, 8, 10, 12)] == [
        "controls.seed", "audio", "output", "portrait", "output"
    ]  # fmt: skip
    assert rejects[3]["value"] == "many"
    assert "line 7" in rejects[8]["reason"]
    assert rejects[12]["value"] == "'=cmd()"  # a spreadsheet must not run it
    assert all(row["reason"] for row in rejects.values())
    small.work()
    journal = {row.row: row for row in read_journal(journal_beside(path))}
    assert sorted(journal) == list(range(1, 13))
    for number, row in journal.items():
        if number in bad:
            assert row.id is None
            assert row.error is not None
            assert row.error.field == rejects[row.line]["field"]
        else:
            assert row.id is not None
            view = client_of(small).get(row.id)
            assert (view.state.state, row.output) == ("published", small.uri(f"out/{number}.mp4"))
    assert sorted(small.keys("out/")) == sorted(f"out/{n}.mp4" for n in range(1, 13) if n not in bad)


def test_again_submits_only_what_is_new(disk: SmallStore, write: Callable[[str, str | bytes], Path]) -> None:
    path = write("m.csv", table(disk, 10, {3: {"seed": "x"}, 4: {"audio": disk.uri("in/late.wav")}}))
    assert submit(disk, path).submitted == 8
    disk.storage.put("in/late.wav", b"here now")
    summary = submit(disk, path)
    assert (summary.submitted, summary.skipped, summary.rejected) == (1, 8, 1)
    write("m.csv", table(disk, 12, {4: {"audio": disk.uri("in/late.wav")}}))
    summary = submit(disk, path)
    assert (summary.submitted, summary.skipped, summary.rejected) == (3, 9, 0)
    assert not rejects_beside(path).exists()
    rows = list(read_journal(journal_beside(path)))
    assert [row.row for row in rows] == list(range(1, 13))
    assert all(row.error is None for row in rows)
    journal_beside(path).unlink()
    summary = submit(disk, path)
    assert (summary.submitted, summary.already) == (0, 12)


def test_a_dry_run_tells_the_same_and_writes_nothing(
    disk: SmallStore, write: Callable[[str, str | bytes], Path], tmp_path: Path
) -> None:
    path = write("m.csv", table(disk, 8, {2: {"seed": "x"}, 5: {"audio": disk.uri("in/nobody.wav")}}))
    before = disk.keys(""), sorted(tmp_path.iterdir())
    summary = submit(disk, path, dry_run=True)
    assert (summary.submitted, summary.rejected) == (6, 2)
    assert sorted(reject.line for reject in summary.rejects) == [3, 6]
    assert (disk.keys(""), sorted(tmp_path.iterdir())) == before


def test_a_dry_run_into_a_bucket_uploads_nothing(
    tmp_path: Path, s3_config: S3Config, write: Callable[[str, str | bytes], Path]
) -> None:
    small = SmallStore(f"s3://renders/{tmp_path.name}", s3_config)
    write("a.png", b"x")
    text = f"portrait,audio\n{tmp_path}/a.png,{small.uri('in/ann.wav')}\n{tmp_path}/b.png,{small.uri('in/ann.wav')}\n"
    defaults = Defaults(template=Template(f"{small.storage.root}/out/{{row}}.mp4"))
    summary = submit(small, write("m.csv", text), defaults, dry_run=True)
    assert (summary.submitted, summary.rejected) == (1, 1)
    assert small.keys("uploads/") == []
    summary = submit(small, tmp_path / "m.csv", defaults)
    assert (summary.submitted, summary.rejected) == (1, 1)
    assert len(small.keys("uploads/")) == 1


def test_an_unknown_tenant_is_no_rows_fault(
    disk: SmallStore, write: Callable[[str, str | bytes], Path]
) -> None:
    client = JobClient(disk.storage.root, "nobody", clock=disk.clock)
    path = write("m.csv", table(disk, 3))
    with pytest.raises(Forbidden):
        ManifestRun(client, path, Defaults()).run()
    assert not journal_beside(path).exists()


class _Failing:
    """A storage whose writes of jobs fail from the `n`-th on, in a way of the test's choice."""

    def __init__(self, storage: Any, n: int, error: BaseException) -> None:
        self._storage, self._left, self._error = storage, n, error
        self.root = storage.root

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if key.endswith("/spec.json"):
            self._left -= 1
            if self._left < 0:
                raise self._error
        return bool(self._storage.put_if_absent(key, data))


@pytest.mark.parametrize("error", [Unavailable("the store is away"), Forbidden("not yours")])
def test_a_store_that_lets_nobody_go_on_ends_the_run_and_the_next_goes_on(
    disk: SmallStore, write: Callable[[str, str | bytes], Path], error: Exception
) -> None:
    path, client = write("m.csv", table(disk, 30)), client_of(disk)
    client.store.storage = _Failing(client.store.storage, 12, error)
    run = ManifestRun(client, path, Defaults(), workers=2, patience_s=100)
    with pytest.raises(type(error)):
        run.run()
    assert run.summary.submitted == 12
    assert run.summary.rejected == 0
    summary = submit(disk, path)
    assert (summary.submitted, summary.skipped) == (18, 12)
    assert len([key for key in disk.keys("jobs/") if key.endswith("spec.json")]) == 30


def test_ctrl_c_notes_what_is_in(disk: SmallStore, write: Callable[[str, str | bytes], Path]) -> None:
    path = write("m.csv", table(disk, 40))
    run = ManifestRun(client_of(disk), path, Defaults(), workers=2)

    def interrupt(share: float, summary: Summary) -> None:
        if summary.submitted == 5:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled, match="goes on from there"):
        run.run(interrupt)
    assert sum(row.id is not None for row in read_journal(journal_beside(path))) == 5
    summary = submit(disk, path)
    assert summary.skipped == 5
    assert summary.submitted + summary.already == 35
    assert len([key for key in disk.keys("jobs/") if key.endswith("spec.json")]) == 40


def test_progress_goes_to_the_end(disk: SmallStore, write: Callable[[str, str | bytes], Path]) -> None:
    shares: list[float] = []
    ManifestRun(client_of(disk), write("m.csv", table(disk, 5)), Defaults()).run(
        lambda share, summary: shares.append(share)
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# The journal


def row(number: int, id: str | None, error: Fault | None = None) -> JournalRow:
    return JournalRow(number, number + 1, id, f"s3://bucket/{number}.mp4", error)


def test_the_last_line_of_a_row_holds_in_the_order_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    fault = Fault(kind="NotFound", outcome="not_found", what="x", field="audio")
    with Journal(path, HEAD) as journal:
        journal.add(row(3, "c" * 32), 30)
        journal.add(row(1, None, fault), 0)
        journal.add(row(2, "b" * 32), 20)
    with Journal(path, HEAD) as journal:
        assert [journal.has(1, 0), journal.has(2, 20), journal.has(2, 21), journal.has(9, 1)] == [
            False, True, False, False
        ]  # fmt: skip
        journal.add(row(1, "a" * 32), 10)
        journal.add(row(3, None, fault), 0)
        assert not journal.has(3, 30)
    assert list(read_journal(path)) == [row(1, "a" * 32), row(2, "b" * 32), row(3, None, fault)]
    assert read_head(path) == HEAD


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path, HEAD) as journal:
        journal.add(row(1, "a" * 32), 10)
        journal.add(row(2, "b" * 32), 20)
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines(keepends=True)[0]), len(whole) - 1):
        path.write_bytes(whole[:cut])
        with Journal(path, HEAD) as journal:
            journal.add(row(3, "c" * 32), 30)
        found = {each.row for each in read_journal(path)}
        assert 3 in found
        assert found <= {1, 2, 3}
        assert (1 in found) == Journal(path, HEAD).has(1, 10)


def test_a_store_is_the_same_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    heads = [head_of(Uri.parse(text), "default") for text in ("store", str(tmp_path / "store"))]
    assert heads[0] == heads[1]
    assert head_of(Uri.parse("s3://bucket/jobs/"), "t") == head_of(Uri.parse("s3://bucket/jobs"), "t")


def test_a_journal_is_about_one_store_and_tenant(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path, HEAD)
    with pytest.raises(Conflict, match="another --journal"):
        Journal(path, JournalHead(HEAD.root, "other", "m.csv"))
    path.write_text("portrait,audio\n")
    with pytest.raises(BadInput, match="no journal"):
        Journal(path, HEAD)
    path.write_text('{"version": 9}\n')
    with pytest.raises(Conflict, match="version 9"):
        read_head(path)
    with pytest.raises(NotFound):
        read_head(tmp_path / "nothing")
