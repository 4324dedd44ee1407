"""Drawn portraits: a `Face` holds what makes a person recognisable, a view adds everything that varies.

Two views of one face share its features and differ in background, clothes, light, position, scale, tilt, turn of the
head, expression, blur and noise. All randomness comes from the generator passed in: same seed, same pixels.
"""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Color = tuple[int, int, int]

SKIN: dict[str, Color] = {
    "pale": (250, 224, 206),
    "light": (236, 196, 166),
    "tan": (212, 163, 122),
    "olive": (186, 148, 104),
    "brown": (146, 98, 66),
    "dark": (94, 62, 46),
}
HAIR_COLOR: dict[str, Color] = {
    "black": (28, 24, 26),
    "brown": (92, 56, 32),
    "blond": (226, 190, 104),
    "red": (176, 64, 30),
    "grey": (158, 158, 164),
    "white": (238, 236, 230),
    "blue": (52, 90, 190),
    "pink": (226, 110, 170),
}
EYE_COLOR: dict[str, Color] = {
    "brown": (84, 50, 26),
    "blue": (60, 120, 210),
    "green": (52, 140, 74),
    "grey": (130, 136, 142),
    "amber": (206, 140, 30),
}
FEATURES: dict[str, tuple[str, ...]] = {
    "skin": tuple(SKIN),
    "hair color": tuple(HAIR_COLOR),
    "eye color": tuple(EYE_COLOR),
    "hair style": ("bald", "short", "long", "mohawk", "curly", "bob", "bun"),
    "beard": ("none", "moustache", "goatee", "full"),
    "glasses": ("none", "round", "square", "shades"),
    "mark": ("none", "scar", "mole", "freckles", "blush"),
    "earrings": ("none", "hoops", "studs"),
}
"""The categorical features, each with the values it can take."""

SHAPES = (
    "head width", "head height", "jaw", "eye distance", "eye size", "brow weight", "brow angle",
    "nose length", "nose width", "mouth width", "mouth curve", "mouth height",
)  # fmt: skip
"""The continuous features, each in [-1, 1]."""

OVERSAMPLING = 3
DARK = (10, 10, 20)


@dataclass(frozen=True)
class Face:
    """What is stable about a person: one value per entry of `FEATURES` and `SHAPES`, and the side their mark is on."""

    features: dict[str, str]
    shapes: dict[str, float]
    mark_side: int

    def differences(self, other: "Face") -> int:
        """In how many categorical features two faces differ."""
        return sum(self.features[name] != other.features[name] for name in FEATURES)


def random_face(rng: np.random.Generator) -> Face:
    """A face drawn uniformly over all features."""
    features = {name: values[rng.integers(len(values))] for name, values in FEATURES.items()}
    shapes = {name: float(rng.uniform(-1, 1)) for name in SHAPES}
    return Face(features, shapes, mark_side=int(rng.choice((-1, 1))))


def distinct_faces(rng: np.random.Generator, count: int, known: list[Face], differences: int = 4) -> list[Face]:
    """`count` faces of which any two, `known` ones included, differ in at least `differences` categorical features."""
    faces: list[Face] = []
    while len(faces) < count:
        face = random_face(rng)
        if all(face.differences(other) >= differences for other in [*known, *faces]):
            faces.append(face)
    return faces


def draw_view(face: Face, rng: np.random.Generator, size: int = 64) -> Image.Image:
    """One RGB portrait of `size` x `size` pixels."""
    canvas = _Canvas(face, rng, size * OVERSAMPLING)
    canvas.hair_behind()
    canvas.body()
    canvas.head()
    canvas.marks()
    canvas.mouth_and_beard()
    canvas.nose()
    canvas.eyes()
    canvas.glasses()
    canvas.hair_in_front()
    image = canvas.image.rotate(rng.uniform(-7, 7), resample=Image.Resampling.BILINEAR, fillcolor=canvas.corner)
    image = image.resize((size, size), Image.Resampling.BOX)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7)))
    return _light(image, rng)


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exposure, colour cast, light from one side, and sensor noise."""
    pixels = np.asarray(image, dtype=np.float64)
    side = 1 + rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, image.width)[None, :, None]
    pixels = pixels * rng.uniform(0.82, 1.18) * rng.uniform(0.94, 1.06, 3) * side + rng.normal(0, 5, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _gradient(rng: np.random.Generator, size: int) -> Image.Image:
    first, second = rng.integers(30, 226, (2, 3))
    ramp = np.linspace(0, 1, size)[:, None, None]
    if rng.integers(2):
        ramp = ramp.transpose(1, 0, 2)
    pixels = first * (1 - ramp) + second * ramp
    return Image.fromarray(np.broadcast_to(pixels, (size, size, 3)).astype(np.uint8))


class _Canvas:
    """A head centred at (0, 0) in units of 1/64 of the picture; `turn` shifts what lies in front of the head."""

    def __init__(self, face: Face, rng: np.random.Generator, size: int):
        self.face = face
        self.image = _gradient(rng, size)
        self.corner = self.image.getpixel((0, 0))
        self.pen = ImageDraw.Draw(self.image)
        self.unit = size / 64 * rng.uniform(0.92, 1.08)
        self.center = size * np.array([0.5 + rng.uniform(-0.05, 0.05), 0.52 + rng.uniform(-0.04, 0.04)])
        self.turn = rng.uniform(-2.2, 2.2)
        self.smile = rng.uniform(-0.8, 0.8)
        self.clothes: Color = tuple(rng.integers(20, 236, 3).tolist())
        self.skin = SKIN[face.features["skin"]]
        self.shadow: Color = tuple(int(c * 0.78) for c in self.skin)  # type: ignore[assignment]
        self.hair = HAIR_COLOR[face.features["hair color"]]
        self.style = face.features["hair style"]
        self.width = 15 + 2.2 * face.shapes["head width"]
        self.height = 19 + 2.0 * face.shapes["head height"]
        self.eye_x = 6.6 + 1.1 * face.shapes["eye distance"]

    def hair_behind(self) -> None:
        if self.style in ("long", "bob"):
            bottom = self.height + 8 if self.style == "long" else 8
            self._box(-self.width - 4, 1 - self.height, self.width + 4, bottom, self.hair, radius=10)
        if self.style == "curly":
            for angle in range(0, 360, 30):
                x, y = (self.width + 1) * cos(radians(angle)), (self.height - 3) * sin(radians(angle)) - 5
                self._oval(x, y, 6, 6, fill=self.hair)
        if self.style == "bun":
            self._oval(0, -self.height - 5, 6.5, 6, fill=self.hair)

    def body(self) -> None:
        self._oval(0, self.height + 17, 25, 15, fill=self.clothes)
        self._box(-5.5, self.height - 6, 5.5, self.height + 6, self.shadow)

    def head(self) -> None:
        for side in (-1, 1):
            self._oval(side * self.width + self.turn / 2, 0, 3, 4.5, fill=self.shadow)
            if self.face.features["earrings"] == "hoops":
                self._oval(side * (self.width + 0.5), 7, 2.4, 2.8, outline=(250, 210, 60), width=self._stroke(0.9))
            if self.face.features["earrings"] == "studs":
                self._oval(side * (self.width + 0.5), 5, 1.5, 1.5, fill=(120, 240, 250))
        self._oval(0, 0, self.width, self.height, fill=self.skin)
        jaw = self.width * (0.66 + 0.16 * self.face.shapes["jaw"])
        self._box(-jaw, 4, jaw, self.height, self.skin, radius=6)

    def marks(self) -> None:
        mark, side, turn = self.face.features["mark"], self.face.mark_side, self.turn
        if mark == "scar":
            self._line([(side * 6 + turn, -2), (side * 11 + turn, 9)], (150, 30, 40), 1.5)
        if mark == "mole":
            self._oval(side * 7.5 + turn, 6.5, 1.5, 1.5, fill=(40, 20, 14))
        if mark == "freckles":
            for x, y in ((8, 3), (6, 5), (9, 6), (7, 7)):
                self._oval(x + turn, y, 0.8, 0.8, fill=(120, 60, 30))
                self._oval(turn - x, y, 0.8, 0.8, fill=(120, 60, 30))
        if mark == "blush":
            for sign in (-1, 1):
                self._oval(sign * 8.5 + turn, 5, 3, 2.1, fill=(236, 110, 110))

    def mouth_and_beard(self) -> None:
        shapes, beard = self.face.shapes, self.face.features["beard"]
        if beard == "full":
            box = [self._at(1 - self.width, -6), self._at(self.width - 1, self.height + 2)]
            self.pen.chord(box, 12, 168, fill=self.hair)
        if beard == "goatee":
            self._oval(self.turn, self.height - 4.5, 4.5, 4.5, fill=self.hair)
        y, half = 10.5 + 1.2 * shapes["mouth height"], 4.6 + 1.6 * shapes["mouth width"]
        curve = 2.4 * shapes["mouth curve"] + self.smile
        arc = [(self.turn + x * half, y + curve * (0.5 - x * x)) for x in np.linspace(-1, 1, 9)]
        self._line(arc, (150, 40, 50), 1.8)
        if beard in ("moustache", "full"):
            self._oval(self.turn, y - 2.6, half * 0.95, 1.5, fill=self.hair)

    def nose(self) -> None:
        length, half = 5 + 1.6 * self.face.shapes["nose length"], 2.2 + 0.9 * self.face.shapes["nose width"]
        tip = self.turn * 1.2
        self.pen.polygon([self._at(tip, -1), self._at(tip - half, length), self._at(tip + half, length)], self.shadow)

    def eyes(self) -> None:
        shapes = self.face.shapes
        size = 2.5 + 0.5 * shapes["eye size"]
        brow = self.hair if self.style != "bald" else tuple(int(c * 0.6) for c in self.skin)
        for side in (-1, 1):
            x = side * self.eye_x + self.turn
            self._oval(x, -3, size * 1.25, size, fill=(250, 250, 250))
            self._oval(x + self.turn / 4, -3, size * 0.82, size * 0.82, fill=EYE_COLOR[self.face.features["eye color"]])
            self._oval(x + self.turn / 4, -3, size * 0.32, size * 0.32, fill=(8, 8, 8))
            rise = side * 1.6 * shapes["brow angle"]
            self._line([(x - 3.4, rise - 8), (x + 3.4, -rise - 8)], brow, 1.6 + 0.7 * shapes["brow weight"])

    def glasses(self) -> None:
        kind = self.face.features["glasses"]
        if kind == "none":
            return
        for side in (-1, 1):
            x = side * self.eye_x + self.turn
            if kind == "round":
                self._oval(x, -3, 4.9, 4.9, outline=DARK, width=self._stroke(1.1))
            if kind == "square":
                box = [self._at(x - 5, -6.8), self._at(x + 5, 1)]
                self.pen.rectangle(box, outline=(180, 20, 30), width=self._stroke(1.1))
            if kind == "shades":
                self._box(x - 5, -6.6, x + 5, 0.8, DARK, radius=2)
        self._line([(4 - self.eye_x + self.turn, -3), (self.eye_x - 4 + self.turn, -3)], DARK, 1.1)

    def hair_in_front(self) -> None:
        top = -self.height
        if self.style == "mohawk":
            crest = [(-4.5, top + 6), (-5.5, top - 8), (0, top - 11), (5.5, top - 8), (4.5, top + 6)]
            self.pen.polygon([self._at(x, y) for x, y in crest], self.hair)
        elif self.style != "bald":
            box = [self._at(-self.width - 1.5, top - 2.5), self._at(self.width + 1.5, self.height - 6)]
            self.pen.chord(box, 197, 343, fill=self.hair)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (self.center[0] + self.unit * x, self.center[1] + self.unit * y)

    def _stroke(self, width: float) -> int:
        return max(1, int(width * self.unit))

    def _oval(self, x: float, y: float, rx: float, ry: float, **style: Color | int) -> None:
        self.pen.ellipse([self._at(x - rx, y - ry), self._at(x + rx, y + ry)], **style)  # type: ignore[arg-type]

    def _box(self, left: float, top: float, right: float, bottom: float, fill: Color, radius: float = 0) -> None:
        self.pen.rounded_rectangle([self._at(left, top), self._at(right, bottom)], radius * self.unit, fill)

    def _line(self, points: list[tuple[float, float]], fill: tuple[int, ...], width: float) -> None:
        self.pen.line([self._at(x, y) for x, y in points], fill, self._stroke(width))
