"""Rows' figures from those of their clips: arithmetic with known answers; plans; what was finished."""

import numpy as np
import pytest

from ifmdm_core.metrics.frechet import frechet_distance
from ifmdm_core.metrics.tables import Table
from pipelines.evaluate.examiner import ClipJob, ClipResult, RowResult
from pipelines.evaluate.finished import Finished
from pipelines.evaluate.held_out import HeldClip
from pipelines.evaluate.paper_tables import Scored, paper_table, row_figures
from pipelines.evaluate.plan import Plan
from pipelines.evaluate.rows import OURS, TRUTH, Row, table_1, table_3

CLIPS = tuple(HeldClip(name=f"c{k}", kind="grid" if k < 3 else "news", content=f"sha{k}") for k in range(5))
RNG = np.random.default_rng(0)


def test_rows_from_clips():
    scored = Scored()
    features = {}
    for row, confidence, shift in ((TRUTH, 0.5, 0.0), (OURS, 0.3, 1.0)):
        for k, clip in enumerate(("a", "b", "c")):
            figures = {"confidence": confidence, "r": 0.1 * k, "psnr": 30.0 + k, "fps": 20.0}
            if row == TRUTH:
                figures["chance"] = 0.1
            features[row, clip] = (RNG.normal(shift, 1, (6, 4))).astype(np.float32)
            scored.add(
                Row(table=1, name=row, kind="truth"), clip, RowResult(figures=figures), features[row, clip]
            )
    found = row_figures(scored, Row(table=1, name=OURS, kind="ours")).figures
    assert found["S"].value == pytest.approx(0.5)
    assert found["S"].count == 3
    assert found["lip_r"].value == pytest.approx(0.1)
    assert found["lip_r"].low < 0.1 < found["lip_r"].high
    whole = [np.concatenate([features[row, clip] for clip in "abc"]) for row in (OURS, TRUTH)]
    assert found["fid"].value == pytest.approx(frechet_distance(*whole))
    assert found["fid"].better == "lower"
    assert row_figures(scored, Row(table=1, name=TRUTH, kind="truth")).figures["S"].value == 1
    assert "csim" not in found


def test_columns_that_nobody_could_measure_are_named():
    scored = Scored()
    rows = []
    for row in table_1([]):
        score = 0.9 if row.name in (TRUTH, OURS) else 0.5
        for clip in "ab":
            scored.add(row, clip, RowResult(figures={"ssim": score, "r": score, "sharpness": 1.0}), None)
        rows.append(row_figures(scored, row))
    table = paper_table(1, rows, {TRUTH: 2}, "As seen.")
    assert table.columns == ["row", "clips", "lip r", "SSIM", "sharpness / truth"]
    assert "FID not available: give --weights inception=FILE" in table.note
    assert "TC not available" in table.note
    met = {gate.name: gate.met for gate in table.gates}
    assert met["shuffled speech falls in lip r"]
    assert met["blur falls in SSIM"]
    assert met["blur falls in sharpness"] is False  # a judge that does not see it is shown up


def test_a_plan_has_strangers_of_the_same_kind_and_few_clips_in_the_wide_tables():
    baseline = Row(table=1, name="theirs", kind="folder", videos={"c1": "x.mp4"})
    plan = Plan(clips=CLIPS, tables=(1, 3), quick=True, baselines=(baseline,))
    jobs = plan.jobs()
    first = [job for job in jobs if job.rows[0].table == 1]
    assert [job.clip.name for job in first] == ["c0", "c1", "c2", "c3", "c4"]
    assert [[clip.name for clip in job.strangers] for job in first] == [
        ["c1", "c2"], ["c2", "c0"], ["c0", "c1"], ["c4"], ["c3"],
    ]  # fmt: skip
    assert [any(row.name == "theirs" for row in job.rows) for job in first] == [
        False,
        True,
        False,
        False,
        False,
    ]
    assert all(OURS in job.videos for job in first)
    third = [job for job in jobs if job.rows[0].table == 3]
    assert [job.clip.name for job in third] == ["c0", "c1", "c3"]
    assert not any(job.videos for job in third)
    assert Plan(clips=CLIPS[:1], tables=(1,), quick=True).jobs()[0].strangers == ()


def test_the_papers_row_without_controls_has_no_hint():
    rows = table_3(quick=False)
    assert len(rows) == 4 * 5 + 1
    assert [row.has_hint for row in rows] == [True] * 20 + [False]
    assert (rows[-1].controls.pose, rows[-1].controls.intensity) == ("free", None)


@pytest.fixture
def job(tmp_path):
    video = tmp_path / "theirs.mp4"
    video.write_bytes(b"a video")
    rows = (
        Row(table=1, name=TRUTH, kind="truth"),
        Row(table=1, name=OURS, kind="ours"),
        Row(table=1, name="theirs", kind="folder", videos={"c0": str(video)}),
    )
    return ClipJob(clip=CLIPS[0], strangers=CLIPS[1:2], rows=rows, videos=frozenset({OURS}))


def test_what_is_finished_is_done_again_only_when_what_made_it_changes(job, tmp_path):
    keys = {row.name: Finished(tmp_path, "bundle", "s").key(job, row) for row in job.rows}

    def changed(finished, of=job):
        return [row.name for row in of.rows if finished.key(of, row) != keys[row.name]]

    assert changed(Finished(tmp_path, "other", "s")) == [OURS]
    assert changed(Finished(tmp_path, "bundle", "other")) == [TRUTH, OURS, "theirs"]
    assert changed(Finished(tmp_path, "bundle", "s"), job.model_copy(update={"strangers": CLIPS[2:3]})) == [
        TRUTH
    ]
    (tmp_path / "theirs.mp4").write_bytes(b"another")
    assert changed(Finished(tmp_path, "bundle", "s")) == ["theirs"]


def test_finished_rows_come_back_and_damaged_ones_do_not(job, tmp_path):
    finished = Finished(tmp_path / "out", "bundle", "s")
    truth, ours, theirs = job.rows
    features = RNG.normal(size=(2, 3)).astype(np.float32)
    result = ClipResult(
        rows={
            TRUTH: RowResult(figures={"r": 1.0}),
            OURS: RowResult(figures={"r": 0.1}, note="n"),
            "theirs": RowResult(error="damaged"),
        },
        features={OURS: features},
        videos={OURS: b"film"},
    )
    finished.keep(job, result)
    again = Finished(tmp_path / "out", "bundle", "s")
    found, values = again.get(job, ours)
    assert found == result.rows[OURS]
    np.testing.assert_array_equal(values, features)
    assert again.get(job, truth)[1] is None
    assert again.get(job, theirs) is None  # a fault is tried again
    again.video(OURS, "c0").unlink()
    assert again.get(job, ours) is None  # its video is wanted
    next((tmp_path / "out" / "rows").rglob("*.json")).write_text("{")
    assert (
        sum(again.get(job.model_copy(update={"videos": frozenset()}), row) is None for row in job.rows) == 2
    )


def test_measured_tables_come_back(tmp_path):
    finished = Finished(tmp_path, "bundle", "s")
    table = Table(title="7. Seams", columns=["a", "b"])
    table.add("x", 1.0)
    finished.keep_tables("seams", "clips", "effort", [table])
    assert finished.tables("seams", "clips", "effort") == [table]
    assert finished.tables("seams", "clips", "other") is None
    assert Finished(tmp_path, "other", "s").tables("seams", "clips", "effort") is None
