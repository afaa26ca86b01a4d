"""`ifmdm evaluate`: options that cannot be are refused; what is printed can be read by machines."""

import json

import pytest

from infra import cli
from pipelines.evaluate.report import read_report


def run(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return end.value.code, out, err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--row", "theirs"], 2, "NAME=FOLDER"),
        (["--row", "ours=x"], 2, "that row is there already"),
        (["--row", "theirs=none"], 3, "--row theirs: no folder none"),
        (["--weights", "arcface"], 2, "NAME=FILE"),
        (["--weights", "arcface=none.onnx"], 3, "none.onnx: no such weights"),
        (["--table", "5"], 2, "no table 5"),
        (["--local", "--workers", "2"], 2, "--local with"),
        (["--landmarker", "none.task"], 3, "no such face landmarker"),
        (["--split", "x", "--quikc"], 2, "did you mean '--quick'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_done(options, code, says, tiny_bundle, tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"a video")
    given = [] if "--landmarker" in options else ["--landmarker", "own"]
    found, _, err = run([tiny_bundle, tmp_path, *given, *options, "--out", tmp_path / "out"], capsys)
    assert (found, says in err) == (code, True), err
    assert not (tmp_path / "out").exists()


def test_json_is_the_report(tiny_bundle, tmp_path, capsys, monkeypatch):
    from tests.talking_videos import write_talking_video

    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    for seed in (1, 2):
        write_talking_video(tmp_path / "clips" / f"c{seed}.mp4", seed, seconds=1.2)
    options = [
        "--local",
        "--landmarker",
        "own",
        "--no-measuring",
        "--table",
        1,
        "--json",
        "--mlflow",
        "http://127.0.0.1:9",
    ]
    code, out, err = run([tiny_bundle, "clips", *options], capsys)
    assert code == 0, err
    folder = next((tmp_path / "evaluations").glob("tiny-*"))
    assert json.loads(out) == json.loads(read_report(folder / "report.json").model_dump_json())
    assert "not logged to MLflow" in err
