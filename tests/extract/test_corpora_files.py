"""The registry of corpora, finding media, and hashing them no more often than needed."""

import errno
import hashlib
import importlib
import inspect
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from types import SimpleNamespace

import pytest

from emocache.cache import EmocacheError
from emocache.cache.media_hashes import MediaHashes
from emocache.extract import corpora
from emocache.extract.corpora import MediaHasher, files


def write_settled(path: Path, data: bytes) -> Path:
    """A file last written a minute ago, so that its time stamp can be trusted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    minute_ago = time.time_ns() - 60 * 10**9
    os.utime(path, ns=(minute_ago, minute_ago))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files hashed, in order."""
    names: list[str] = []
    digest = hashlib.file_digest

    def counting(file: object, algorithm: str) -> object:
        names.append(Path(getattr(file, "name", "")).name)
        return digest(file, algorithm)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return names


def test_an_unknown_corpus_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"corpus 'ravdes'; did you mean ravdess\? there are: .*, ravdess, "):
        corpora.load("ravdes", tmp_path, mapping={}, hasher=MediaHasher())


def test_a_missing_folder_and_a_needless_mapping(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("ravdess", "emodb", "table"):
        with pytest.raises(
            EmocacheError, match=r"the folder .*nowhere does not exist; give the corpus's folder with --data, or as"
        ):
            corpora.load(name, tmp_path / "nowhere", mapping={}, hasher=MediaHasher())
        with pytest.raises(EmocacheError, match=r"the folder .*file is a file"):
            corpora.load(name, tmp_path / "file", mapping={}, hasher=MediaHasher())
    with pytest.raises(EmocacheError, match="corpus emodb takes no --map"):
        corpora.load("emodb", tmp_path, mapping={"id": "file"}, hasher=MediaHasher())


def test_every_entry_has_a_loader() -> None:
    for name, entry in corpora.REGISTRY.items():
        assert "\n" not in entry.description
        module, _, function = entry.module.partition(":")
        loader = getattr(importlib.import_module(f"emocache.extract.corpora.{module}"), function or "load")
        assert callable(loader), name


def test_the_registry_imports_no_decoder_and_no_model() -> None:
    code = (
        "import sys, emocache.extract.corpora;"
        "print({'torch', 'transformers', 'soundfile', 'av', 'soxr', 'espeakng_loader'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_media_files_leaves_out_hidden_names_and_other_files(tmp_path: Path) -> None:
    for name in ("b/2.WAV", "a/1.flac", "a/._1.flac", ".trash/3.wav", "notes.txt", "c.mp4"):
        write_settled(tmp_path / name, b"x")
    found = [p.relative_to(tmp_path).as_posix() for p in files.media_files(tmp_path)]
    assert found == ["a/1.flac", "b/2.WAV", "c.mp4"]


def test_one_per_stem_keeps_the_copy_nearest_to_the_root(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("all/A/1.wav", "A/1.wav", "A/2.wav", "all/A/3.wav")]
    kept = files.one_per_stem(paths)
    assert kept == {"1": paths[1], "2": paths[2], "3": paths[3]}


def test_stems_are_composed(tmp_path: Path) -> None:
    assert list(files.one_per_stem([tmp_path / "train_cafe\u0301.wav", tmp_path / "all" / "train_caf\u00e9.wav"])) == [
        "train_caf\u00e9"
    ]


def test_links_to_files_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    write_settled(tmp_path / "objects" / "1f", b"x")
    (tmp_path / "corpus" / "round").mkdir(parents=True)
    (tmp_path / "corpus" / "a.wav").symlink_to(tmp_path / "objects" / "1f")  # as git-annex and DVC keep media
    (tmp_path / "corpus" / "gone.wav").symlink_to(tmp_path / "objects" / "2e")
    (tmp_path / "corpus" / "round" / "b.wav").symlink_to(tmp_path / "corpus")
    found = files.media_files(tmp_path / "corpus")
    assert [path.name for path in found] == ["a.wav", "gone.wav"]
    with pytest.raises(EmocacheError, match=r"media file .*gone\.wav cannot be read: No such file"):
        MediaHasher().probe(found)


def test_folders_deeper_than_the_stack(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 300, "deep.wav")
    deep.parent.mkdir(parents=True)
    deep.touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        assert files.media_files(tmp_path) == [deep]
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(folder: str) -> object:
        if folder.endswith("Actor_02"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scan(folder)

    for actor in ("01", "02"):
        write_settled(tmp_path / f"Actor_{actor}" / f"03-01-01-01-01-01-{actor}.wav", b"x")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(EmocacheError, match=r"folder .*Actor_02 cannot be read: Permission denied; allow it"):
        corpora.load("ravdess", tmp_path, mapping={}, hasher=MediaHasher())


def test_the_order_of_folders_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for copy in ("", "all/", "more/"):
        for number in range(12):
            name = f"{copy}Actor_{number + 1:02}/03-01-01-01-01-01-{number + 1:02}.wav"
            write_settled(tmp_path / name, bytes(number) + copy.encode())
    scan, generator = os.scandir, random.Random(0)

    @contextmanager
    def shuffled(folder: str) -> Iterator[object]:
        with scan(folder) as entries:
            found = list(entries)
        generator.shuffle(found)
        yield iter(found)

    monkeypatch.setattr(os, "scandir", shuffled)
    made = {corpora.load("ravdess", tmp_path, mapping={}, hasher=MediaHasher()).to_bytes() for _ in range(4)}
    assert len(made) == 1


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(EmocacheError, match=r"a\.wav cannot be read: it is no regular file"):
        MediaHasher().probe(files.media_files(tmp_path))


def test_a_path_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    """Unpacking CaFE may leave the bytes of another code page in its folders' names."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/Col\x8are")
    try:
        write_settled(Path(folder) / "01-C-1-1.wav", b"x")
    except OSError:
        pytest.skip("this file system takes Unicode only")
    with pytest.raises(EmocacheError, match=r"Col\\udc8are/01-C-1-1\.wav' is not valid Unicode; rename it"):
        corpora.load("cafe", tmp_path, mapping={}, hasher=MediaHasher(tmp_path / "media.sqlite"))


def test_lines_of_text_whatever_the_encoding(tmp_path: Path) -> None:
    for encoding, end in (("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("latin-1", "\r\n")):
        (tmp_path / "a.txt").write_bytes(f"Größe \t{end}{end}zwei".encode(encoding))
        assert files.read_lines(tmp_path / "a.txt") == ["Größe", "", "zwei"]
    with pytest.raises(EmocacheError, match=r"b\.txt cannot be read: No such file"):
        files.read_lines(tmp_path / "b.txt")


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, reads: list[str]) -> None:
    memory = tmp_path / "cache" / "media.sqlite"
    a, b = write_settled(tmp_path / "a.wav", b"aaaa"), write_settled(tmp_path / "b.wav", b"bbbb")
    first = MediaHasher(memory).probe([a, b])
    assert first[a].sha256 == hashlib.sha256(b"aaaa").hexdigest()
    assert sorted(reads) == ["a.wav", "b.wav"]
    assert MediaHasher(memory).probe([b, a]) == first
    assert len(reads) == 2
    write_settled(a, b"AAAA")
    os.utime(a, ns=(1, a.stat().st_mtime_ns + 1))
    assert MediaHasher(memory).probe([a, b])[a].sha256 == hashlib.sha256(b"AAAA").hexdigest()
    assert reads[2:] == ["a.wav"]
    MediaHasher(memory, rehash=True).probe([a, b])
    assert sorted(reads[3:]) == ["a.wav", "b.wav"]


def test_another_file_with_the_same_size_and_time_is_seen(tmp_path: Path, reads: list[str]) -> None:
    memory = tmp_path / "media.sqlite"
    a = write_settled(tmp_path / "a.wav", b"aaaa")
    MediaHasher(memory).probe([a])
    stamp = a.stat().st_mtime_ns
    other = write_settled(tmp_path / "other.wav", b"AAAA")
    os.utime(other, ns=(stamp, stamp))
    other.replace(a)
    assert MediaHasher(memory).probe([a])[a].sha256 == hashlib.sha256(b"AAAA").hexdigest()


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, reads: list[str]) -> None:
    """Written again within its time stamp's grain, it would look unchanged."""
    a = tmp_path / "a.wav"
    a.write_bytes(b"aaaa")
    for _ in range(2):
        MediaHasher(tmp_path / "media.sqlite").probe([a])
    assert len(reads) == 2


def test_a_damaged_or_read_only_memory_stops_nothing(tmp_path: Path) -> None:
    a = write_settled(tmp_path / "a.wav", b"aaaa")
    damaged = write_settled(tmp_path / "damaged.sqlite", b"this is no database" * 100)
    for memory in (damaged, a / "below_a_file.sqlite", None):
        assert MediaHasher(memory).probe([a])[a].sha256 == hashlib.sha256(b"aaaa").hexdigest()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, EmocacheError])
def test_what_was_hashed_before_it_ended_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    files = [write_settled(tmp_path / f"{name}.wav", name.encode()) for name in "abcd"]
    real, hashed = hashlib.file_digest, []

    def digest(file: BufferedReader, algorithm: str) -> object:
        hashed.append(Path(file.name).stem)
        if hashed == ["a", "b", "c"]:
            raise stop("stopped")
        return real(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    for _ in range(2):
        with suppress(stop):
            MediaHasher(tmp_path / "media.sqlite", workers=1).probe(files)
    assert (hashed.count("a"), hashed.count("b"), hashed.count("c")) == (1, 1, 2)


def test_hashes_are_remembered_every_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill cannot be handled: what was remembered before it counts."""
    files = [write_settled(tmp_path / f"{name}.wav", name.encode()) for name in "abcd"]
    clock = itertools.count(step=31)
    monkeypatch.setattr(
        "emocache.extract.corpora.files.time", SimpleNamespace(monotonic=lambda: next(clock), time=time.time)
    )
    writes: list[int] = []
    monkeypatch.setattr(MediaHashes, "remember", lambda self, rows: writes.append(len(rows)))
    MediaHasher(tmp_path / "media.sqlite", workers=1).probe(files)
    assert writes == [2, 2, 0]


def test_unreadable_and_changing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmocacheError, match=r"media file .*gone\.wav cannot be read: No such file"):
        MediaHasher().probe([tmp_path / "gone.wav"])
    a = write_settled(tmp_path / "a.wav", b"aaaa")

    def growing(file: object, algorithm: str) -> object:
        with a.open("ab") as more:
            more.write(b"a")
        return hashlib.sha256(b"aaaa")

    monkeypatch.setattr(hashlib, "file_digest", growing)
    with pytest.raises(EmocacheError, match=r"a\.wav changed while it was read"):
        MediaHasher().probe([a])


def test_an_unreadable_header_gives_no_duration_and_no_error(tmp_path: Path) -> None:
    a = write_settled(tmp_path / "a.wav", b"no audio at all")
    assert MediaHasher().probe([a])[a].duration is None
