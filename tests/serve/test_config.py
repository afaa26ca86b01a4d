from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ifmdm_core.errors import Unsupported
from serve.config import DecoderConfig, Scaling, ServeConfig, SigningConfig, StageConfig

PRESETS = Path(__file__).parents[2] / "configs" / "serve"


@pytest.mark.parametrize("name", ["demo", "cluster"])
def test_the_presets_are_valid(name: str) -> None:
    config = ServeConfig.model_validate(yaml.safe_load((PRESETS / f"{name}.yaml").read_text()))
    for stage in (config.speech, config.motion, config.decoder):
        assert stage.ongoing >= stage.batch
        assert stage.scaling.target <= stage.ongoing  # else a full replica would never call for another
        assert bool(stage.gpus) == (name == "cluster")


def test_the_demo_fits_two_cores_twice() -> None:
    config = ServeConfig.model_validate(yaml.safe_load((PRESETS / "demo.yaml").read_text()))
    stages = (config.speech, config.motion, config.decoder)
    # A rollout has two models side by side.
    assert 2 * sum(stage.cpus * stage.scaling.most for stage in stages) + config.gateway.cpus <= 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StageConfig(batch=8, ongoing=4), "batches could never fill"),
        (lambda: Scaling(least=3, most=2), "least 3 replicas exceed most 2"),
        (lambda: Scaling(look_back_s=1, interval_s=2), "look_back_s 1.0 must exceed interval_s 2.0"),
        (lambda: StageConfig(treads=2), "Extra inputs are not permitted"),
        (lambda: ServeConfig(root="x", decoder={"cache": 1}), "decoder.cache"),
        (lambda: ServeConfig(root="https://somewhere"), "http"),
        (lambda: ServeConfig(root="x", sha256="abc"), "sha256"),
        (lambda: DecoderConfig(precision="int8"), "precision"),
        (lambda: SigningConfig(key=Path("key.pem")), "go together"),
        (lambda: StageConfig(batch_wait_s=float("nan")), "finite"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: object, message: str) -> None:
    with pytest.raises((ValidationError, Unsupported), match=message):
        make()  # type: ignore[operator]


def test_a_folder_is_made_absolute_because_replicas_run_elsewhere() -> None:
    assert ServeConfig(root="somewhere").root == str(Path("somewhere").absolute())
    assert ServeConfig(root="s3://bucket/prefix").root == "s3://bucket/prefix"
