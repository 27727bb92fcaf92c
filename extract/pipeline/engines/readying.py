"""Everything that a pass needs before its tasks are planned, made in the process that plans and in each that works."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ....cache import Cache, EmocacheError, Manifest
from ....cache.device import tell_device
from ....cache.plan import missing_of
from ....cache.telling import tell
from ... import encoders
from ...encoders.centerface import load_detector
from ...encoders.encoder import Encoder
from ...encoders.provenance import origin
from ...goals.passes import Pass
from .. import estimate, machine
from ..clips import Decoder, known_faces
from ..sources import Sources
from ..stream_targets import check_expected, make_targets, parse_layers
from .local_engine import Work
from .options import Options


def load_encoders(
    options: Options, work: Pass, cache: Cache, corpus: str
) -> tuple[dict[str, Encoder], dict[str, EmocacheError]]:
    """Return the encoders by their names; and of those that are in the cache but cannot be had any more, why not."""
    known = {info.recipe["encoder"] for info in cache.streams(corpus)}
    loaded: dict[str, Encoder] = {}
    unusable: dict[str, EmocacheError] = {}
    for name in work.layers:
        try:
            encoder = encoders.load(
                name, checkpoints=options.checkpoints, device=options.device, precision=options.precision,
                offline=options.offline, alias=work.alias, origins=work.origins,
            )  # fmt: skip
        except EmocacheError as error:
            if Path(name).name not in known and options.goals is None:
                raise
            unusable[name] = error
        else:
            if encoder.name in {other.name for other in loaded.values()}:
                raise EmocacheError(
                    f"--encoder {name}: streams of another one here are called {encoder.name!r} too; run it by itself,"
                    " with --as NAME"
                )
            loaded[name] = encoder
    return loaded, unusable


def make_ready_again(options: Options, corpus: str, manifest_sha256: str, names: Collection[str]) -> Work:
    """Make a pass ready in another process than the one that has planned it.

    Args:
        options: of that process, with the recipes of its streams as `expected`.
        corpus: its name in the cache.
        manifest_sha256: of the manifest that it goes by.
        names: of the encoders that it has.

    Returns:
        The same pass.

    Raises:
        EmocacheError: this machine does not see the same cache and the same media, or has other encoders.
    """
    cache = Cache(options.cache, options.single_writer)
    manifest = cache.manifest(corpus)
    if manifest.sha256 != manifest_sha256:
        raise EmocacheError(f"cache {cache.objects.url} has another manifest of {corpus} than the command has just put"
                            " there; give a --cache that all machines see, or run the same command again")  # fmt: skip
    if not options.data.is_dir():
        raise EmocacheError(f"there is no folder {options.data}, which the command reads {corpus} from; give a --data"
                            " that all machines see")  # fmt: skip
    work = options.asked()
    loaded, unusable = load_encoders(options, work, cache, corpus)
    for name in names:
        if name in unusable:
            raise unusable[name]
    loaded = {name: encoder for name, encoder in loaded.items() if name in names}
    chosen = {encoder: parse_layers(work.layers[name], encoder) for name, encoder in loaded.items()}
    return make_ready(options, work, cache, manifest, loaded, open_sources(options, cache, corpus, chosen))


def open_sources(
    options: Options, cache: Cache, corpus: str, chosen: Iterable[Encoder], every: bool = False
) -> Sources:
    """Open the texts and words that some encoders need; `every`: all that the options name."""
    inputs = frozenset(name for encoder in chosen for name in encoder.inputs)
    # Of an encoder that cannot be had nobody knows the inputs, so every stored text may be needed to find its streams.
    read = inputs | {"text", "words"} if every else inputs
    return Sources.open(cache, corpus, options.text_from, options.words_from, read)


def make_ready(
    options: Options, work: Pass, cache: Cache, manifest: Manifest, loaded: Mapping[str, Encoder], sources: Sources
) -> Work:
    """Open what a pass reads, and create the streams that it fills."""
    chosen = {encoder: parse_layers(work.layers[name], encoder) for name, encoder in loaded.items()}
    inputs = frozenset(name for encoder in chosen for name in encoder.inputs)
    detector = load_detector(options.detector, options.device) if "video" in inputs else None
    decoder = Decoder(options.data, inputs, detector, options.fps, sources, detect_every=options.detect_every)
    decoder = replace(decoder, known=known_faces(cache, manifest.corpus, decoder))
    asked = manifest.ids if options.only is None else [i for i in manifest.ids if i in options.only]
    asked = asked if options.limit is None else asked[: options.limit]
    sources.check(asked)
    device = options.device if any(estimate.runs_on_device(encoder) for encoder in chosen) else "cpu"
    if options.goals is None and device != "cpu":  # the plan of goals has told it
        tell(tell_device(device, options.precision), err=True)
    check_expected(chosen, decoder, options.dtype, options.expected)
    targets = make_targets(
        cache, manifest.corpus, chosen, decoder, dtype=options.dtype, backend=options.backend,
        environments={encoder: environment_of(encoder, loaded, options, work, device) for encoder in chosen},
    )  # fmt: skip
    # Of a million utterances that are there already none is made an object.
    missing = {i for target in targets for i in missing_of(target.writer, asked, options.retry_failed)}
    lacking = sources.fill(manifest.rows(missing))
    return Work(options, tuple(loaded), asked, lacking, chosen, targets, decoder, device)


def environment_of(
    encoder: Encoder, loaded: Mapping[str, Encoder], options: Options, work: Pass, device: str
) -> dict[str, Any]:
    """Describe what an encoder's recipe leaves out: libraries, the machine, and where its weights are from."""
    name = next(name for name, one in loaded.items() if one is encoder)
    told = machine.environment(device)
    if options.ray_device is not None:
        told["device"] = f"{options.ray_device}, by workers of Ray"
    return {**told, "weights": origin(name, options.checkpoints, work.origins)}
