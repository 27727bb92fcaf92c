"""Files of frames that processes map: written once, and gone with what they belong to."""

from pathlib import Path

import numpy as np

from emocache.train.data.shelf import Shelf, mapped


class Owner:
    """Something that files belong to."""


def test_an_array_is_written_once_and_its_file_goes_with_it(tmp_path: Path) -> None:
    shelf, frames = Shelf(tmp_path), np.arange(6, dtype=np.float16).reshape(3, 2)
    file = shelf.put(frames)
    assert shelf.put(frames) == file
    assert shelf.put(frames.copy()) != file  # the copy is gone already, and its file with it
    there = mapped(file)
    assert [*tmp_path.iterdir()] == [file] and np.array_equal(there, frames) and not isinstance(there, np.memmap)
    there[0] = 7  # of this process only
    assert np.array_equal(mapped(file), frames)
    del frames
    assert not [*tmp_path.iterdir()] and there[1, 1] == 3  # what is mapped stays readable


def test_what_is_made_for_an_owner_goes_with_the_owner(tmp_path: Path) -> None:
    shelf, owner, other = Shelf(tmp_path), Owner(), Owner()
    files = [shelf.put(np.full((2, 2), value), owner=whose) for value, whose in ((1, owner), (2, owner), (3, other))]
    assert len(set(files)) == 3 and [mapped(file)[0, 0] for file in files] == [1, 2, 3]
    del owner
    assert [*tmp_path.iterdir()] == files[2:]
    files[2].unlink()  # somebody else's doing disturbs nobody
    del other


def test_frames_that_nobody_holds_are_empty(tmp_path: Path) -> None:
    shelf, none = Shelf(tmp_path), np.empty((0, 5), np.float16)
    assert mapped(shelf.put(none)).shape == (0, 5)
