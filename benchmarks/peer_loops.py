"""What peers' documentation shows, as plain loops of our own: `python -m emocache.benchmarks.peer_loops LOOP ...`.

One file at a time through the model into an .npy file; a perceptron on the mean vector of each file; a GRU on packed
sequences from a DataLoader. Folds are those of emocache's RAVDESS experiments: pairs of actors, of which one tests and
the next validates. The last line that a fold's loop prints is the accuracy of all its test clips, as JSON.
"""

import argparse
import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

_RATE, _HOP = 16_000, 320  # samples a second; samples a frame of Whisper's encoder
_CLASSES, _FOLDS, _HIDDEN, _BATCH = 8, 6, 128, 32


def extract(checkpoint: Path, folder: Path, out: Path) -> None:
    """Encode one file after the other, in float32, and save the frames of the clip."""
    import soxr
    from transformers import WhisperFeatureExtractor, WhisperModel

    extractor = WhisperFeatureExtractor.from_pretrained(checkpoint)
    whisper: Any = WhisperModel.from_pretrained(checkpoint, dtype=torch.float32)
    encoder = whisper.eval().encoder
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("Actor_*/*.flac")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = soxr.resample(samples.mean(axis=1), rate, _RATE)
        features = extractor(mono, sampling_rate=_RATE, return_tensors="pt").input_features
        with torch.no_grad():
            frames = encoder(features).last_hidden_state[0, : -(-len(mono) // _HOP)]
        np.save(out / f"{path.stem}.npy", frames.numpy())


class Files(Dataset[tuple[torch.Tensor, int]]):
    """(frames, class) of the files, read when they are asked for; `pooled`: their mean."""

    def __init__(self, files: Sequence[Path], pooled: bool) -> None:
        self.files, self.pooled = files, pooled

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        frames = torch.from_numpy(np.load(self.files[index]).astype(np.float32))
        emotion = int(self.files[index].stem.split("-")[2]) - 1
        return frames.mean(dim=0, keepdim=True) if self.pooled else frames, emotion


class Perceptron(torch.nn.Module):
    """One hidden layer over the mean vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = torch.nn.Linear(dim, _HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(0.5)
        self.layers = torch.nn.Sequential(*hidden, torch.nn.Linear(_HIDDEN, _CLASSES))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, 1, D) to (B, classes)."""
        logits: torch.Tensor = self.layers(frames[:, 0])
        return logits


class Gru(torch.nn.Module):
    """The head of `bigru`: a bidirectional GRU, the mean over its states, one linear output."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(dim, _HIDDEN, batch_first=True, bidirectional=True)
        self.output = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(2 * _HIDDEN, _CLASSES))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, classes)."""
        packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        logits: torch.Tensor = self.output(states.sum(dim=1) / lengths.unsqueeze(1))
        return logits


def collate(items: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad the sequences of a batch."""
    lengths = torch.tensor([len(frames) for frames, _ in items])
    return pad_sequence([frames for frames, _ in items], batch_first=True), lengths, torch.tensor([c for _, c in items])


def cross_validate(features: Path, recurrent: bool, epochs: int) -> float:
    """Train on four pairs of actors in each fold, stop on the next pair; returns the accuracy over all test clips."""
    files = sorted(features.glob("*.npy"))
    actors = sorted({path.stem[-2:] for path in files})
    pairs = [actors[k : k + 2] for k in range(0, len(actors), 2)]
    if len(pairs) != _FOLDS:
        raise SystemExit(f"{len(actors)} actors in {features}: twelve are needed")
    right = 0
    for fold, tested in enumerate(pairs):
        validating = pairs[(fold + 1) % _FOLDS]
        parts: tuple[list[Path], ...] = ([], [], [])
        for path in files:
            actor = path.stem[-2:]
            parts[2 if actor in tested else 1 if actor in validating else 0].append(path)
        right += train(parts, recurrent, epochs)
    return right / len(files)


def train(parts: Sequence[Sequence[Path]], recurrent: bool, epochs: int) -> int:
    """Train on the first part, keep the epoch best on the second; returns the clips of the third that are right."""
    torch.manual_seed(0)
    data = [Files(part, pooled=not recurrent) for part in parts]
    loaders = [DataLoader(one, _BATCH, shuffle=k == 0, collate_fn=collate) for k, one in enumerate(data)]
    dim = data[0][0][0].shape[-1]
    model = Gru(dim) if recurrent else Perceptron(dim)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    best, kept = -1, deepcopy(model.state_dict())
    for _ in range(epochs):
        model.train()
        for frames, lengths, classes in loaders[0]:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(frames, lengths), classes).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
        found = count_right(model, loaders[1])
        if found > best:
            best, kept = found, deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return count_right(model, loaders[2])


@torch.no_grad()
def count_right(model: torch.nn.Module, loader: "DataLoader[tuple[torch.Tensor, int]]") -> int:
    """How many clips get their class."""
    model.eval()
    return sum(int((model(frames, lengths).argmax(dim=1) == classes).sum()) for frames, lengths, classes in loader)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    loops = parser.add_subparsers(dest="loop", required=True)
    extracting = loops.add_parser("extract", help="every clip of RAVDESS into an .npy file")
    for name in ("checkpoint", "folder", "out"):
        extracting.add_argument(name, type=Path)
    for name in ("mlp", "gru"):
        training = loops.add_parser(name, help="cross-validate on a folder of .npy files")
        training.add_argument("features", type=Path)
        training.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args(arguments)
    if options.loop == "extract":
        extract(options.checkpoint, options.folder, options.out)
    else:
        accuracy = cross_validate(options.features, options.loop == "gru", options.epochs)
        print(json.dumps({"accuracy": accuracy}))


if __name__ == "__main__":
    main()
