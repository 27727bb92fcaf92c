from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError, InputFailure, Item, Utterance
from emocache.cache.recipe import fingerprint
from emocache.cache.stored_form import check_values, to_storage
from emocache.extract.encoders import REGISTRY, Clip
from emocache.extract.encoders.acoustic import LogMel, Mfcc, Mfcc39, MfccCode, Spectrogram, SpectrogramCode, deltas
from emocache.extract.encoders.encoder import storage_dtype

Samples = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
ENCODERS = (LogMel, Mfcc, Spectrogram, SpectrogramCode, MfccCode, Mfcc39)


def naive_scale(kind: str) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From Hz to mel and back, of one frequency."""
    if kind == "htk":
        return lambda f: 2595 * np.log10(1 + f / 700), lambda m: 700 * (10 ** (m / 2595) - 1)
    step = np.log(6.4) / 27
    return (
        lambda f: f * 3 / 200 if f < 1000 else 15 + np.log(f / 1000) / step,
        lambda m: m * 200 / 3 if m < 15 else 1000 * np.exp(step * (m - 15)),
    )


@cache
def naive_filters(n_fft: int, bands: int, kind: str, straight_in_mel: bool = False) -> Array:
    """(bands, n_fft // 2 + 1) triangles of height 1, one weight at a time."""
    to_mel, to_hertz = naive_scale(kind)
    edges = [to_hertz(to_mel(8000) * k / (bands + 1)) for k in range(bands + 2)]
    place = to_mel if straight_in_mel else float
    weights = np.zeros((bands, n_fft // 2 + 1))
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for bin_ in range(n_fft // 2 + 1):
            hertz = bin_ * 16_000 / n_fft
            if low < hertz <= centre:
                weights[band, bin_] = (place(hertz) - place(low)) / (place(centre) - place(low))
            elif centre < hertz < high:
                weights[band, bin_] = (place(high) - place(hertz)) / (place(high) - place(centre))
    return weights


def equal_area(filters: Array, kind: str) -> Array:
    """The filters, each divided by half its width in Hz."""
    to_mel, to_hertz = naive_scale(kind)
    edges = np.array([to_hertz(to_mel(8000) * k / (len(filters) + 1)) for k in range(len(filters) + 2)])
    return np.asarray(filters * (2 / (edges[2:] - edges[:-2]))[:, None])


def naive_powers(audio: Samples, taper: Array, hop: int, n_fft: int) -> Array:
    """Power spectra of windows centred on every hop-th sample, sample by sample, silence around the clip."""
    rows = []
    for frame in range(1 + len(audio) // hop):
        windowed = np.zeros(n_fft)
        for k, weight in enumerate(taper):
            at = hop * frame - len(taper) // 2 + k
            windowed[k] = audio[at] * weight if 0 <= at < len(audio) else 0.0
        rows.append(np.abs(np.fft.fft(windowed)[: n_fft // 2 + 1]) ** 2)
    return np.asarray(rows)


def hamming(length: int, period: int) -> Array:
    return np.asarray(0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / period))


def naive_dct(rows: Array) -> Array:
    """Orthonormal DCT-II by its sum."""
    n = rows.shape[1]
    k = np.arange(n)[:, None]
    basis = np.cos(np.pi * k * (2 * np.arange(n) + 1) / (2 * n)) * np.where(k == 0, np.sqrt(1 / n), np.sqrt(2 / n))
    return np.asarray(rows @ basis.T)


def naive_log_mel(audio: Samples) -> Array:
    power = naive_powers(audio, hamming(400, 400), 160, 512) @ naive_filters(512, 40, "htk").T
    return np.asarray(np.log(np.maximum(power, 1e-10)))


def naive_spectrogram(audio: Samples) -> Array:
    filters = equal_area(naive_filters(800, 128, "slaney"), "slaney")
    power = naive_powers(audio, hamming(640, 640), 160, 800) @ filters.T
    return np.asarray(10 * np.log10(np.maximum(power, 1e-10)))


def naive_spectrogram_code(audio: Samples) -> Array:
    filters = equal_area(naive_filters(800, 128, "slaney"), "slaney")
    return np.asarray(naive_powers(audio, hamming(40, 40), 10, 800) @ filters.T)


def naive_mfcc_code(audio: Samples) -> Array:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    power = naive_powers(audio, hann, 160, 2048) @ equal_area(naive_filters(2048, 128, "htk"), "htk").T
    decibel = 10 * np.log10(np.maximum(power, 1e-10))
    return naive_dct(np.maximum(decibel, decibel.max() - 80))[:, :40]


def naive_mfcc39(audio: Samples) -> Array:
    """HTK's MFCC_E_D_A by the formulas of the HTK Book, frame by frame, on 16-bit sample values."""
    audio = np.concatenate([audio, np.zeros(max(400 - len(audio), 0), np.float32)]) * 32_768
    static = []
    for start in range(0, len(audio) - 399, 160):
        frame = audio[start : start + 400].astype(float)
        emphasised = [0.03 * frame[0], *(frame[t] - 0.97 * frame[t - 1] for t in range(1, 400))]
        power = np.abs(np.fft.fft(emphasised * hamming(400, 399), 512)[:257]) ** 2
        log = np.log(np.maximum(naive_filters(512, 26, "htk", straight_in_mel=True) @ power, 1))
        cepstra = [
            np.sqrt(2 / 26) * sum(log[j] * np.cos(np.pi * i / 26 * (j + 0.5)) for j in range(26)) for i in range(1, 13)
        ]
        liftered = [c * (1 + 11 * np.sin(np.pi * i / 22)) for i, c in enumerate(cepstra, start=1)]
        static.append([*liftered, np.log(max((frame**2).sum(), 1))])
    return np.hstack([static, naive_deltas(static), naive_deltas(naive_deltas(static))])


def naive_deltas(rows: Any) -> Array:
    x, last = np.asarray(rows), len(rows) - 1
    return np.asarray([sum(k * (x[min(t + k, last)] - x[max(t - k, 0)]) for k in (1, 2)) / 10 for t in range(len(x))])


@pytest.fixture(params=ENCODERS, ids=lambda c: c.name)
def encoder(request: pytest.FixtureRequest) -> LogMel:
    made: LogMel = request.param()
    return made


@pytest.mark.parametrize("n", [1, 159, 160, 399, 400, 559, 560, 2000])
@pytest.mark.parametrize(
    ("encoder", "naive", "tolerance"),
    [
        (LogMel(), naive_log_mel, 2e-3),
        (Mfcc(), lambda audio: naive_dct(naive_log_mel(audio)), 2e-3),
        (Spectrogram(), naive_spectrogram, 1e-2),
        (MfccCode(), naive_mfcc_code, 2e-3),
        (Mfcc39(), naive_mfcc39, 2e-3),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_equals_the_naive_definition(
    encoder: LogMel, naive: Callable[[Samples], Array], tolerance: float, n: int,
    voice: Callable[..., Samples], frames_of: Callable[..., Samples],
) -> None:  # fmt: skip
    audio = voice(1.0)[:n]
    np.testing.assert_allclose(frames_of(encoder, Clip("a", audio)), naive(audio), atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("n", [1, 9, 10, 399, 1000])
def test_power_equals_the_naive_definition(n: int, voice: Callable[..., Samples]) -> None:
    audio = voice(1.0)[:n]
    expected = naive_spectrogram_code(audio)
    np.testing.assert_allclose(SpectrogramCode().spectrogram(audio), expected, rtol=1e-3, atol=1e-7 * expected.max())


def test_the_quiet_is_raised_to_80_db_below_the_peak(voice: Callable[..., Samples]) -> None:
    audio = voice(0.4)
    audio[3200:] *= 1e-5
    np.testing.assert_allclose(MfccCode()._transform(audio), naive_mfcc_code(audio), atol=2e-3)


@pytest.mark.parametrize("n", [900, 16_000])
def test_the_released_codes_variants_equal_librosa(n: int, voice: Callable[..., Samples]) -> None:
    feature = pytest.importorskip("librosa", reason="librosa is not installed").feature
    audio = voice(1.0)[:n]
    audio[n // 2 :] *= 1e-5  # so that top_db cuts something
    power = feature.melspectrogram(y=audio, sr=16_000, n_fft=800, win_length=40, hop_length=10, window="hamming")
    np.testing.assert_allclose(SpectrogramCode().spectrogram(audio), power.T, rtol=2e-3, atol=1e-7 * power.max())
    expected = feature.mfcc(y=audio, sr=16_000, n_mfcc=40, hop_length=160, htk=True).T
    (result,) = MfccCode().encode([Clip("a", audio)], [None])
    assert isinstance(result, dict)
    np.testing.assert_allclose(result[None].frames, expected, atol=2e-3)


# The components and settings of MDRE's MFCC12_E_D_A.conf; the package's own files bring the source and the sink.
OPENSMILE = {
    "frame:cFramer": "frameSize=0.025;frameStep=0.010;frameMode=fixed;frameCenterSpecial=left;noPostEOIprocessing=1",
    "pe:cVectorPreemphasis": "k=0.97",
    "win:cWindower": "winFunc=ham",
    "fft:cTransformFFT": "zeroPadSymmetric=0",
    "mag:cFFTmagphase": "",
    "mel:cMelspec": "htkcompatible=1;nBands=26;usePower=1;lofreq=0;hifreq=8000",
    "mfcc:cMfcc": "firstMfcc=1;lastMfcc=12;cepLifter=22;htkcompatible=1",
    "energy:cEnergy": "reader.dmLevel=frame;htkcompatible=1;rms=0;log=1;processArrayFields=0",
    "static:cVectorConcat": "reader.dmLevel=mfcc\\;energy;processArrayFields=0;includeSingleElementFields=1",
    "delta:cDeltaRegression": "deltawin=2",
    "accel:cDeltaRegression": "deltawin=2",
    "lld:cVectorConcat": "reader.dmLevel=static\\;delta\\;accel;includeSingleElementFields=1",
}


def opensmile_config() -> str:
    """Each component reads what the one before it writes, unless it says otherwise."""
    lines, before = [], "wave"
    for component, settings in OPENSMILE.items():
        name, _, kind = component.partition(":")
        own = [line.replace("\0", ";") for line in settings.replace("\\;", "\0").split(";") if line]
        own += [] if any(line.startswith("reader") for line in own) else [f"reader.dmLevel={before}"]
        lines += ["[componentInstances:cComponentManager]", f"instance[{name}].type={kind}"]
        lines += [f"[{component}]", f"writer.dmLevel={name}", *own]
        before = name
    start = ["[componentInstances:cComponentManager]", "instance[dataMemory].type=cDataMemory", r"\{\cm[source{?}:in]}"]
    return "\n".join([*start, *lines, r"\{\cm[sink{?}:out]}", ""])


def test_mfcc39_equals_opensmile(voice: Callable[..., Samples], tmp_path: Path) -> None:
    opensmile = pytest.importorskip("opensmile", reason="openSMILE is not installed")
    (tmp_path / "mfcc39.conf").write_text(opensmile_config())
    smile = opensmile.Smile(str(tmp_path / "mfcc39.conf"), "lld")
    audio = (np.round(voice(1.0) * 32_768) / 32_768).astype(np.float32)
    expected = smile(audio, 16_000)[0].T
    frames = Mfcc39()._transform(audio)
    assert frames.shape == expected.shape == (98, 39)
    np.testing.assert_allclose(frames[:, :26], expected[:, :26], atol=1e-3)
    # Beyond the clip HTK, and this one, repeat the last delta; openSMILE does not.
    np.testing.assert_allclose(frames[:-2, 26:], expected[:-2, 26:], atol=1e-3)


def test_deltas_of_a_line_are_its_slope() -> None:
    line = np.arange(10, dtype=np.float32)[:, None] * [1.0, -2.0]
    np.testing.assert_allclose(deltas(line.astype(np.float32))[2:-2], np.tile([1.0, -2.0], (6, 1)), rtol=1e-6)
    assert not deltas(np.ones((1, 3), np.float32)).any()


@pytest.mark.parametrize("encoder", [LogMel(), Spectrogram(), SpectrogramCode()], ids=lambda e: e.name)
def test_a_pure_tone_lies_in_its_band(encoder: LogMel, frames_of: Callable[..., Samples]) -> None:
    tone = np.sin(2 * np.pi * 3000 * np.arange(16_000) / 16_000).astype(np.float32)
    frames = frames_of(encoder, Clip("tone", tone))
    to_mel, to_hertz = naive_scale(encoder.spectrogram.mel)
    centres = [to_hertz(to_mel(8000) * k / (encoder.dim + 1)) for k in range(1, encoder.dim + 1)]
    found = np.asarray(centres)[frames[50:-50].argmax(axis=1)]
    assert (np.abs(found - 3000) < 16_000 / encoder.spectrogram.window).all()


def test_silence_is_the_floor(frames_of: Callable[..., Samples]) -> None:
    silence = Clip("silence", np.zeros(4000, np.float32))
    np.testing.assert_allclose(frames_of(LogMel(), silence), np.log(1e-10), rtol=1e-6)
    np.testing.assert_allclose(frames_of(Spectrogram(), silence), -100, rtol=1e-6)
    np.testing.assert_allclose(frames_of(Mfcc39(), silence), 0, atol=1e-3)
    assert not frames_of(SpectrogramCode(), silence).any()


def test_no_band_of_the_spectrogram_is_empty(voice: Callable[..., Samples]) -> None:
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert Spectrogram().spectrogram(noise)[5:-5].min() > -60


def test_long_recordings_are_done_in_blocks(encoder: LogMel, voice: Callable[..., Samples]) -> None:
    """The frames on both sides of the first seam are those of a short piece around it."""
    spectrogram = encoder.spectrogram
    seam = (1 << 22) // spectrogram.n_fft
    audio = voice(1.0 + seam / spectrogram.rate)
    first = seam - 200
    piece = spectrogram(audio[first * spectrogram.hop :])[150:250]
    if spectrogram.top_db is None:  # else its floor follows the loudest frame of all
        np.testing.assert_allclose(spectrogram(audio)[seam - 50 : seam + 50], piece, atol=1e-3)
    assert len(spectrogram(audio)) == spectrogram.count(len(audio)) > seam


def test_batched_equals_alone(encoder: LogMel, clips: list[Clip], worst_distance: Callable[..., float]) -> None:
    assert worst_distance(encoder, clips) == 0


def test_faults(encoder: LogMel, check_faults: Callable[[LogMel], None]) -> None:
    check_faults(encoder)


def test_recipes(encoder: LogMel, clips: list[Clip], frames_of: Callable[..., Samples]) -> None:
    recipe: dict[str, Any] = encoder.recipe(None)
    assert recipe["encoder"] == encoder.name and recipe["layer"] is None and recipe["aux"] == {}
    assert recipe["dim"] == encoder.dim and encoder.layers == 0 and encoder.rate == recipe["times"]["rate"]
    assert "precision" not in recipe
    for clip in clips:
        assert clip.audio is not None
        utterance = Utterance("a", duration=len(clip.audio) / 16_000)
        assert encoder.expected_frames(utterance) == len(frames_of(encoder, clip))
        assert encoder.cost(utterance) == pytest.approx(len(clip.audio) / 16_000 * recipe["times"]["rate"] / 100)


def test_every_variant_has_a_recipe_of_its_own() -> None:
    described = [fingerprint({**c().recipe(None), "encoder": "", "family": ""}) for c in ENCODERS]
    assert len(set(described)) == len(ENCODERS)


def test_streams_written_before_the_variants_came_stay_current() -> None:
    """The fingerprints are those of when log-mel and MFCC were the only two."""
    assert fingerprint(LogMel().recipe(None)) == "8186955ea6f429076d79a06808253259e81b19b7fc2467f3c46e6660cb57cb6b"
    assert fingerprint(Mfcc().recipe(None)) == "6474dee4001ced481be3c8c1a385fcee097842ca1a0e48e350dfb40fc6f45724"


def test_the_table_knows_what_is_stored() -> None:
    assert {c.name: storage_dtype(c()) for c in ENCODERS} == {c.name: REGISTRY[c.name].storage for c in ENCODERS}
    assert storage_dtype(SpectrogramCode()) == "float32"


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda c: c.name)
def test_times_are_those_of_the_sound(encoder: type[LogMel]) -> None:
    """A click is seen by the frames whose time span holds it, and by no other."""
    at = 8005
    audio = np.zeros(16_000, np.float32)
    audio[at] = 1.0
    frames = encoder.spectrogram(audio)
    loud = np.flatnonzero((frames > frames.min() + 1e-7).any(axis=1))
    times = encoder().recipe(None)["times"]
    start = times["first_start"] + np.arange(len(frames)) / times["rate"]
    seen = np.flatnonzero((start <= at / 16_000) & (at / 16_000 < start + times["width"]))
    # The outermost samples of a Hann window weigh next to nothing.
    assert seen[0] <= loud[0] <= seen[0] + 1 and seen[-1] - 1 <= loud[-1] <= seen[-1]


def test_power_beyond_float16_says_what_to_do(voice: Callable[..., Samples]) -> None:
    recipe = SpectrogramCode().recipe(None) | {"dtype": "float16"}
    frames = SpectrogramCode().spectrogram(voice(1.0))
    assert to_storage(Item(frames), recipe).frames.max() < 10
    loud = Item(SpectrogramCode().spectrogram(voice(1.0) * 32_768))
    with pytest.raises(InputFailure, match="does not fit float16; extract with --dtype float32"):
        check_values(to_storage(loud, recipe), loud)


def test_there_are_no_layers(encoder: LogMel) -> None:
    with pytest.raises(EmocacheError, match=f"encoder '{encoder.name}' has no layers, but layer 3"):
        encoder.recipe(3)
    with pytest.raises(EmocacheError, match="has no layers"):
        encoder.encode([], [0])
