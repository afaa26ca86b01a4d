"""The whole evaluation on a tiny bundle: what a judge must see, and that nothing is done twice."""

import re

import pytest

from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.media.video import probe_video
from pipelines.evaluate.examiner import Examiner
from pipelines.evaluate.report import read_report
from pipelines.evaluate.run import evaluate
from tests.pipelines.evaluate.conftest import SMALL
from tests.talking_videos import write_talking_video


def rows(report, table=1):
    return {row.row: row.figures for row in report.rows if row.table == table}


def _refuse(self):
    raise AssertionError("a worker was started")


@pytest.fixture(scope="module")
def done(tiny_bundle, talking_folder, tmp_path_factory):
    """An evaluation in this process, with the real videos as somebody else's, and its folders."""
    folder = tmp_path_factory.mktemp("evaluation")
    report = evaluate(
        tiny_bundle, talking_folder, landmarker="own", rows={"theirs": talking_folder}, out=folder / "out",
        export=folder / "export", tables=(1,), measuring=False, effort=SMALL, notice=lambda text: None,
    )  # fmt: skip
    return report, folder


def test_the_real_videos_as_a_baseline_are_the_truth_exactly(done):
    report, _ = done
    found = rows(report)
    assert found["theirs"] == found["ground truth"]
    assert found["ground truth"]["psnr"].value == 60
    assert found["ours"]["psnr"].value < 40
    assert set(report.held_out.clips) == {"people"}
    assert report.failed == {}


def test_blur_and_stillness_are_seen(done):
    found = rows(done[0])
    for column in ("psnr", "ssim", "sharpness"):
        assert found["ground truth blurred"][column].value < found["ground truth"][column].value
    assert found["source copied"]["range"].value == 0
    gates = {gate.name: gate.met for gate in done[0].tables[0].gates}
    assert gates["blur falls in SSIM"]


def test_the_report_is_what_gates_read(done):
    report, folder = done
    assert read_report(folder / "out" / "report.json") == report
    assert {"lip_r", "psnr", "ssim", "sharpness"} <= set(report.figures)
    assert "fps" not in report.figures  # the machine's
    assert "fps" in rows(report)["ours"]
    assert report.unavailable["fid"] == "not available: give --weights inception=FILE"


def test_the_html_needs_nothing_beside_it(done):
    text = (done[1] / "out" / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", text)
    assert text.count("data:video/mp4;base64,") == 2 * 7  # two clips, seven rows
    assert "Paper, table 1" in text


def test_exported_inputs_let_others_take_part_and_score_as_the_truth(
    done, tiny_bundle, talking_folder, tmp_path
):
    export = done[1] / "export"
    assert sorted(path.relative_to(export).as_posix() for path in export.rglob("*.*")) == [
        f"{folder}/people__talk{k}.{ending}"
        for folder, ending in (("portraits", "png"), ("sounds", "wav"), ("truth", "mp4"))
        for k in (1, 2)
    ]
    assert probe_video(done[1] / "out" / "videos" / "ours" / "people__talk1.mp4").has_audio
    found = rows(
        evaluate(
            tiny_bundle, talking_folder, landmarker="own", rows={"exported": export / "truth"}, out=tmp_path,
            tables=(1,), measuring=False, effort=SMALL, notice=lambda text: None,
        )
    )  # fmt: skip
    assert found["exported"] == found["ground truth"] == rows(done[0])["ground truth"]


def test_a_second_run_does_nothing_again(done, tiny_bundle, talking_folder, monkeypatch):
    monkeypatch.setattr(Examiner, "load", _refuse)
    said = []
    again = evaluate(
        tiny_bundle, talking_folder, landmarker="own", rows={"theirs": talking_folder}, out=done[1] / "out",
        tables=(1,), measuring=False, effort=SMALL, notice=said.append,
    )  # fmt: skip
    assert (again.rows, again.tables, again.figures) == (done[0].rows, done[0].tables, done[0].figures)
    assert "rows and measuring steps are in" in said[0]


def test_a_stopped_evaluation_goes_on(done, tiny_bundle, talking_folder, tmp_path, monkeypatch):
    options = {
        "landmarker": "own", "rows": {"theirs": talking_folder}, "out": tmp_path, "tables": (1,), "measuring": False,
        "effort": SMALL, "notice": lambda text: None,
    }  # fmt: skip
    score, scored = Examiner.score, []

    def die(self, job):
        if scored:
            raise KeyboardInterrupt
        scored.append(job.clip.name)
        return score(self, job)

    monkeypatch.setattr(Examiner, "score", die)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny_bundle, talking_folder, **options)
    assert not (tmp_path / "report.json").exists()

    def count(self, job):
        scored.append(job.clip.name)
        return score(self, job)

    monkeypatch.setattr(Examiner, "score", count)
    report = evaluate(tiny_bundle, talking_folder, **options)
    assert scored == ["people__talk1", "people__talk2"]
    for row, figures in rows(done[0]).items():
        ours = {column: figure for column, figure in rows(report)[row].items() if column != "fps"}
        assert ours == {column: figure for column, figure in figures.items() if column != "fps"}


def test_a_useless_clip_is_left_out_by_name(tiny_bundle, talking_folder, tmp_path):
    for path in (talking_folder / "people").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_talking_video(tmp_path / "mute.mp4", 3, sound=False)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "talk1.mp4").write_bytes(b"no video either")
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("talk1.mp4", "talk2.mp4", "mute.mp4", "broken.mp4"):
        (tmp_path / name).rename(clips / name)
    report = evaluate(
        tiny_bundle, clips, landmarker="own", rows={"theirs": theirs}, out=tmp_path / "out", tables=(1,),
        measuring=False, clips_of_a_kind=9, effort=SMALL, notice=lambda text: None,
    )  # fmt: skip
    assert set(report.failed) == {"mute", "broken", "theirs, talk1"}
    assert "no sound" in report.failed["mute"]
    assert rows(report)["ours"]["psnr"].count == 2
    assert rows(report)["theirs"] == {}


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"bundle": "none"}, NotFound, "none"),
        ({"clips": "none"}, NotFound, "no such dataset or folder"),
        ({"landmarker": "x.task"}, NotFound, "no such face landmarker"),
        ({"rows": {"theirs": "none"}}, NotFound, "--row theirs"),
        ({"weights": {"inceptoin": "x"}}, BadInput, "did you mean 'inception'"),
        ({"tables": (4,)}, BadInput, "no table 4"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_worker(
    change, error, says, tiny_bundle, talking_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(Examiner, "load", _refuse)
    options = {
        "bundle": tiny_bundle,
        "clips": talking_folder,
        "landmarker": "own",
        "out": tmp_path / "out",
        **change,
    }
    with pytest.raises(error, match=says):
        evaluate(options.pop("bundle"), options.pop("clips"), **options)
    assert not (tmp_path / "out").exists()


def test_another_bundle_on_a_worker_is_refused(tiny_bundle, make_bundle, tmp_path):
    from pipelines.evaluate.examiner import Setup

    other = make_bundle(tmp_path / "other", seed=1)
    setup = Setup(bundle=str(other), digest="0" * 64, uri="x", landmarker="own")
    with pytest.raises(Conflict, match=r"here has digest .*0000"):
        Examiner(setup).load()


def test_the_measuring_tables_and_their_figures(done, make_bundle, talking_folder, tmp_path, monkeypatch):
    options = {
        "landmarker": "own",
        "out": tmp_path / "out",
        "tables": (),
        "effort": SMALL,
        "notice": lambda text: None,
    }
    report = evaluate(make_bundle(tmp_path / "other", seed=1), talking_folder, **options)
    titles = [table.title.split(".")[0].split(":")[0] for table in report.tables]
    assert titles == ["1a", "1b", "2", "3", "4", "5", "6", "7", "Controls"]
    assert {"reconstruction_gain_db", "seam_ratio"} <= set(report.figures)
    report.held_out.require_same(done[0].held_out)  # two bundles, the same clips and settings: they compare
    assert report.bundle_digest != done[0].bundle_digest
    monkeypatch.setattr(Examiner, "load", _refuse)
    again = evaluate(tmp_path / "other", talking_folder, **options)
    assert (again.tables, again.figures) == (report.tables, report.figures)
