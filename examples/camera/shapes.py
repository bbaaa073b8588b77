"""Pictures of signs, 32x32 pixels in color, drawn by a generator: discs, squares and triangles on a noisy ground."""

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("disc", "square", "triangle")
SIZE = 32


def pictures(count: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x uint8 [count, 32, 32, 3] and y int64 [count], the place of the shape in CLASSES."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(CLASSES), count)
    return np.stack([_picture(rng, CLASSES[number]) for number in y]), y


def _picture(rng: np.random.Generator, shape: str) -> np.ndarray:
    ground, color = rng.integers(0, 256, (2, 3))
    image = Image.new("RGB", (SIZE, SIZE), tuple(ground.tolist()))
    radius = int(rng.integers(6, 12))
    x, y = rng.integers(radius, SIZE - radius, 2).tolist()
    box = (x - radius, y - radius, x + radius, y + radius)
    draw = ImageDraw.Draw(image)
    if shape == "disc":
        draw.ellipse(box, tuple(color.tolist()))
    elif shape == "square":
        draw.rectangle(box, tuple(color.tolist()))
    else:
        draw.polygon(
            [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], tuple(color.tolist())
        )
    noisy = np.asarray(image) + rng.normal(0, 12, (SIZE, SIZE, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)
