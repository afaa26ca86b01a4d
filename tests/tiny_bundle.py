"""A bundle that loads and renders in no time, and whose videos nobody wants to see."""

from __future__ import annotations

from pathlib import Path


def make_tiny_bundle(folder: Path, seed: int = 0) -> Path:
    """Writes a bundle of tiny networks with random weights to `folder`: size 64, a few thousand parameters."""
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
