"""How is a parametric face drawn, and where does each attribute show?

Geometry is written in face units: the origin lies between the eyes, x grows to the right and y
downwards, and the half width of an average face is 1. A `Pen` maps these units to pixels under
shift, scale, roll and a small turn of the head, so the picture and the masks of evidence share
one geometry. Pictures are drawn twice too large and averaged down for smooth edges.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = 200  # pixels, as in UTKFace
SUPERSAMPLING = 2
UNIT = 61.0  # pixels per face unit before scaling
CENTRE = (100.0, 101.0)
MASK_MARGIN = 5  # width in pixels of the filter that widens a region

_BULGE = np.array([1.15**-2, 1.5**-2])  # the head as an ellipsoid

Colour = tuple[float, float, float]
SIDES = (-1.0, 1.0)

# Which regions carry which attribute. For gender a bare chin speaks as a beard does; for age a
# beard speaks by its colour, if there is one.
EVIDENCE = {
    "age": ("forehead", "crow_feet", "folds", "under_eyes", "hair", "scalp", "brows")
    + ("drawn beard",),
    "gender": ("hair", "scalp", "brows", "lips", "beard"),
    "ethnicity": ("skin", "hair", "brows", "eyes", "lips", "beard"),
}
CHILD_EVIDENCE = ("face",)  # a child shows its age in the proportions of the whole face


@dataclass(frozen=True)
class Look:
    """Everything visible of one face; lengths in face units, colours as RGB in 0..255."""

    # proportions
    child: float  # 0 grown up .. 1 newborn
    width: float
    chin: float
    jaw: float  # exponent: below 1 square, above 1 pointed
    # colours
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    # age
    forehead: float  # strengths 0..1
    crow_feet: float
    folds: float
    under_eyes: float
    # hair
    length: float  # 0 shaven .. 1 to the shoulders
    volume: float
    fringe: int  # 0 swept, 1 straight fringe, 2 combed back, 3 centre parting
    parting: float
    curly: bool
    bald: bool
    bun: bool
    beard: str  # none, stubble, moustache, goatee, full
    brow: float  # thickness
    arch: float
    # eyes, nose, mouth
    eye: float  # half width
    open: float
    tilt: float
    crease: float
    nose: float
    mouth: float  # half width
    lip: float  # fullness
    smile: float
    teeth: bool
    blush: float
    freckles: float
    # things that say nothing about the labels
    glasses: int  # 0 none, 1 round, 2 angular
    frame: Colour
    clothes: Colour
    collar: int
    yaw: float
    pitch: float
    roll: float
    scale: float
    shift: tuple[float, float]
    light: tuple[float, float]
    contrast: float
    gain: float
    warmth: float
    noise: float
    texture: int  # seed of strands, freckles, background and noise


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; `share` in 0..1 is the part of the second."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


def _ink(colour: Colour) -> tuple[int, ...]:
    return tuple(int(min(max(c, 0), 255)) for c in colour)


@lru_cache(maxsize=64)
def _spline(points: int, closed: bool, samples: int) -> np.ndarray:
    """Matrix from control points to a Catmull-Rom curve through them."""
    spans = points if closed else points - 1
    t = np.arange(samples) / samples
    weights = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    matrix = np.zeros((spans * samples + (not closed), points))
    for span in range(spans):
        rows = slice(span * samples, (span + 1) * samples)
        for step in range(4):
            at = span + step - 1
            at = at % points if closed else min(max(at, 0), points - 1)
            matrix[rows, at] += weights[step]
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def curve(points, closed: bool = False, samples: int = 6) -> np.ndarray:
    """Smooth curve [m, 2] through control points [n, 2]."""
    points = np.asarray(points, dtype=float)
    return _spline(len(points), closed, samples) @ points


@lru_cache(maxsize=16)
def _circle(samples: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, samples: int = 24) -> np.ndarray:
    """Closed outline [samples, 2] of an ellipse."""
    return _circle(samples) * (rx, ry) + (x, y)


class Pen:
    """Draws shapes given in face units on an image, under the pose of `look`."""

    def __init__(self, image: Image.Image, look: Look):
        self.draw = ImageDraw.Draw(image)
        self.ratio = image.width / SIZE
        self.look = look
        self.unit = UNIT * look.scale * self.ratio
        cos, sin = np.cos(look.roll), np.sin(look.roll)
        self.turn = np.array([[cos, sin], [-sin, cos]]) * self.unit
        self.origin = (np.asarray(CENTRE) + look.shift) * self.ratio
        self.parallax = np.array([look.yaw, look.pitch])

    def pixels(self, points: np.ndarray, depth: float = 1.0) -> list[float]:
        """Flat pixel coordinates of face units; `depth` 1 lies on the face, -1 behind it."""
        if depth > 0:  # the nose moves more than the cheeks when a head turns
            bulge = np.sqrt(np.maximum(1 - (points * points) @ _BULGE, 0))
            points = points + bulge[:, None] * (self.parallax * depth)
        elif depth < 0:
            points = points + self.parallax * (0.3 * depth)
        return (points @ self.turn + self.origin).ravel().tolist()

    def fill(self, points: np.ndarray, colour, depth: float = 1.0) -> None:
        """Fill a closed outline."""
        self.draw.polygon(self.pixels(points, depth), fill=colour)

    def line(self, points: np.ndarray, colour, width: float, depth: float = 1.0) -> None:
        """Draw an open line; `width` in face units."""
        pixels = max(1, round(width * self.unit))
        joint = "curve" if pixels > 4 else None  # costs time, and shows on broad lines only
        self.draw.line(self.pixels(points, depth), fill=colour, width=pixels, joint=joint)


# ---------------------------------------------------------------- geometry, in face units


def eye_line(look: Look) -> float:
    """Height of the eyes: they sit lower in a child's face."""
    return 0.02 + 0.18 * look.child


def mouth_line(look: Look) -> float:
    """Height of the mouth."""
    return look.chin * (0.655 + 0.02 * look.child)


def face_outline(look: Look, grow: float = 0.0) -> np.ndarray:
    """Outline of the face from crown to chin."""
    x, y = _circle(60).T
    lower = np.clip(y, 0, 1)
    exponent = 1 - (1 - look.jaw) * lower
    x = np.sign(x) * np.abs(x) ** exponent * (look.width + grow)
    return np.stack([x, y * np.where(y > 0, look.chin + grow, 1.22 + grow)], axis=1)


def ear(look: Look, side: float) -> np.ndarray:
    """Outline of one ear."""
    return ellipse(side * (look.width + 0.01), eye_line(look) + 0.12, 0.13, 0.24)


def neck(look: Look) -> np.ndarray:
    """Outline of the neck."""
    half = 0.54 - 0.2 * look.child
    return curve(
        [(-half, 0.6), (-half, 1.25), (-half - 0.35, 1.6), (-half - 0.6, 2.4), (half + 0.6, 2.4)]
        + [(half + 0.35, 1.6), (half, 1.25), (half, 0.6)]
    )


def clothing(look: Look) -> np.ndarray:
    """Outline of the shoulders with a round or a V-shaped collar."""
    dip = (1.52, 1.72)[look.collar]
    top = 1.36 + 0.06 * look.child
    shoulders = [(-2.6, 2.0), (-1.5, 1.55), (-0.62, top)]
    inner = [(-0.35, dip - 0.08), (0.0, dip), (0.35, dip - 0.08)]
    mirrored = [(-x, y) for x, y in reversed(shoulders)]
    return np.vstack([curve(shoulders + inner + mirrored), [(2.6, 3.0), (-2.6, 3.0)]])


def temple(look: Look) -> float:
    """How far down the hair reaches beside the face."""
    return -0.12 + 0.3 * min(look.length, 0.5)


def hairline(look: Look) -> np.ndarray:
    """Edge of the hair on the forehead, from right to left."""
    x = np.linspace(0.96, -0.96, 17)
    if look.fringe == 0:
        away = np.abs(x - look.parting) / (1 + abs(look.parting))
        y = -0.9 + 0.42 * away**1.5
    elif look.fringe == 1:
        y = -0.5 + 0.05 * np.cos(9 * x + look.parting * 9) + 0.05 * x**2
    elif look.fringe == 2:
        y = -0.93 + 0.25 * x**2
    else:
        y = -0.98 + 0.62 * np.abs(x) ** 1.15
    y = y + 0.1 * look.child  # a child's features sit lower, so does its hair
    rim = 0.97 * np.sqrt(1 - (y / 1.22) ** 2)  # no background between hair and face
    x = np.minimum(np.maximum(x, -rim), rim)
    return np.stack([x * look.width, y], axis=1)


def crown(look: Look, grow: float = 0.0) -> np.ndarray:
    """Outer edge of the hair from the left temple over the top to the right temple."""
    rise = 0.05 + look.volume + grow
    angle = np.linspace(np.pi - 0.14, 0.14, 25)
    x = np.cos(angle) * (look.width + 0.7 * rise)
    return np.stack([x, -np.sin(angle) * (1.22 + rise)], axis=1)


def hair_cap(look: Look) -> np.ndarray:
    """Hair on the head and the temples."""
    low = temple(look)
    right = [(look.width * 1.03, low - 0.02), (look.width * 0.99, low + 0.04)]
    right.append((look.width * 0.94, low - 0.16))
    left = [(-x, y) for x, y in reversed(right)]
    return np.vstack([crown(look), right, hairline(look), left])


def hair_tuft(look: Look, side: float) -> np.ndarray:
    """Hair that a bald head keeps above one ear."""
    w = look.width
    points = [(w * 0.82, -0.62), (w + 0.08, -0.5), (w + 0.13, -0.1), (w + 0.06, 0.18)]
    return curve([(side * x, y) for x, y in points + [(w * 0.95, 0.1), (w * 0.9, -0.3)]], True)


def hair_ends(look: Look) -> float:
    """Height at which loose hair ends."""
    return -0.1 + 1.75 * look.length


def hair_back(look: Look) -> np.ndarray:
    """Loose hair behind the face."""
    low, wide = hair_ends(look), look.width + 0.7 * (0.05 + look.volume)
    flare = 0.06 + 0.14 * look.length
    half = [(wide, -0.1), (wide + 0.6 * flare, 0.35 * low), (wide + flare, 0.75 * low)]
    half += [(wide + 0.5 * flare, low), (wide * 0.5, low + 0.1)]
    left = [(-x, y) for x, y in reversed(half)]
    return np.vstack([crown(look), curve(half + left)])


def hair_lock(look: Look, side: float) -> np.ndarray:
    """Loose hair that falls in front of one shoulder."""
    low, wide = hair_ends(look), look.width + 0.7 * (0.05 + look.volume)
    points = [(0.9 * look.width, -0.62), (0.97 * wide, -0.3), (wide + 0.05, 0.4 * low)]
    points += [(wide + 0.06, low), (0.8 * wide, low + 0.06)]
    points += [(0.94 * look.width, 0.5 * low + 0.05), (0.97 * look.width, 0.0)]
    return curve([(side * x, y) for x, y in points], True)


def curls(look: Look) -> list[np.ndarray]:
    """Round locks along the edge of curly hair."""
    edge = crown(look)[1::2]
    radius = 0.13 + 0.35 * look.volume
    rounds = [ellipse(x * 0.97, y * 0.97, radius, radius, 14) for x, y in edge]
    wide = look.width + 0.35 * look.volume
    for y in np.arange(0.1, hair_ends(look), 0.26) if look.length > 0.3 else ():
        rounds += [ellipse(s * wide, y, radius, radius, 14) for s in SIDES]
    return rounds


def eyelids(look: Look, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower lid of one eye, each [13, 2] from inside to outside."""
    t = np.linspace(-1, 1, 13)
    base = np.clip(1 - t**2, 0, 1)
    x = side * (0.41 + look.eye * t)
    slope = eye_line(look) - look.tilt * look.eye * t
    upper = slope - look.open * base**0.75 * (1 - 0.12 * t)
    return np.stack([x, upper], axis=1), np.stack([x, slope + 0.52 * look.open * base], axis=1)


def brow(look: Look, side: float) -> np.ndarray:
    """Outline of one eyebrow."""
    y = eye_line(look) - 0.3 - 0.5 * (look.open - 0.12) + 0.03 * look.child
    thick, peak = look.brow, look.arch
    points = [(0.16, y + 0.03), (0.4, y - peak), (0.68, y + 0.02), (0.72, y + 0.05)]
    points += [(0.4, y - peak + thick), (0.17, y + 0.03 + thick)]
    return curve([(side * x, y) for x, y in points], True, 5)


def lips(look: Look) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper lip, lower lip, and the line on which they meet."""
    y, half, full = mouth_line(look), look.mouth, look.lip
    t = np.linspace(-1, 1, 15)
    corner = y - look.smile
    meet = y + (corner - y) * t**2
    base = 1 - t**2
    bow = full * base**0.8 * (0.75 + 0.45 * np.minimum(1, 5 * np.abs(t)) * (1 - np.abs(t)))
    gape = 0.13 * base if look.teeth else 0.0
    under = meet + gape + 1.25 * full * base**0.7
    x = half * t
    line = np.stack([x, meet], axis=1)
    upper = np.vstack([np.stack([x, meet - bow], axis=1), line[::-1]])
    lower = np.vstack([np.stack([x, meet + gape], axis=1), np.stack([x, under], axis=1)[::-1]])
    return upper, lower, line


def beard_area(look: Look, kind: str) -> list[np.ndarray]:
    """Outlines of a beard of the given kind."""
    y, w, c = mouth_line(look), look.width, look.chin + 0.05
    lip = y - look.lip - 0.03
    half = look.mouth + 0.09
    moustache = [(0, lip - 0.14), (0.16, lip - 0.16), (half, y - 0.02), (half + 0.03, y + 0.13)]
    moustache += [(half - 0.08, y - 0.02), (0.15, lip + 0.03), (0, lip)]
    moustache = curve(moustache + [(-a, b) for a, b in reversed(moustache[1:-1])], True, 4)
    if kind == "moustache":
        return [moustache]
    if kind == "goatee":
        outer = [(half + 0.03, y), (half + 0.02, 0.9 * c), (0.2, c + 0.02)]
        ring = curve(outer + [(-a, b) for a, b in reversed(outer)], True)
        return [moustache, ring]
    rim = face_outline(look, 0.03)
    rim = rim[rim[:, 1] > 0.2]
    inner = [(-0.9 * w, 0.3), (-0.72 * w, 0.5), (-half, lip - 0.06), (0, lip - 0.12)]
    inner += [(-a, b) for a, b in reversed(inner[:-1])]
    return [np.vstack([rim, curve(inner)])]


def forehead_lines(look: Look) -> list[np.ndarray]:
    """Wavy lines across the forehead."""
    x = np.linspace(-0.5, 0.5, 9)
    wave = 0.02 * np.cos(9 * x + look.parting * 5)
    heights = [(-0.66, 1.0), (-0.53, 0.9), (-0.79, 0.75)]
    return [np.stack([x * w, y + wave + 0.05 * x**2], axis=1) for y, w in heights]


def crow_feet(look: Look) -> list[np.ndarray]:
    """Short lines that fan out from the outer corners of the eyes."""
    rays = []
    for side in SIDES:
        x, y = 0.41 + look.eye + 0.04, eye_line(look)
        for rise in (-0.13, -0.02, 0.1):
            ray = [(x, y + 0.3 * rise), (x + 0.09, y + 0.65 * rise), (x + 0.17, y + rise)]
            rays.append(np.array([(side * a, b) for a, b in ray]))
    return rays


def fold_lines(look: Look) -> list[np.ndarray]:
    """Folds from the nose to the corners of the mouth."""
    y, half = mouth_line(look), look.mouth
    nose = 0.72 * y
    shape = [(0.21, nose - 0.04), (0.33, nose + 0.08), (half + 0.1, y - 0.02)]
    return [curve([(side * a, b) for a, b in shape]) for side in SIDES]


def chin_lines(look: Look) -> list[np.ndarray]:
    """Folds from the corners of the mouth to the chin."""
    y, half = mouth_line(look), look.mouth
    shape = [(half + 0.05, y + 0.08), (half + 0.06, y + 0.19), (half + 0.01, y + 0.28)]
    return [curve([(side * a, b) for a, b in shape]) for side in SIDES]


def under_eye_lines(look: Look) -> list[np.ndarray]:
    """Bags under the eyes."""
    y = eye_line(look) + 0.52 * look.open
    shape = [(0.23, y + 0.05), (0.36, y + 0.125), (0.5, y + 0.12), (0.6, y + 0.06)]
    return [curve([(side * a, b) for a, b in shape]) for side in SIDES]


# ---------------------------------------------------------------- painting


def draw(look: Look) -> Image.Image:
    """Draw one face, [200, 200] RGB."""
    rng = np.random.default_rng(look.texture)
    big = _background(rng)
    pen = Pen(big, look)
    _paint_behind(pen, look)
    _paint_skin(pen, look, rng)
    _paint_wrinkles(pen, look)
    _paint_nose(pen, look)
    _paint_beard(pen, look)
    _paint_mouth(pen, look)
    for side in SIDES:
        _paint_eye(pen, look, side)
        hair = mix(look.hair, (40, 28, 24), 0.25)
        pen.fill(brow(look, side), _ink(mix(hair, look.skin, 0.4 * look.child)))
    _paint_hair(pen, look)
    _paint_glasses(pen, look)
    return _finish(big.reduce(SUPERSAMPLING), look, rng)


def _background(rng: np.random.Generator) -> Image.Image:
    """Soft colours, as of a scene out of focus."""
    base = rng.uniform(80, 215) + rng.normal(0, 16, 3)
    x, y = np.outer(rng.normal(0, 14, 2), np.arange(-1.5, 2))  # light falls off to one side
    blocks = base + (x + y[:, None])[..., None] + rng.normal(0, 20, (4, 4, 1))
    blocks = blocks + rng.normal(0, 9, (4, 4, 3))
    small = Image.fromarray(np.clip(blocks, 0, 255).astype(np.uint8))
    full = small.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    side = SIZE * SUPERSAMPLING
    return full.resize((side, side), Image.Resampling.NEAREST)


def _paint_behind(pen: Pen, look: Look) -> None:
    shade = _ink(mix(look.hair, (0, 0, 0), 0.28))
    if look.bun:
        pen.fill(ellipse(0, -1.36 - look.volume, 0.42, 0.34), shade, -1)
    if _loose(look):
        pen.fill(hair_back(look), shade, -1)
    if look.curly and not look.bald:
        for outline in curls(look):
            pen.fill(outline, shade, -1)
    pen.fill(neck(look), _ink(mix(look.skin, (70, 30, 20), 0.12)), -1)
    shadow = face_outline(look, 0.06) * (0.62, 1.0) + (0, 0.14)
    pen.fill(np.clip(shadow, (-1, 0.5), (1, 2)), _ink(mix(look.skin, (60, 25, 15), 0.3)), 0)
    pen.fill(clothing(look), _ink(look.clothes), -1)
    seam = clothing(look)[12:-14]
    pen.line(seam, _ink(mix(look.clothes, (255, 255, 255), 0.35)), 0.04, -1)


def _loose(look: Look) -> bool:
    return look.length > 0.3 and not look.bun and not look.bald


def _paint_skin(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    dark = mix(look.skin, (70, 25, 15), 0.25)
    for side in SIDES:
        pen.fill(ear(look, side), _ink(mix(look.skin, (120, 40, 25), 0.1)), -1)
        inner = ellipse(side * (look.width + 0.03), eye_line(look) + 0.12, 0.06, 0.15, 16)
        pen.fill(inner, _ink(dark), -1)
    pen.fill(face_outline(look), _ink(look.skin), 0)
    spots = rng.uniform((-0.62, 0.12), (0.62, 0.5), (26, 2))  # drawn always: a steady stream
    if look.freckles > 0:
        ink = _ink(mix(look.skin, (120, 60, 30), 0.35 * look.freckles))
        for x, y in spots:
            pen.fill(ellipse(x, y, 0.02, 0.02, 8), ink)


def _paint_wrinkles(pen: Pen, look: Look) -> None:
    dark = mix(look.skin, (60, 22, 12), 0.62)
    for lines, strength, width in (
        (forehead_lines(look), look.forehead, 0.034),
        (crow_feet(look), look.crow_feet, 0.026),
        (fold_lines(look), look.folds, 0.034),
        (chin_lines(look), 0.8 * look.folds**2, 0.028),  # they come later
        (under_eye_lines(look), look.under_eyes, 0.032),
    ):
        if strength > 0.04:
            ink = _ink(mix(look.skin, dark, strength))
            for points in lines:
                pen.line(points, ink, width)


def _paint_nose(pen: Pen, look: Look) -> None:
    tip, wide = 0.70 * mouth_line(look), look.nose
    top = eye_line(look) + 0.12
    shade = _ink(mix(look.skin, (110, 45, 25), 0.13))
    light = _ink(mix(look.skin, (255, 255, 245), 0.16))
    dark = _ink(mix(look.skin, (70, 22, 12), 0.5))
    side = [(0.06, top), (0.1, 0.6 * tip), (wide, tip - 0.02), (0.09, tip + 0.05), (0.03, tip)]
    pen.fill(curve(side, True), shade)
    pen.line(np.array([(-0.01, top + 0.02), (-0.01, tip - 0.1)]), light, 0.05)
    base = [(-wide, tip - 0.06), (-wide * 0.95, tip + 0.02), (-0.07, tip + 0.02), (0, tip + 0.055)]
    base += [(-x, y) for x, y in reversed(base[:-1])]
    pen.line(curve(base), dark, 0.03)
    for s in SIDES:
        pen.fill(ellipse(s * wide * 0.52, tip + 0.015, 0.04, 0.022, 12), dark)


def _paint_beard(pen: Pen, look: Look) -> None:
    if look.beard == "none":
        return
    share = 0.26 if look.beard == "stubble" else 0.86
    kind = "full" if look.beard == "stubble" else look.beard
    for outline in beard_area(look, kind):
        pen.fill(outline, _ink(mix(look.skin, look.hair, share)), 0.6)


def _paint_mouth(pen: Pen, look: Look) -> None:
    upper, lower, line = lips(look)
    if look.teeth:
        rim = len(line)
        pen.fill(np.vstack([line, lower[:rim][::-1]]), (110, 40, 42))
        white = np.vstack([line, (line + 0.75 * (lower[:rim] - line))[::-1]])
        pen.fill(white, (250, 247, 240))
    pen.fill(upper, _ink(mix(look.lips, (80, 20, 25), 0.15)))
    pen.fill(lower, _ink(look.lips))
    gleam = ellipse(0, lower[:, 1].max() - 0.6 * look.lip, look.mouth * 0.35, 0.014, 14)
    pen.fill(gleam, _ink(mix(look.lips, (255, 255, 255), 0.3)))
    if not look.teeth:
        pen.line(line, _ink(mix(look.lips, (70, 15, 20), 0.6)), 0.026)


def _paint_eye(pen: Pen, look: Look, side: float) -> None:
    upper, lower = eyelids(look, side)
    x, y = side * 0.41, eye_line(look) - 0.2 * look.open
    if look.crease > 0:
        lid = upper[1:-1] - (0, 0.035 + 0.05 * look.crease)
        pen.line(lid, _ink(mix(look.skin, (70, 25, 15), 0.42)), 0.024)
    pen.fill(np.vstack([upper, lower[::-1]]), (250, 248, 245))
    for colour, radius in (
        (mix(look.iris, (0, 0, 0), 0.45), 0.125),
        (look.iris, 0.106),
        ((16, 12, 14), 0.052),
    ):
        radius *= 0.9 + 0.25 * look.child
        disc = ellipse(x, y, radius, radius, 22)
        order = slice(None, None, int(side))  # np.interp wants rising x
        top = np.interp(disc[:, 0], upper[order, 0], upper[order, 1])
        low = np.interp(disc[:, 0], lower[order, 0], lower[order, 1])
        disc[:, 1] = np.clip(disc[:, 1], top, low)
        pen.fill(disc, _ink(colour))
    pen.fill(ellipse(x + 0.04, y - 0.035, 0.026, 0.026, 10), (255, 255, 255))
    pen.line(lower, _ink(mix(look.skin, (90, 35, 25), 0.4)), 0.016)
    pen.line(upper, (38, 26, 24), 0.042)
    lash = np.array([upper[-1], upper[-1] + (side * 0.05, -0.045)])
    pen.line(lash, (38, 26, 24), 0.03)


def _paint_hair(pen: Pen, look: Look) -> None:
    ink = _ink(look.hair)
    if look.length < 0.03:
        return
    if look.bald:
        for side in SIDES:
            pen.fill(hair_tuft(look, side), ink, 0)
        return
    if look.length < 0.1:  # cropped: the skin shines through
        ink = _ink(mix(look.skin, look.hair, 0.35 + 5 * look.length))
    pen.fill(hair_cap(look), ink, 0)
    if _loose(look):
        for side in SIDES:
            pen.fill(hair_lock(look, side), ink, 0)
    if look.curly:
        _paint_curls(pen, look)
    else:
        _paint_strands(pen, look)


def _paint_strands(pen: Pen, look: Look) -> None:
    """Lighter and darker strands from the parting outwards."""
    if look.length < 0.1:
        return
    outer, inner = crown(look), hairline(look)[::-1]
    light = _ink(mix(look.hair, (255, 240, 215), 0.16))
    dark = _ink(mix(look.hair, (0, 0, 0), 0.22))
    for k in range(2, 14):
        start = outer[2 + (k * 20) // 15]
        end = inner[1 + k] + (0, -0.03)
        middle = 0.5 * (start + end) + (0.02 * np.sign(k - 7.5), -0.03)
        pen.line(curve([0.96 * start, middle, end], samples=4), dark if k % 2 else light, 0.02, 0)
    if _loose(look):
        for side in SIDES:
            shape = hair_lock(look, side)
            outside, inside = shape[6:18], shape[25:37][::-1]
            for share, tone in ((0.25, light), (0.5, dark), (0.75, light)):
                pen.line(outside + share * (inside - outside), tone, 0.02, 0)


def _paint_curls(pen: Pen, look: Look) -> None:
    """Rings that give curly hair its texture."""
    tones = [_ink(mix(look.hair, (255, 235, 210), 0.1)), _ink(mix(look.hair, (0, 0, 0), 0.25))]
    outer, inner = crown(look), hairline(look)[::-1]
    for row, share in enumerate((0.2, 0.5, 0.8)):
        for k in range(2 + row % 2, 23, 3):
            x, y = outer[k] + share * (inner[min(k * 17 // 25, 16)] - outer[k])
            ring = ellipse(x, y, 0.07, 0.06, 9)
            pen.line(np.vstack([ring, ring[:2]]), tones[(k + row) % 2], 0.026, 0)


def _paint_glasses(pen: Pen, look: Look) -> None:
    if not look.glasses:
        return
    ink, y = _ink(look.frame), eye_line(look) + 0.02
    for side in SIDES:
        ring = _circle(28)
        if look.glasses == 2:
            ring = np.sign(ring) * np.abs(ring) ** 0.55
        ring = ring * (0.29, 0.25 if look.glasses == 1 else 0.21) + (side * 0.42, y)
        pen.line(np.vstack([ring, ring[:3]]), ink, 0.04)
        pen.line(np.array([(side * 0.71, y - 0.04), (side * look.width, y - 0.02)]), ink, 0.036)
    pen.line(curve([(-0.13, y - 0.02), (0, y - 0.06), (0.13, y - 0.02)]), ink, 0.04)


# ---------------------------------------------------------------- light, noise


@lru_cache(maxsize=1)
def _grid() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:SIZE:2, 0:SIZE:2].astype(np.float32) + 0.5
    return columns, rows


def _face_coordinates(look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Face units x, y of every second pixel: the pose, undone."""
    columns, rows = _grid()
    dx = (columns - CENTRE[0] - look.shift[0]) / (UNIT * look.scale)
    dy = (rows - CENTRE[1] - look.shift[1]) / (UNIT * look.scale)
    cos, sin = float(np.cos(look.roll)), float(np.sin(look.roll))
    return cos * dx + sin * dy - 0.7 * look.yaw, cos * dy - sin * dx


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """Normal noise [2 SIZE, 2 SIZE, 3]; each face gets its own cut, much faster than its own."""
    shape = (2 * SIZE, 2 * SIZE, 3)
    return np.random.default_rng(129).standard_normal(shape, dtype=np.float32)


def _finish(picture: Image.Image, look: Look, rng: np.random.Generator) -> Image.Image:
    """Add roundness, blush, light and noise."""
    x, y = _face_coordinates(look)
    depth = np.exp(-0.9 * ((x / 1.2) ** 2 + (y / 1.5) ** 2))
    light = np.clip(look.light[0] * x + look.light[1] * y, -1, 1)
    shade = look.gain * (1 + look.contrast * (0.6 * depth - 0.36 + 0.3 * light))
    centre = eye_line(look) + 0.38
    blush = look.blush * np.exp(-(((np.abs(x) - 0.58) / 0.24) ** 2 + ((y - centre) / 0.2) ** 2))
    warm = 1 + look.warmth, 1, 1 - look.warmth
    tint = np.stack([shade * warm[0], shade * (1 - blush), shade * warm[2] * (1 - 0.8 * blush)], 2)
    rows = np.repeat(tint, 2, axis=1).reshape(SIZE // 2, 1, 3 * SIZE)
    pixels = np.asarray(picture, np.float32).reshape(SIZE // 2, 2, 3 * SIZE) * rows
    top, left = rng.integers(0, SIZE, 2)
    noise = _grain()[top : top + SIZE, left : left + SIZE] * np.float32(look.noise)
    pixels = pixels.reshape(SIZE, SIZE, 3)
    pixels += noise
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


# ---------------------------------------------------------------- where the evidence is


def _region_lines(look: Look) -> dict[str, tuple[list[np.ndarray], float]]:
    """Regions made of lines, with the width of the skin that speaks along them."""
    return {
        "forehead": (forehead_lines(look), 0.13),
        "crow_feet": (crow_feet(look), 0.09),
        "folds": (fold_lines(look) + chin_lines(look), 0.09),
        "under_eyes": (under_eye_lines(look), 0.09),
    }


def _region_shapes(look: Look, name: str) -> list[tuple[np.ndarray, float]]:
    """Outlines of one region with their depth; empty if the face has none."""
    if name == "hair":
        return _hair_shapes(look)
    if name == "scalp":
        return [(hair_cap(look), 0.0)]
    if name == "brows":
        return [(brow(look, side), 1.0) for side in SIDES]
    if name == "lips":
        upper, lower, line = lips(look)
        return [(upper, 1.0), (lower, 1.0), (np.vstack([line, lower[: len(line)][::-1]]), 1.0)]
    if name == "drawn beard":
        kind = "full" if look.beard == "stubble" else look.beard
        return [] if kind == "none" else [(shape, 0.6) for shape in beard_area(look, kind)]
    if name == "beard":
        return [(shape, 0.6) for k in ("full", "moustache") for shape in beard_area(look, k)]
    if name == "eyes":
        lids = [eyelids(look, side) for side in SIDES]
        raised = (0, 0.1)  # the crease above the lid
        return [(np.vstack([upper - raised, lower[::-1]]), 1.0) for upper, lower in lids]
    ears = [(ear(look, side), -1.0) for side in SIDES]
    face = [*ears, (face_outline(look), 0.0)]
    return face if name == "face" else [(neck(look), -1.0), *face]


def _hair_shapes(look: Look) -> list[tuple[np.ndarray, float]]:
    if look.length < 0.03:
        return []
    if look.bald:
        return [(hair_tuft(look, side), 0.0) for side in SIDES]
    shapes = [(hair_cap(look), 0.0)]
    if look.bun:
        shapes.append((ellipse(0, -1.36 - look.volume, 0.42, 0.34), -1.0))
    if look.curly:
        shapes += [(outline, -1.0) for outline in curls(look)]
    if _loose(look):
        shapes += [(hair_lock(look, side), 0.0) for side in SIDES]
    return shapes


def _visible(look: Look, name: str) -> Image.Image:
    """Mask of one region, without what clothes or the face cover."""
    image = Image.new("L", (SIZE, SIZE))
    pen = Pen(image, look)
    if name == "hair" and _loose(look):  # behind the face: painted first, then covered
        pen.fill(hair_back(look), 255, -1)
        for shape in (neck(look), clothing(look)):
            pen.fill(shape, 0, -1)
        pen.fill(face_outline(look), 0, 0)
    lines, width = _region_lines(look).get(name, ([], 0))
    for points in lines:
        pen.line(points, 255, width)
    if not lines:
        for shape, depth in _region_shapes(look, name):
            if name == "skin" and depth == 0:  # clothes cover the neck, the chin the clothes
                pen.fill(clothing(look), 0, -1)
            pen.fill(shape, 255, depth)
    return image


def region_mask(look: Look, names) -> np.ndarray:
    """Where the named regions lie, bool [200, 200]."""
    image = Image.new("L", (SIZE, SIZE))
    for name in names:
        image = ImageChops.lighter(image, _visible(look, name))
    return np.asarray(image.filter(ImageFilter.MaxFilter(MASK_MARGIN))) > 0
