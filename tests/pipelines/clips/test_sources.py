"""What SOURCE names: folders, prefixes and lists, with names and rows as people really have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound, Unavailable
from ifmdm_core.storage import S3Config, open_storage
from pipelines.clips.sources import SourceList, list_sources, open_source
from tests.fault_proxy import Cut, FaultProxy

NAMES = ("b.mp4", "a b/clip 1.mp4", "a b/é中.MOV", "noextension", "wrong.bin", "deep/er/x.mkv", "photo.jpg")
SIDE = (".hidden.mp4", ".git/x.mp4", "list.csv", "a b/notes.TXT", "x.json", "deep/labels.parquet", "x.arrow")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def names(listed: SourceList) -> list[str]:
    return [item.source for item in listed.items]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "videos", *NAMES, *SIDE)
    return tmp_path / "videos"


def test_a_folder_and_its_copy_on_s3_name_the_same_sources(folder: Path, s3_config: S3Config) -> None:
    prefix = f"s3://renders/{folder.parent.name}"
    store = open_storage(prefix, s3_config)
    for name in (*NAMES, *SIDE):
        store.upload(name, folder / name)
    here, there = list_sources(str(folder)), list_sources(prefix, s3_config)
    assert names(here) == names(there) == sorted(NAMES, key=str.encode)
    assert [item.size for item in here.items] == [item.size for item in there.items]
    assert here.faults == there.faults == []
    for item in (*here.items, *there.items):
        with open_source(item, s3_config, folder.parent) as path:
            assert path.read_bytes() == item.source.encode()
    assert [path.name for path in folder.parent.iterdir()] == ["videos"], "downloads are removed"


def test_the_limit_takes_the_first_by_name(folder: Path) -> None:
    assert names(list_sources(str(folder), limit=3)) == ["a b/clip 1.mp4", "a b/é中.MOV", "b.mp4"]


def test_a_name_that_is_not_unicode_is_listed_and_read(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9\\1.mp4"
    Path(os.fsdecode(raw)).write_bytes(b"data")
    (item,) = list_sources(str(tmp_path)).items
    assert item.source == "caf\\xe9\\x5c1.mp4"
    with open_source(item, None, tmp_path) as path:
        assert path.read_bytes() == b"data"


def test_the_stamp_changes_when_a_file_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4")
    before = list_sources(str(tmp_path)).items[0]
    assert list_sources(str(tmp_path)).items[0] == before
    os.utime(tmp_path / "a.mp4", ns=(1, 1))
    assert list_sources(str(tmp_path)).items[0].stamp != before.stamp


def test_links_are_followed_once_and_dead_ones_are_faults(tmp_path: Path) -> None:
    write(tmp_path / "other", "x.mp4")
    write(tmp_path / "videos", "a.mp4")
    (tmp_path / "videos" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "videos" / "linked" / "back").symlink_to(tmp_path / "videos")
    (tmp_path / "videos" / "dead.mp4").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "videos" / "pipe.mp4")
    listed = list_sources(str(tmp_path / "videos"))
    assert names(listed) == ["a.mp4", "linked/x.mp4"]
    assert [(fault.source, fault.reason) for fault in listed.faults] == [
        ("dead.mp4", "missing"), ("pipe.mp4", "not a file"),
    ]  # fmt: skip


def test_nothing_there_and_nothing_usable_differ(tmp_path: Path, s3_config: S3Config) -> None:
    with pytest.raises(NotFound, match="no-such"):
        list_sources(str(tmp_path / "no-such"))
    with pytest.raises(NotFound, match=r"no-such\.csv"):
        list_sources(str(tmp_path / "no-such.csv"))
    with pytest.raises(NotFound, match="absent-bucket"):
        list_sources("s3://absent-bucket/videos", s3_config)
    with pytest.raises(NotFound, match="no-such-prefix"):
        list_sources("s3://renders/no-such-prefix", s3_config)
    write(tmp_path, "notes.txt")
    with pytest.raises(BadInput, match="holds no video"):
        list_sources(str(tmp_path))
    write(tmp_path, "one.mp4")
    with pytest.raises(BadInput, match="one file"):
        list_sources(str(tmp_path / "one.mp4"))


def test_a_key_that_no_folder_could_hold_is_a_fault_of_that_source_only(
    s3_config: S3Config, tmp_path: Path
) -> None:
    from ifmdm_core.storage import s3_client

    client = s3_client(s3_config)
    for key in ("good.mp4", "back\\slash.mp4", "folder/"):
        client.put_object(Bucket="renders", Key=f"{tmp_path.name}/{key}", Body=b"1")
    listed = list_sources(f"s3://renders/{tmp_path.name}", s3_config)
    assert names(listed) == ["good.mp4"]
    assert [(fault.source, fault.reason) for fault in listed.faults] == [
        ("back\\x5cslash.mp4", "unreadable name")
    ]


def test_a_list_says_parts_people_and_rights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "v/a.mp4", "v/b é.mp4", "elsewhere/c.mp4")
    (tmp_path / "v" / "list.csv").write_text(
        "\ufeffuri,start,end,identity,labels,rights,consent,split,mood\n"
        "b é.mp4,1.5,4,anna,news; studio;,CC BY 4.0,yes,train,merry\n"
        f"{tmp_path}/elsewhere/c.mp4,,,,,,,,\n"
        "./a.mp4,,,,,,,,\n"
        "a.mp4,0,2,,,,,,\n"
    )
    listed = list_sources(str(tmp_path / "v" / "list.csv"))
    assert listed.faults == []
    assert [(item.source, item.start, item.end) for item in listed.items] == [
        (f"{tmp_path}/elsewhere/c.mp4", None, None),
        ("a.mp4", None, None),
        ("a.mp4", 0.0, 2.0),
        ("b é.mp4", 1.5, 4.0),
    ]
    said = listed.items[-1]
    assert (said.identity, said.labels, said.rights, said.consent, said.split) == (
        "anna", ("news", "studio"), "CC BY 4.0", "yes", "train",
    )  # fmt: skip
    assert said.size == len("v/b é.mp4".encode())
    assert "'mood'" in caplog.text


def test_other_names_of_columns(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4")
    (tmp_path / "list.csv").write_text("File, speaker ,class\na.mp4,ben,A\n")
    (item,) = list_sources(str(tmp_path / "list.csv")).items
    assert (item.source, item.identity, item.rights) == ("a.mp4", "ben", "A")


def test_bad_rows_are_faults_with_their_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "list.csv").write_text(
        "uri,start,end\n"
        "a.mp4,,\n"
        ",1,2\n"
        "b.mp4,3,3\n"
        'b.mp4,"x\ny",\n'
        "b.mp4,-1,\n"
        "b.mp4,nan,\n"
        "a.mp4,,\n"
        "gone.mp4,,\n"
        "http://host/x.mp4,,\n"
        "folder.mp4,,\n"
        "b.mp4,0.5,1,extra,cells\n"
        "b.mp4\n"
    )
    listed = list_sources(str(tmp_path / "list.csv"))
    assert [(item.source, item.start) for item in listed.items] == [
        ("a.mp4", None), ("b.mp4", None), ("b.mp4", 0.5),
    ]  # fmt: skip
    assert {fault.source: fault.reason for fault in listed.faults} == {
        "folder.mp4": "not a file",
        "gone.mp4": "missing",
        **{f"list.csv line {line}": "bad row" for line in (3, 4, 6, 7, 8, 9, 11)},
    }
    details = {fault.source: fault.detail for fault in listed.faults}
    assert "uri is missing" in details["list.csv line 3"]
    assert "end 3 is not after start 3" in details["list.csv line 4"]
    assert "listed twice" in details["list.csv line 9"]


def test_a_parquet_list_with_lists_of_labels_and_numbers_for_people(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(tmp_path, "a.mp4", "b.mp4")
    table = pa.table(
        {
            "uri": ["a.mp4", "b.mp4", None],
            "start": [0.25, float("nan"), None],
            "speaker": [7, 8, 9],
            "labels": [["x", "y"], [], None],
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    listed = list_sources(str(tmp_path / "list.parquet"))
    assert [(item.source, item.start, item.identity, item.labels) for item in listed.items] == [
        ("a.mp4", 0.25, "7", ("x", "y")), ("b.mp4", None, "8", ()),
    ]  # fmt: skip
    assert [fault.source for fault in listed.faults] == ["list.parquet row 3"]


def test_a_list_in_a_bucket_names_objects_beside_it_and_elsewhere(
    s3_config: S3Config, tmp_path: Path
) -> None:
    prefix = f"s3://renders/{tmp_path.name}"
    store = open_storage(prefix, s3_config)
    for key in ("lists/a é.mp4", "other/b.mp4"):
        store.put(key, key.encode())
    text = f"uri\na é.mp4\n../other/b.mp4\n{prefix}/lists/gone.mp4\n"
    store.put("lists/all.csv", text.encode())
    listed = list_sources(f"{prefix}/lists/all.csv", s3_config)
    assert names(listed) == ["a é.mp4", f"{prefix}/other/b.mp4"]
    assert [(fault.source, fault.reason) for fault in listed.faults] == [("gone.mp4", "missing")]
    with open_source(listed.items[1], s3_config, tmp_path) as path:
        assert path.read_bytes() == b"other/b.mp4"


def test_lists_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "no-uri.csv").write_text("name;start\na.mp4;1\n")
    with pytest.raises(BadInput, match="no column uri or file, but 'name;start'"):
        list_sources(str(tmp_path / "no-uri.csv"))
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(BadInput, match=r"text\.parquet.*not Parquet"):
        list_sources(str(tmp_path / "text.parquet"))
    (tmp_path / "empty.csv").write_text("uri\n")
    with pytest.raises(BadInput, match="holds no video"):
        list_sources(str(tmp_path / "empty.csv"))


def test_a_source_that_goes_away_is_no_content_fault(tmp_path: Path, flaky_s3: FaultProxy) -> None:
    write(tmp_path, "a.mp4")
    (item,) = list_sources(str(tmp_path)).items
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(NotFound, match=r"a\.mp4"), open_source(item, None, tmp_path):
        pass
    prefix = f"s3://renders/{tmp_path.name}"
    open_storage(prefix, flaky_s3.config).put("b.mp4", b"x" * 5000)
    (item,) = list_sources(prefix, flaky_s3.config).items
    flaky_s3.add(Cut(0), methods=("GET",))
    with pytest.raises(Unavailable, match=r"b\.mp4"), open_source(item, flaky_s3.config, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
