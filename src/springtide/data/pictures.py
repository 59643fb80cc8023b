"""A folder of images, one folder per class, as samples."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from PIL import Image

from springtide.data.files import File, PathLike, reaching, resolve, shown
from springtide.data.records import BadRecord, Records
from springtide.data.sources import changed, lost
from springtide.spec import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
HASHED = 64


class Images(Records):
    """Image files below `folder`/CLASS; `classes` are the names of the folders, in order."""

    def __init__(
        self,
        folder: PathLike,
        size: tuple[int, int] | None,
        mode: str,
        dtype: str,
        on_bad: str,
        disk_cache_bytes: int | None,
    ) -> None:
        super().__init__(on_bad)
        self._size, self._mode, self._dtype, self._disk_cache_bytes = size, mode, dtype, disk_cache_bytes
        self._url = os.fspath(folder).rstrip("/")
        self.folder = shown(self._url)
        if mode not in CHANNELS:
            raise UserError(f'mode="{mode}" is not known; write "L" (grey), "RGB" or "RGBA"')
        if dtype not in ("uint8", "float32"):
            raise UserError(f'dtype="{dtype}" is not known; write "uint8" (0 to 255) or "float32" (0 to 1)')
        system, inner = resolve(self._url)
        self._inner = inner.rstrip("/")
        self._local = isinstance(system, LocalFileSystem)
        try:
            with reaching(self._url, "folder of images"):
                is_folder = system.info(inner)["type"] == "directory"
                found = system.find(inner, detail=True) if is_folder else {}
        except FileNotFoundError:
            is_folder = False
        if not is_folder:
            raise UserError(f"{self.folder}: there is no such folder of images")
        cut = len(inner.rstrip("/")) + 1
        self._names: list[tuple[str, int]] = sorted(
            (path[cut:], int(about["size"]))
            for path, about in found.items()
            if path.lower().endswith(ENDINGS) and "/" in path[cut:]
        )
        if not self._names:
            raise UserError(f"{self.folder}: no images in folders of their classes; put them at CLASS/NAME.png")
        self.classes = sorted({name.partition("/")[0] for name, _ in self._names})
        self._about = {} if self._local else {name: found[inner.rstrip("/") + "/" + name] for name, _ in self._names}
        self._labels = {name: np.int64(label) for label, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int) -> Any:
        name = self._names[index][0]
        try:
            with Image.open(io.BytesIO(self._bytes(*self._names[index]))) as image:
                converted = image.convert(self._mode)
                if self._size is not None and converted.size != self._size[::-1]:
                    converted = converted.resize(self._size[::-1], Image.Resampling.BILINEAR)
                pixels = np.asarray(converted, dtype=np.uint8)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            words = "it is none that Pillow knows" if "cannot identify" in str(error) else str(error)
            raise BadRecord(
                f'{self.folder}/{name}: this image cannot be read: {words}; mend or remove it, or give on_bad="skip"'
            ) from None
        rows: NDArray[Any] = pixels.reshape(*pixels.shape[:2], CHANNELS[self._mode])
        planes = np.array(rows.transpose(2, 0, 1), order="C")
        if self._dtype == "float32":
            planes = planes.astype(np.float32) / np.float32(255)
        return planes, self._labels[name.partition("/")[0]]

    def _bytes(self, name: str, size_bytes: int) -> bytes:
        if self._local:
            return self._local_bytes(name, size_bytes)
        file = File(f"{self._url}/{name}", "image", about=self._about[name], disk_cache_bytes=self._disk_cache_bytes)
        return file.read(0, size_bytes)

    def _local_bytes(self, name: str, size_bytes: int) -> bytes:
        """Without what a `File` remembers: it would take as long as the decoding of a small picture."""
        path = f"{self._inner}/{name}"
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError:
            raise lost(path) from None
        except PermissionError:
            raise UserError(f"{path}: this image may not be read by this user") from None
        if len(content) != size_bytes:
            raise changed(path, size_bytes, len(content))
        return content

    def _fingerprint(self) -> str:
        """Of the names and sizes of all files, and the content of 64 at even distances."""
        read = repr((self._names, self._size, self._mode, self._dtype, self.on_bad))
        digest = hashlib.blake2b(read.encode(), digest_size=8)
        last = len(self._names) - 1
        for index in sorted({part * last // (HASHED - 1) for part in range(HASHED)}):
            digest.update(self._bytes(*self._names[index]))
        return digest.hexdigest()


def images(
    folder: PathLike,
    size: int | tuple[int, int] | None = None,
    mode: str = "RGB",
    *,
    dtype: str = "uint8",
    on_bad: str = "raise",
    disk_cache_bytes: int | None = None,
) -> Images:
    """Images at `folder`/CLASS/NAME.png (or .jpg, ...): an array (channels, height, width) and a label, int64.

    `size` (height, width, or one number for both) scales bilinearly, else each keeps its own. `mode` is "L", "RGB" or
    "RGBA"; `dtype` "uint8", or "float32" from 0 to 1. Labels count the class folders in the order of their names.
    Raises `UserError` where there are none; see `Records` for `on_bad`.
    """
    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and (len(sides) != 2 or min(sides) < 1):
        raise UserError(f"size={size} is not the size of an image; give one number or (height, width), from 1")
    return Images(folder, sides, mode, dtype, on_bad, disk_cache_bytes)
