"""How a parametric face is drawn.

Geometry is in face units: the origin lies between the eyes, x grows to the right and y downwards,
and the half width of an average face is 1. What is random here hangs on `texture`, not on labels.
"""

from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw

SIZE = 200  # pixels, as in UTKFace
_ZOOM, _UNIT, _CENTRE = 2, 61.0, (100.0, 101.0)  # pixels per face unit; where its origin lies
_SIDES = np.array([[-1.0, 1.0], [1.0, 1.0]])  # times points: left and right
_GRAIN = np.random.default_rng(129).standard_normal((2 * SIZE, 2 * SIZE, 3), dtype=np.float32)
_BACK, _RIM, _FRONT = -0.3, 0.0, 1.0  # how far a part moves when the head turns


def mix(first, second, share: float) -> tuple[float, float, float]:
    """Blend two colours; `share` in 0..1 is the part of the second."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


def _dark(colour, share: float):
    return mix(colour, (50, 20, 12), share)


def _curve(points) -> np.ndarray:
    """An outline with its corners rounded (Chaikin)."""
    for _ in range(3):
        ahead = np.roll(points, -1, axis=0) - points
        points = np.stack([points + 0.25 * ahead, points + 0.75 * ahead], axis=1).reshape(-1, 2)
    return points


def _ellipse(x: float, y: float, rx: float, ry: float, samples: int = 28) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _mirrored(half) -> np.ndarray:
    """A symmetric outline from its right half."""
    return np.vstack([half, np.asarray(half)[::-1] * (-1, 1)])


class _Pen:
    """Draws shapes given in face units on an image, under the pose of a face."""

    def __init__(self, image: Image.Image, f: SimpleNamespace):
        self.draw, self.yaw = ImageDraw.Draw(image), f.yaw
        self.unit = _UNIT * f.scale * _ZOOM
        cos, sin = np.cos(f.roll) * self.unit, np.sin(f.roll) * self.unit
        self.turn = np.array([[cos, sin], [-sin, cos]])
        self.origin = (np.asarray(_CENTRE) + (f.left, f.up)) * _ZOOM

    def __call__(self, points, colour, depth: float = _FRONT, width: float = 0.0) -> None:
        """Fill an outline or, with a `width` in face units, draw an open line."""
        points = np.array(points, float)
        points[:, 0] += self.yaw * depth
        pixels = (points @ self.turn + self.origin).ravel().tolist()
        ink = tuple(int(min(max(c, 0), 255)) for c in colour)
        if width:
            self.draw.line(pixels, fill=ink, width=max(1, round(width * self.unit)))
        else:
            self.draw.polygon(pixels, fill=ink)


def draw(f: SimpleNamespace) -> Image.Image:
    """Draw one face, [200, 200] RGB, from its parameters (`utils.datasets.synthetic`)."""
    rng = np.random.default_rng(f.texture)
    # Soft colours, as of a scene out of focus.
    blocks = rng.uniform(80, 215) + rng.normal(0, 16, 3) + rng.normal(0, 22, (4, 4, 1))
    blocks = np.clip(blocks + rng.normal(0, 9, (4, 4, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(blocks).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    image = image.resize((SIZE * _ZOOM, SIZE * _ZOOM), Image.Resampling.NEAREST)
    pen, eyes, mouth = _Pen(image, f), 0.02 + 0.18 * f.child, f.chin * f.low
    _paint_head(pen, f, eyes)
    _paint_wrinkles(pen, f, eyes, mouth)
    _paint_nose_and_mouth(pen, f, eyes, mouth)
    for side in _SIDES:
        _paint_eye(pen, f, eyes, side)
    _paint_hair(pen, f)
    return _finish(image.reduce(_ZOOM), f, rng)


def _crown(f) -> np.ndarray:
    """Outer edge of the hair from the left temple over the top to the right temple."""
    angle, rise = np.linspace(np.pi - 0.1, 0.1, 25), 0.05 + f.volume
    return np.stack([np.cos(angle) * (f.width + rise), -np.sin(angle) * (1.22 + rise)], axis=1)


def _face(f) -> np.ndarray:
    """Outline of the face from crown to chin; a `jaw` below 1 is square."""
    x, y = _ellipse(0, 0, 1, 1, 60).T
    x = np.sign(x) * np.abs(x) ** (1 - (1 - f.jaw) * np.clip(y, 0, 1)) * f.width
    return np.stack([x, y * np.where(y > 0, f.chin, 1.22)], axis=1)


def _paint_head(pen: _Pen, f, eyes: float) -> None:
    """Hair behind the head, neck, clothes, ears and face."""
    shade, edge, low = mix(f.hair, (0, 0, 0), 0.28), f.width + f.volume, 1.75 * f.length - 0.1
    if f.length > 0.3 and not f.bald:
        fall = [(edge + 0.05, -0.1), (edge + 0.16, 0.75 * low), (edge, low), (0.4, low + 0.1)]
        pen(np.vstack([_crown(f), _mirrored(fall)]), shade, _BACK)
    for x, y in _crown(f)[::2] if f.curly and not f.bald else ():
        pen(_ellipse(x, y, 0.18 + f.volume, 0.18 + f.volume), shade, _BACK)
    half = 0.54 - 0.2 * f.child
    pen(_mirrored([(half, 0.6), (half, 1.3), (half + 0.6, 2.4)]), _dark(f.skin, 0.14), _BACK)
    coat = [(0, 1.6), (0.5, 1.36 + 0.06 * f.child), (1.5, 1.55), (2.6, 2), (2.6, 3)]
    pen(_mirrored(coat), f.clothes, _BACK)
    for side in _SIDES:
        pen(_ellipse(f.width + 0.01, eyes + 0.12, 0.13, 0.24) * side, _dark(f.skin, 0.08), _BACK)
    pen(_face(f), f.skin, _RIM)


def _paint_wrinkles(pen: _Pen, f, eyes: float, mouth: float) -> None:
    """Lines on the forehead, beside and under the eyes, and from nose to mouth."""
    brow = np.linspace(-0.5, 0.5, 9)
    wave = 0.03 * np.cos(9 * brow) + 0.05 * brow**2
    lines = [(np.stack([brow, y + wave], axis=1), f.forehead) for y in (-0.5, -0.64, -0.77)]
    x, low = 0.04 + f.gap + f.eye, eyes + 0.52 * f.open
    fold = [(0.21, f.tip * mouth - 0.02), (0.35, 0.72 * mouth + 0.1), (f.mouth + 0.12, mouth)]
    bag = [(0.2, low + 0.05), (0.32, low + 0.13), (0.5, low + 0.13), (0.62, low + 0.06)]
    for side in _SIDES:
        for rise in (-0.13, -0.02, 0.1):
            ray = np.array([(x, eyes + 0.3 * rise), (x + 0.18, eyes + rise)])
            lines.append((ray * side, f.crow_feet))
        lines += [(fold * side, f.folds), (bag * side, 0.8 * f.folds)]
    for points, strength in lines:
        if strength > 0.04:
            pen(points, _dark(f.skin, 0.62 * strength), width=0.034)


def _paint_nose_and_mouth(pen: _Pen, f, eyes: float, mouth: float) -> None:
    tip, lip, half = f.tip * mouth, mouth - f.lip - 0.03, f.mouth + 0.09
    side = [(0.06, eyes + 0.12), (0.1, 0.6 * tip), (f.nose, tip), (0.09, tip + 0.05), (0.03, tip)]
    pen(_curve(side), _dark(f.skin, 0.12))
    base = np.array([(-1, -0.06), (-1, 0.02), (0, 0.05), (1, 0.02), (1, -0.06)])
    pen(base * (f.nose, 1) + (0, tip), _dark(f.skin, 0.5), width=0.03)
    if f.beard:
        rim = _face(f) * 1.02
        inner = [(0.9 * f.width, 0.3), (0.72 * f.width, 0.5), (half, lip - 0.06), (0, lip - 0.12)]
        outline = np.vstack([rim[rim[:, 1] > 0.2], _mirrored(inner)[::-1]])
        pen(outline, mix(f.skin, f.hair, 0.9), 0.6)
    t = np.linspace(-1, 1, 15)
    base, meet = 1 - t**2, mouth - f.smile * t**2
    top, line, low = (
        np.stack([f.mouth * t, meet + y], axis=1)
        for y in (-f.lip * base**0.8, 0, 1.25 * f.lip * base**0.7)
    )
    pen(np.vstack([top, line[::-1]]), _dark(f.lips, 0.15))
    pen(np.vstack([line, low[::-1]]), f.lips)
    pen(line, _dark(f.lips, 0.6), width=0.026)


def _paint_eye(pen: _Pen, f, eyes: float, side: np.ndarray) -> None:
    t = np.linspace(-1, 1, 13)
    base, slope = 1 - t**2, eyes - f.tilt * f.eye * t
    heights = (-f.open * base**0.75, 0.52 * f.open * base)
    upper, lower = (np.stack([f.gap + f.eye * t, slope + y], axis=1) for y in heights)
    pen(np.vstack([upper, lower[::-1]]) * side, (250, 248, 245))
    for colour, radius in ((_dark(f.iris, 0.4), 0.125), (f.iris, 0.104), ((16, 12, 14), 0.052)):
        radius *= 0.9 + 0.25 * f.child
        x, y = _ellipse(f.gap, eyes - 0.2 * f.open, radius, radius).T
        y = np.clip(y, np.interp(x, *upper.T), np.interp(x, *lower.T))
        pen(np.stack([x, y], axis=1) * side, colour)
    pen(upper * side, (38, 26, 24), width=0.042)
    y = eyes - f.high - 0.5 * (f.open - 0.12)
    brow = [(0.16, y + 0.03), (0.4, y - f.arch), (0.68, y + 0.02), (0.72, y + 0.05)]
    brow += [(0.4, y - f.arch + f.brow), (0.17, y + 0.03 + f.brow)]
    pen(_curve(brow) * side, mix(_dark(f.hair, 0.25), f.skin, 0.4 * f.child))


def _paint_hair(pen: _Pen, f) -> None:
    """Hair on the head with its strands or curls, and before the shoulders."""
    if f.bald:
        for side in _SIDES:
            pen(_ellipse(f.width - 0.02, -0.25, 0.14, 0.38) * side, f.hair, _RIM)
        return
    x = np.linspace(0.96, -0.96, 17)
    y = 0.1 * f.child - 0.93 + 0.3 * x**2 * f.fringe + (0.4 if f.fringe > 0.7 else 0)
    rim = 0.97 * np.sqrt(1 - (y / 1.22) ** 2)  # no background between hair and face
    line = np.stack([np.clip(x, -rim, rim) * f.width, y], axis=1)
    end, edge, low = 0.3 * min(f.length, 0.5) - 0.12, f.width + f.volume, 1.75 * f.length - 0.1
    temple = np.array([(1.03 * f.width, end), (0.94 * f.width, end - 0.16)])
    pen(np.vstack([_crown(f), temple, line, temple[::-1] * (-1, 1)]), f.hair, _RIM)
    lock = [(0.9 * f.width, -0.62), (edge, -0.3), (edge + 0.1, 0.6 * low), (edge, low)]
    lock += [(0.8 * edge, low), (0.94 * f.width, 0.4 * low), (0.97 * f.width, 0.0)]
    for side in _SIDES if f.length > 0.3 else ():
        pen(_curve(lock) * side, f.hair, _RIM)
    tones = mix(f.hair, (255, 240, 215), 0.16), mix(f.hair, (0, 0, 0), 0.25)
    roots = _crown(f)[4:-4] + np.random.default_rng(f.texture).normal(0, (0.06, 0), (17, 2))
    for k, (outer, inner) in enumerate(zip(roots, line[::-1], strict=True)):
        if not f.curly:
            pen([0.96 * outer, inner], tones[k % 2], _RIM, 0.02)
        for share in (0.2, 0.55, 0.9) if f.curly else ():
            pen(_ellipse(*(outer + share * (inner - outer)), 0.07, 0.06), tones[k % 2], _RIM, 0.026)


def _finish(picture: Image.Image, f, rng: np.random.Generator) -> Image.Image:
    """Add roundness, light and noise."""
    middle = np.reshape((_CENTRE[1] + f.up, _CENTRE[0] + f.left), (2, 1, 1))
    y, x = (np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5 - middle) / (_UNIT * f.scale)
    depth = np.exp(-0.9 * ((x / 1.2) ** 2 + (y / 1.5) ** 2))
    light = np.clip(f.light_x * x + f.light_y * y, -1, 1)
    shade = f.gain * (1 + f.contrast * (0.6 * depth - 0.36 + 0.3 * light))
    top, left = rng.integers(0, SIZE, 2)
    pixels = np.asarray(picture, np.float32) * shade[..., None]
    pixels += _GRAIN[top : top + SIZE, left : left + SIZE] * np.float32(f.noise)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
