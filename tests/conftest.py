"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ifmdm_core.storage import S3Config, s3_client
from tests.fault_proxy import FaultProxy
from tests.mlflow_server import MlflowServer
from tests.s3_server import S3Server

SAMPLES = Path(__file__).parent.parent / "ifmdm_core" / "assets" / "samples"


@pytest.fixture(scope="session")
def portrait() -> Path:
    """The bundled photo, one face, 512x512."""
    return SAMPLES / "astronaut.jpg"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server of this process, spoken to over HTTP; the credentials are in the environment."""
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    server = S3Server()
    yield server.endpoint
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def s3_config(s3_endpoint: str) -> S3Config:
    """Its settings; it has a bucket `renders`. Take a prefix of your own."""
    config = S3Config(endpoint=s3_endpoint, region="us-east-1")
    s3_client(config).create_bucket(Bucket="renders")
    return config


@pytest.fixture
def flaky_s3(s3_endpoint: str, s3_config: S3Config) -> Iterator[FaultProxy]:
    """A proxy before that server, which fails when told to; `flaky_s3.config` goes through it."""
    with FaultProxy(s3_endpoint, s3_config) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.stop()


@pytest.fixture
def mlflow_server(_mlflow_server: MlflowServer) -> MlflowServer:
    """A running MLflow server (SQLite), one for all tests: take a train_id and names of your own. You may kill it."""
    _mlflow_server.start()
    return _mlflow_server


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """Writes a bundle of tiny networks with random weights: size 64, a few thousand parameters."""

    def make(folder: Path, seed: int = 0) -> Path:
        import torch
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
        from ifmdm_core.bundle import save_bundle
        from ifmdm_core.motion import MotionConfig, MotionGenerator
        from ifmdm_core.weights import encoder_digest, read_weights, save_weights

        folder.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            shape = AutoencoderConfig(
                size=64, encoder_channels=(8, 8, 8, 8), extra_convs=(False,) * 4, latent_dim=32, flow_size=16,
                pose_fields=2, expression_fields=2, field_channels=8, generator_channels=(8, 8), motion_size=64,
                motion_channels=(8, 8, 8, 8), part_channels=(8, 8),
            )  # fmt: skip
            stage1 = Autoencoder(shape).eval()
            stage2 = MotionGenerator(
                MotionConfig(
                    speech_dim=16,
                    width=16,
                    depth=2,
                    heads=2,
                    prediction="sample",
                    window=50,
                    context=10,
                    overlap=4,
                )
            ).eval()
            for parameter in (*stage1.parameters(), *stage2.parameters()):
                # Untrained output layers start at zero; then nothing would depend on speech or seed.
                parameter.data.add_(0.1 * torch.randn_like(parameter))
            speech = Wav2Vec2Model(
                Wav2Vec2Config(
                    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
                    num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, do_stable_layer_norm=True,
                    feat_extract_norm="layer",
                )
            )  # fmt: skip
        weights = folder.with_name(folder.name + "-weights")
        weights.mkdir(exist_ok=True)
        save_weights(weights / "autoencoder.safetensors", stage1, shape)
        stored = Autoencoder(shape)
        stored.load_state_dict(read_weights(weights / "autoencoder.safetensors")[0])
        save_weights(
            weights / "motion.safetensors",
            stage2,
            stage2.config,
            lineage={"encoder": encoder_digest(stored.state_dict())},
        )
        speech.save_pretrained(weights / "speech")
        save_bundle(
            folder,
            name="tiny",
            autoencoder=weights / "autoencoder.safetensors",
            motion=weights / "motion.safetensors",
            speech=weights / "speech",
        )
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such bundle; do not write to it."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
