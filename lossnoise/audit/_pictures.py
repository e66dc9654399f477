"""Pictures as small files inside a page. Imports Pillow, so it is loaded on use."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

# Longest side. 200 cards of photographs make a page of 2 MB.
MAX_SIDE = 176
# Up to here a picture is small enough to be kept pixel by pixel.
LOSSLESS_SIDE = 48
# Up to here its pixels are shown as squares; larger ones are easier to recognise when smooth.
SQUARES_SIDE = 28
QUALITY = 84

CHANNELS = (1, 3, 4)
# What Pillow raises for files that are missing, broken, no pictures, or far too large.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Picture(NamedTuple):
    """A picture as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int

    @property
    def is_pixelated(self) -> bool:
        """Return whether its pixels are shown as squares."""
        return max(self.width, self.height) <= SQUARES_SIDE


class Limits(NamedTuple):
    """What is black and what is white, for each channel or for all."""

    low: np.ndarray
    high: np.ndarray


def is_image(value: object) -> bool:
    """Return whether a value is a picture of Pillow."""
    return isinstance(value, Image.Image)


def encode_file(source: str | PathLike[str] | bytes) -> Picture:
    """Return the picture in a file, or in the bytes of one."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return encode_image(image)


def encode_image(image: Image.Image) -> Picture:
    """Return a picture, scaled down where it is large."""
    if image.mode[0] in "IF":  # 16 bit or more: no file of a page holds them
        array = np.asarray(image)
        return _encode(_to_image(array[:, :, None], measure_limits([(array, False)])))
    small = image.copy()
    if max(small.size) > MAX_SIDE:
        small.thumbnail((MAX_SIDE, MAX_SIDE))
    small = ImageOps.exif_transpose(small)
    transparent = "A" in small.getbands() or "transparency" in small.info
    gray = small.mode in ("1", "L")
    return _encode(small.convert("RGBA" if transparent else "L" if gray else "RGB"))


def encode_array(array: np.ndarray, limits: Limits | None, *, is_tensor: bool) -> Picture | None:
    """Return the picture in an array; None where its shape or dtype is not that of a picture."""
    pixels = channels_last(array, is_tensor=is_tensor)
    if pixels is None or limits is None:
        return None
    return _encode(_to_image(pixels, limits))


def channels_last(array: np.ndarray, *, is_tensor: bool) -> np.ndarray | None:
    """Return a picture as ``(height, width, channels)``; None where it is none.

    Where both ends could be channels, tensors have them first and arrays last.
    """
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3) or 0 in array.shape:
        return None
    if array.ndim == 2:
        return array[:, :, None]
    first, last = array.shape[0] in CHANNELS, array.shape[2] in CHANNELS
    if first and (is_tensor or not last):
        return np.moveaxis(array, 0, 2)
    return array if last else None


def measure_limits(arrays: Sequence[tuple[np.ndarray, bool]]) -> Limits:
    """Return black and white for pictures; each comes with whether it is a tensor.

    ``uint8`` is always from 0 to 255. Others are from 0 to 1 or to 255 where they fit, else
    (normalised ones) in the range of each channel over all the pictures, by finite pixels.
    """
    found = [p for a, t in arrays if (p := channels_last(a, is_tensor=t)) is not None]
    found = [pixels for pixels in found if pixels.dtype != np.uint8]
    if not found:
        return Limits(np.zeros(1), np.full(1, 255.0))
    if len({pixels.shape[2] for pixels in found}) > 1:
        found = [pixels.reshape(-1, 1, 1) for pixels in found]
    low = np.min([_extreme(np.min, pixels, np.inf) for pixels in found], axis=0)
    high = np.max([_extreme(np.max, pixels, -np.inf) for pixels in found], axis=0)
    low, high = np.where(low <= high, low, 0.0), np.where(low <= high, high, 0.0)
    if low.min() >= 0.0:
        for white in (1.0, 255.0):
            if white / 2.0 < high.max() <= white:
                return Limits(np.zeros(1), np.full(1, white))
    return Limits(low, high)


def _extreme(reduce: Any, pixels: np.ndarray, start: float) -> np.ndarray:
    """Return the lowest or highest finite value of each channel; `start` where there is none."""
    values = pixels.astype(np.float64)
    found = reduce(values, axis=(0, 1), where=np.isfinite(values), initial=start)
    return np.asarray(found)


def _to_image(pixels: np.ndarray, limits: Limits) -> Image.Image:
    if pixels.dtype != np.uint8:
        low, high = limits
        if len(low) not in (1, pixels.shape[2]):
            low, high = low.min(keepdims=True), high.max(keepdims=True)
        scaled = (pixels - low) / np.where(high > low, high - low, 1.0)
        pixels = (255.0 * np.clip(np.nan_to_num(scaled), 0.0, 1.0) + 0.5).astype(np.uint8)
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(flat))


def _encode(image: Image.Image) -> Picture:
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    kind = "png" if max(image.size) <= LOSSLESS_SIDE else "jpeg"
    file = io.BytesIO()
    if kind == "png":
        image.save(file, kind, optimize=True)
    else:
        _on_white(image).save(file, kind, quality=QUALITY, optimize=True)
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind};base64,{content}", *image.size)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
