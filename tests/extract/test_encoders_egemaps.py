import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError, InputFailure, Item, Utterance
from emocache.cache.stored_form import to_storage
from emocache.extract.encoders import Clip
from emocache.extract.encoders.egemaps import Egemaps, EgemapsFunctionals

Samples = npt.NDArray[np.float32]

try:
    import opensmile
except ImportError:
    opensmile = None

needs_opensmile = pytest.mark.skipif(opensmile is None, reason="openSMILE is not installed")


@pytest.fixture(scope="module")
def descriptors() -> Egemaps:
    return Egemaps()


@pytest.fixture(scope="module")
def functionals() -> EgemapsFunctionals:
    return EgemapsFunctionals()


@pytest.fixture(params=["descriptors", "functionals"])
def encoder(request: pytest.FixtureRequest) -> Egemaps:
    made: Egemaps = request.getfixturevalue(request.param)
    return made


@pytest.mark.parametrize("encoder_class", [Egemaps, EgemapsFunctionals])
def test_without_the_library_it_says_what_to_install(
    encoder_class: type[Egemaps], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    name = encoder_class.name
    with pytest.raises(EmocacheError, match=rf"'{name}' needs openSMILE; .* pip install 'emocache\[egemaps\]'"):
        encoder_class()


@needs_opensmile
@pytest.mark.parametrize("n", [960, 961, 1119, 1120, 4000, 16_123])
def test_descriptors_and_their_times_are_opensmiles(
    descriptors: Egemaps, n: int, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    audio = voice(2.0)[:n]
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    table = smile.process_signal(audio, 16_000)
    frames = frames_of(descriptors, Clip("a", audio))
    np.testing.assert_array_equal(frames, table.to_numpy())
    times = descriptors.recipe(None)["times"]
    starts = times["first_start"] + np.arange(len(frames)) / times["rate"]
    np.testing.assert_allclose(table.index.get_level_values("start").total_seconds(), starts, atol=1e-9)
    # The package lets the last frame end with the clip.
    ends = table.index.get_level_values("end").total_seconds()[:-1]
    np.testing.assert_allclose(ends, starts[:-1] + times["width"], atol=1e-9)
    assert len(frames) == descriptors.expected_frames(Utterance("a", duration=n / 16_000))


@needs_opensmile
def test_functionals_are_opensmiles(functionals: EgemapsFunctionals, voice: Callable[..., Samples]) -> None:
    audio = voice(1.5)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    (result,) = functionals.encode([Clip("a", audio)], [None])
    assert isinstance(result, dict)
    stored = to_storage(result[None], functionals.recipe(None) | {"dtype": "float32"})
    np.testing.assert_array_equal(stored.frames, smile.process_signal(audio, 16_000).to_numpy())
    assert stored.times is not None
    np.testing.assert_array_equal(stored.times, [[0.0, 1.5]])
    assert functionals.expected_frames(Utterance("a", duration=1.5)) == 1


@needs_opensmile
@pytest.mark.parametrize("n", [1, 959])
def test_a_clip_under_60_ms_fails_alone(encoder: Egemaps, n: int, voice: Callable[..., Samples]) -> None:
    short, good = encoder.encode([Clip("short", voice(1.0)[:n]), Clip("good", voice(1.0))], [None])
    assert isinstance(short, InputFailure) and short.reason == "no_frames"
    assert f"{n} samples; eGeMAPS needs 960 (60 ms)" in str(short)
    assert isinstance(good, dict)


@needs_opensmile
@pytest.mark.parametrize("sound", [np.zeros, np.ones])
def test_the_least_clip_and_silence_are_finite(
    encoder: Egemaps, sound: Callable[[int], npt.NDArray[np.float64]]
) -> None:
    for n in (960, 16_000):
        (result,) = encoder.encode([Clip("a", sound(n).astype(np.float32))], [None])
        assert isinstance(result, dict) and isinstance(result[None], Item)
        to_storage(result[None], encoder.recipe(None) | {"dtype": "float16"})


@needs_opensmile
def test_audio_beyond_full_scale_is_clipped_not_wrapped(
    descriptors: Egemaps, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    loud = voice(1.0) * 8
    assert loud.max() > 1
    clipped = np.clip(loud, -1, 32_767 / 32_768)
    np.testing.assert_array_equal(frames_of(descriptors, Clip("a", loud)), frames_of(descriptors, Clip("b", clipped)))
    assert np.abs(loud).max() > 1  # the caller's samples are as they were


@needs_opensmile
def test_batched_equals_alone(encoder: Egemaps, clips: list[Clip], worst_distance: Callable[..., float]) -> None:
    assert worst_distance(encoder, [clip for clip in clips if clip.audio is not None and len(clip.audio) < 50_000]) == 0


@needs_opensmile
def test_threads_may_share_an_encoder(
    encoder: Egemaps, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    several = [Clip(str(seed), voice(0.5, seed)) for seed in range(4)]
    alone = [frames_of(encoder, clip) for clip in several]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda clip: frames_of(encoder, clip), several * 3))
    for found, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_array_equal(found, expected)


@needs_opensmile
def test_faults(encoder: Egemaps, check_faults: Callable[[Egemaps], None]) -> None:
    check_faults(encoder)


@needs_opensmile
def test_recipe(encoder: Egemaps) -> None:
    recipe = encoder.recipe(None)
    assert recipe["encoder"] == encoder.name and recipe["dim"] == encoder.dim == len(encoder._smile.feature_names)
    assert recipe["preprocessing"]["feature_set"] == "eGeMAPSv02" and recipe["aux"] == {}
    assert (recipe["times"] is None) == (encoder.rate is None)
    assert encoder.cost(Utterance("a", duration=2.0)) == 2 * encoder.cost(Utterance("a", duration=1.0)) > 0
    with pytest.raises(EmocacheError, match=f"encoder '{encoder.name}' has no layers, but layer 1"):
        encoder.recipe(1)
    with pytest.raises(EmocacheError, match="has no layers"):
        encoder.encode([], [0])
