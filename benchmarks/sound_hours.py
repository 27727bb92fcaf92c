"""SEWA's sound on a GPU box, stage by stage, before and now: `python -m emocache.benchmarks.sound_hours`.

A core's rate of decoding 48 kHz stereo is measured, by CPU time; the operations of each model for a second of sound are
counted on torch's meta device, and done at half of an H100's data sheet (`face_rates.Card`); what is stored goes at the
rates that `benchmarks.writers` printed (--store). The stages run side by side, so that the slowest counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import HubertConfig, HubertModel, WavLMConfig, WavLMModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emocache.benchmarks.face_rates import CORES, Card
from emocache.benchmarks.random_weights import LARGE
from emocache.extract.media.audio import decode_audio

HOURS = 40
"""Of SEWA."""
_SECONDS = 10.0
_WHISPER: dict[str, Any] = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
}


def decoded(rounds: int) -> float:
    """Seconds of sound that a core decodes in a second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "stereo.wav")
        noise = 0.1 * np.random.default_rng(0).standard_normal((round(48_000 * _SECONDS), 2))
        soundfile.write(file, noise.astype(np.float32), 48_000)
        decode_audio(file)
        begun = time.process_time()
        for _ in range(rounds):
            decode_audio(file)
        return rounds * _SECONDS / (time.process_time() - begun)


def operations() -> dict[str, tuple[float, int]]:
    """{model: operations for a second of sound, and D}; all give 50 frames a second."""
    speech: dict[str, Any] = {**LARGE, "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
    with torch.device("meta"):
        models: dict[str, tuple[Callable[..., Any], tuple[int, ...], float]] = {
            "hubert-large": (HubertModel(HubertConfig(**speech)), (1, round(16_000 * _SECONDS)), _SECONDS),
            "wavlm-large": (WavLMModel(WavLMConfig(**speech)), (1, round(16_000 * _SECONDS)), _SECONDS),
            "whisper-large-v3": (WhisperEncoder(WhisperConfig(**_WHISPER, num_mel_bins=128)), (1, 128, 3000), 30.0),
        }
    found = {}
    for name, (model, shape, seconds) in models.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(torch.empty(shape, device="meta"))  # type: ignore[attr-defined]
        found[name] = counter.get_total_flops() / seconds, 1280 if name.startswith("whisper") else 1024
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=float, nargs=2, metavar=("BEFORE", "NOW"), default=(174.0, 322.0),
                        help="MB a second, of one thread and of four")  # fmt: skip
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rate, card = decoded(options.rounds), Card()
    print(f"a core decodes {rate:.0f} s of 48 kHz stereo a second; an H100 in bfloat16 by arithmetic")
    print(f"minutes for SEWA, {HOURS} h")
    print(f"{'':<18} {'':<7} {'decode':>7} {'card':>7} {'store':>7} {'all':>7}")
    for name, (each, dim) in operations().items():
        for when, threads, store in (("before", 2, options.store[0]), ("now", CORES, options.store[1])):
            stages = (1 / (rate * threads), each / card.bfloat16, 100 * dim / (store * 1e6))  # for a second of sound
            minutes = [HOURS * 60 * one for one in (*stages, max(stages))]
            print(f"{name:<18} {when:<7} " + " ".join(f"{one:7.2f}" for one in minutes))


if __name__ == "__main__":
    main()
