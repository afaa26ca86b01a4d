"""Who becomes champion, on a real MLflow server."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from ifmdm_core.bundle import Bundle
from ifmdm_core.errors import Conflict, NotFound
from ifmdm_core.storage import S3Config
from pipelines.evaluate.report import EvaluationReport
from pipelines.registry import api
from pipelines.registry.promotion import Promotion
from pipelines.registry.versions import Registry
from pipelines.tracking.mlflow_run import open_client
from tests.mlflow_server import MlflowServer
from tests.pipelines.registry.conftest import renamed, report_on


class Model:
    """One model in the registry, with a store of its own."""

    def __init__(self, server: MlflowServer, room: Path) -> None:
        self.name, self.mlflow, self.store = f"m{uuid4().hex[:8]}", server.uri, str(room / "models")

    def register(self, bundle: Bundle, report: EvaluationReport | None = None) -> api.Registered:
        return api.register(
            self.name, str(bundle.folder), evaluation=report, store=self.store, mlflow=self.mlflow
        )

    def promote(self, version: int, *reports: EvaluationReport, **options: object) -> Promotion:
        return api.promote(
            f"models:/{self.name}/{version}", evaluations=reports, mlflow=self.mlflow, **options
        )

    def champion(self) -> int:
        return api.resolve(f"models:/{self.name}@champion", mlflow=self.mlflow).version


@pytest.fixture
def model(mlflow_server: MlflowServer, tmp_path: Path) -> Model:
    return Model(mlflow_server, tmp_path)


@pytest.fixture
def championed(model: Model, bundles: list[Bundle]) -> Model:
    """Its version 1 is the champion."""
    model.register(bundles[0], report_on(bundles[0]))
    model.promote(1)
    return model


def test_a_version_within_the_champions_intervals_takes_its_place(
    championed: Model, bundles: list[Bundle]
) -> None:
    model = championed
    model.register(bundles[1], report_on(bundles[1], S=1.85, lip_r=0.6))
    done = model.promote(2)
    assert done.before is not None
    assert done.before.version == 1
    assert [gate.passed for gate in done.gates] == [True] * 4
    assert done.version.aliases == ("champion",)
    assert model.champion() == 2
    shown = api.show(f"models:/{model.name}/2", mlflow=model.mlflow)
    assert shown.figures["lip_r"] == "0.60 [0.54, 0.66]"
    assert "| lip_r | 0.60 [0.54, 0.66] | higher |" in shown.card
    assert model.promote(2).before is None  # nothing to compare itself with


@pytest.mark.parametrize(
    ("figure", "value", "said"),
    [
        ("lip_r", 0.4, "lip_r: FAILED, 0.40 [0.36, 0.44], champion 0.50 [0.45, 0.55]"),
        ("seam_ratio", 1.3, "seam_ratio: FAILED, 1.30 [1.17, 1.43], champion 1.00 [0.90, 1.10]"),
        ("S", None, "S: FAILED, none, champion 2.00 [1.80, 2.20] (not measured: no landmarker)"),
    ],
)
def test_a_worse_version_is_refused_by_the_failed_gate_and_both_figures(
    championed: Model, bundles: list[Bundle], figure: str, value: float | None, said: str
) -> None:
    championed.register(bundles[1], report_on(bundles[1], **{figure: value}))
    with pytest.raises(Conflict) as error:
        championed.promote(2)
    assert said in error.value.what
    assert error.value.what.count("FAILED") == 1
    assert championed.champion() == 1


def test_what_was_measured_on_other_clips_is_not_compared(championed: Model, bundles: list[Bundle]) -> None:
    championed.register(bundles[1], report_on(bundles[1], "others", lip_r=0.9))
    with pytest.raises(Conflict, match=r"was measured on clips others .* on clips with as always"):
        championed.promote(2)
    # An older evaluation on the champion's clips settles it.
    championed.promote(2, report_on(bundles[1], "clips", "2025-01-01T00:00:00Z"))
    assert championed.champion() == 2


def test_an_evaluation_must_be_of_the_version(championed: Model, bundles: list[Bundle]) -> None:
    with pytest.raises(Conflict) as error:
        championed.register(bundles[1], report_on(bundles[0]))
    assert bundles[0].digest in error.value.what
    assert bundles[1].digest in error.value.what
    championed.register(bundles[1])
    with pytest.raises(NotFound, match="has no evaluation"):
        championed.promote(2, report_on(bundles[0]))


def test_gates_from_a_file_hold_for_the_first_champion_too(
    model: Model, bundles: list[Bundle], tmp_path: Path
) -> None:
    model.register(bundles[0], report_on(bundles[0], S=None))
    gates = tmp_path / "gates.yaml"
    gates.write_text("gates:\n  lip_r: {least: 0.55}\n")
    with pytest.raises(Conflict, match=r"lip_r: FAILED, 0.50 \[0.45, 0.55\] \(below 0.55\)"):
        model.promote(1, gates=gates)
    gates.write_text("gates:\n  lip_r: {least: 0.45}\n  seam_ratio: {most: 1.2}\n")
    assert len(model.promote(1, gates=gates).gates) == 2


def test_the_shipped_gates_are_the_default_ones() -> None:
    from ifmdm_core.config import load_config
    from pipelines.registry.gates import GateConfig

    shipped = Path(__file__).parents[3] / "configs" / "gates.yaml"
    assert load_config(GateConfig, shipped) == GateConfig()


def test_a_bundle_is_one_version_and_its_bytes_lie_in_the_store_once(
    model: Model, bundles: list[Bundle]
) -> None:
    first, again = model.register(bundles[0]).version, model.register(bundles[0]).version
    assert (first.version, again.version) == (1, 1)
    assert [v.version for v in api.versions(model.name, mlflow=model.mlflow)] == [1]
    assert len(list(Path(model.store).rglob("bundle.json"))) == 1


def test_a_new_encoder_says_which_motion_generators_it_leaves_behind(
    model: Model, bundles: list[Bundle], tmp_path: Path
) -> None:
    first = model.register(bundles[0])
    same_encoder = model.register(renamed(bundles[0], tmp_path / "b", "second"))
    assert model.name not in " ".join(v.label for v in first.stale.versions)
    assert model.name not in " ".join(v.label for v in same_encoder.stale.versions)
    client = open_client(model.mlflow)
    tags = {"ifmdm.stage": "motion", "motion_encoder": bundles[0].record.encoder}
    run = client.create_run("0", tags=tags, run_name="motion-of-old")
    new = client.create_run("0", tags=tags | {"motion_encoder": bundles[1].record.encoder}, run_name="of-new")
    stale = model.register(bundles[1]).stale
    assert {v.version for v in stale.versions if v.name == model.name} == {1, 2}
    assert stale.runs[run.info.run_id] == "motion-of-old"
    assert new.info.run_id not in stale.runs
    assert any("motion-of-old" in line for line in stale.lines())


def test_a_version_leads_to_the_runs_that_trained_it(
    model: Model, bundles: list[Bundle], tmp_path: Path
) -> None:
    ids = {"motion": uuid4().hex, "autoencoder": uuid4().hex}
    client = open_client(model.mlflow)
    runs = {
        part: client.create_run("0", tags={"ifmdm.train_id": name}).info.run_id for part, name in ids.items()
    }
    lineage = {f"{part}_train_id": name for part, name in ids.items()} | {"motion_manifest": "3"}
    bundle = renamed(bundles[0], tmp_path / "with", "with", lineage)
    version = model.register(bundle).version
    assert version.runs == runs
    assert client.get_model_version(model.name, "1").run_id == runs["motion"]
    assert version.lineage["motion_manifest"] == "3"


def test_versions_in_a_bucket_are_fetched_by_digest(
    mlflow_server: MlflowServer, bundles: list[Bundle], tmp_path: Path, s3_config: S3Config
) -> None:
    name, store = f"m{uuid4().hex[:8]}", "s3://renders/models"
    done = api.register(
        name, str(bundles[0].folder), evaluation=report_on(bundles[0]), store=store, mlflow=mlflow_server.uri,
        s3=s3_config,
    )  # fmt: skip
    assert done.version.uri == f"{store}/bundles/{bundles[0].digest}"
    assert Registry(mlflow_server.uri, s3_config).store_of(done.version).evaluations(bundles[0].digest)
    api.promote(f"models:/{name}/1", mlflow=mlflow_server.uri, s3=s3_config)
    assert api.resolve(f"models:/{name}@champion", mlflow=mlflow_server.uri).uri == done.version.uri
