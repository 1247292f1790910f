"""Pixels that look like a scan to a compressor: smooth organs, sharp edges and the noise of a detector.

Every image differs from every other one, and making one costs a fraction of a millisecond: organs are drawn once per
position of the table, noise is a window into one large field, moved for every image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint16]

POSITIONS = 16
"""How many different cuts through the body are drawn before they repeat (with other noise)."""

_AIR = 24
_TABLE = (
    # centre x, centre y, half width, half height, stored value (HU + 1024), how it changes along the body
    (0.00, 0.05, 0.78, 0.58, 1064, 0.06),  # soft tissue
    (-0.36, 0.00, 0.27, 0.38, 180, 0.25),  # right lung
    (0.36, 0.00, 0.25, 0.36, 190, 0.25),  # left lung
    (0.08, 0.10, 0.20, 0.22, 1110, 0.15),  # heart
    (0.00, 0.45, 0.10, 0.11, 1500, 0.05),  # vertebra
    (0.00, 0.46, 0.04, 0.04, 1050, 0.05),  # spinal canal
    (-0.70, 0.10, 0.03, 0.12, 1700, 0.10),  # ribs
    (0.70, 0.10, 0.03, 0.12, 1700, 0.10),
)


@lru_cache(maxsize=64)
def organs(rows: int, columns: int, position: int) -> NDArray[np.float32]:
    """One cut through the body without noise: shape (rows, columns), stored values as float32."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    phase = 2 * np.pi * position / POSITIONS
    image = np.full((rows, columns), _AIR, np.float32)
    for centre_x, centre_y, half_width, half_height, value, change in _TABLE:
        size = 1 + change * np.sin(phase + centre_x * 5)
        inside = ((x - centre_x) / (half_width * size)) ** 2 + ((y - centre_y) / (half_height * size)) ** 2 < 1
        image[inside] = value + 12 * np.sin(7 * x[inside] + phase) + 9 * np.cos(6 * y[inside])
    return image


@dataclass(frozen=True, slots=True)
class Noise:
    """A large field of detector noise, correlated as a reconstruction filter leaves it (standard deviation ≈ 9 HU)."""

    field: NDArray[np.float32]

    @classmethod
    def seeded(cls, seed: int, size: int = 1280) -> Noise:
        white = np.random.default_rng(seed).standard_normal((size, size), np.float32)
        smooth = white + 0.5 * (np.roll(white, 1, 0) + np.roll(white, 1, 1))
        return cls((9.0 / float(smooth.std()) * smooth).astype(np.float32))

    def window(self, rows: int, columns: int, number: int) -> NDArray[np.float32]:
        """The part of the field that image `number` gets; tiled when an image is larger than the field."""
        size = self.field.shape[0]
        top = number % max(size - rows, 1)
        left = number // size % max(size - columns, 1)
        window = self.field[top : top + rows, left : left + columns]
        if window.shape != (rows, columns):
            repeats = (-(-rows // size), -(-columns // size))
            window = np.roll(np.tile(self.field, repeats)[:rows, :columns], number * 31, axis=number % 2)
        return -window if number & 1 else window


def grey_image(noise: Noise, rows: int, columns: int, *, position: int, number: int) -> Pixels:
    """One 16-bit image with 12 bits stored, shape (rows, columns): a cut through the body and noise of its own."""
    body = organs(rows, columns, position % POSITIONS)
    # Photons are scarce behind bone and plenty in air: noise grows with what is in the way.
    noisy = body + noise.window(rows, columns, number) * (0.35 + body * np.float32(0.0006))
    np.clip(noisy, 0, 4095, out=noisy)
    return noisy.astype(np.uint16)


def colour_frames(noise: Noise, rows: int, columns: int, frames: int, *, number: int) -> NDArray[np.uint8]:
    """An ultrasound loop: shape (frames, rows, columns, 3), a fan of speckle on black, hardly coloured."""
    y, x = np.mgrid[0 : 1 : rows * 1j, -0.5 : 0.5 : columns * 1j].astype(np.float32)
    fan = (np.abs(np.arctan2(x, y + 0.05)) < 0.65) & (np.hypot(x, y) < 0.95)
    loop = np.empty((frames, rows, columns, 3), np.uint8)
    for frame in range(frames):
        speckle = np.abs(noise.window(rows, columns, number + frame)) * 6 * fan
        grey = np.clip(speckle, 0, 255).astype(np.uint8)
        loop[frame] = grey[:, :, None]
    return loop
