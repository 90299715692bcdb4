"""What a drawn face is made of: an identity, a scene, an expression. Numbers only; ``portrait`` draws them.

Lengths are in face units: half the side of the picture is 1, x points right, y points down, the middle of the
picture is (0, 0). Colors are RGB in [0, 255].
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from utils import UserError, derived_seed

EXPRESSIONS = ("disgust", "scream", "smile", "squint", "surprise", "neutral")

Color = tuple[float, float, float]

SKINS = ((248, 216, 194), (242, 202, 172), (231, 184, 145), (205, 150, 110), (158, 105, 72), (112, 72, 50))
HAIRS = {"black": (34, 30, 34), "dark brown": (64, 42, 32), "brown": (104, 68, 44), "auburn": (138, 62, 36),
         "copper": (186, 92, 44), "blond": (214, 172, 98), "platinum": (235, 218, 176), "grey": (150, 150, 154),
         "white": (226, 224, 220)}
IRISES = ((84, 52, 30), (110, 74, 40), (66, 110, 150), (84, 128, 92), (112, 128, 140))
CLOTHES = ((52, 84, 128), (150, 62, 66), (70, 116, 92), (224, 220, 212), (66, 66, 74), (206, 156, 72),
           (126, 96, 146), (92, 148, 168), (184, 112, 96))
WALLS = ((176, 198, 214), (214, 204, 188), (188, 204, 178), (206, 188, 204), (150, 164, 176), (222, 196, 170),
         (118, 140, 156), (232, 230, 224), (166, 150, 138))

LONG_HAIR = ("long", "wavy", "bob", "fringe", "bun", "ponytail", "curly")
SHORT_HAIR = ("crop", "side part", "quiff", "spiky", "buzz", "receding", "bald", "curly short")


@dataclass(frozen=True)
class Identity:
    """One person: all that stays from picture to picture. Made by :func:`identity`."""

    seed: int
    skin: Color
    hair: Color
    brow: Color
    lip: Color
    iris: Color
    frame: Color
    hair_style: str
    beard: str
    glasses: str
    width: float
    forehead: float
    chin: float
    jaw: float
    taper: float
    ear: float
    eye_gap: float
    eye_width: float
    eye_height: float
    eye_slant: float
    lashes: float
    brow_height: float
    brow_thickness: float
    brow_arch: float
    nose_width: float
    nose_y: float
    mouth_width: float
    mouth_y: float
    upper_lip: float
    lower_lip: float
    volume: float
    side: int
    freckles: bool
    earrings: bool
    age: float


@dataclass(frozen=True)
class Scene:
    """One session, camera and light: all that the pictures of a scene share beside the person."""

    seed: int
    wall: tuple[Color, Color]
    wall_angle: float
    spots: tuple[tuple[float, float, float, float], ...]
    clothes: Color
    collar: str
    light: tuple[float, float, float]
    light_color: Color
    contrast: float
    pose: "Pose"


@dataclass(frozen=True)
class Pose:
    """Where the head is: shift in face units, scale, roll in radians, yaw and pitch as parallax in face units."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0


@dataclass(frozen=True)
class Expression:
    """How a face departs from rest. Lengths in face units, the others in parts of the person's own measure."""

    eye_open: float = 1.0
    lower_lid: float = 0.0
    brow_raise: float = 0.0
    brow_furrow: float = 0.0
    brow_worry: float = 0.0
    mouth_width: float = 1.0
    mouth_shift: float = 0.0
    corner: float = 0.0
    open_up: float = 0.0
    open_down: float = 0.0
    roundness: float = 0.75
    sneer: float = 0.0
    lips: float = 1.0
    teeth: float = 0.0
    tongue: float = 0.0
    jaw_drop: float = 0.0
    cheeks: float = 0.0
    wrinkles: float = 0.0
    crow_feet: float = 0.0
    folds: float = 0.0


FULL = {
    "disgust": Expression(eye_open=0.50, lower_lid=0.45, brow_raise=-0.045, brow_furrow=0.070, mouth_width=1.02,
                          corner=-0.085, open_up=0.012, open_down=0.0, sneer=0.075, lips=0.95, teeth=0.05,
                          wrinkles=1.0, folds=1.0, mouth_shift=-0.005),
    "scream": Expression(eye_open=0.05, lower_lid=0.75, brow_raise=0.0, brow_furrow=0.055, mouth_width=1.0,
                         corner=-0.02, open_up=0.085, open_down=0.255, roundness=0.45, lips=0.8, teeth=0.045,
                         tongue=1.0, jaw_drop=0.12, crow_feet=1.0, folds=0.7, cheeks=0.4),
    "smile": Expression(eye_open=0.80, lower_lid=0.85, brow_raise=0.02, mouth_width=1.42, corner=0.125,
                        open_up=-0.015, open_down=0.115, roundness=0.75, lips=0.7, teeth=0.075, tongue=0.35,
                        cheeks=1.0, folds=0.8, crow_feet=0.3, mouth_shift=0.045),
    "squint": Expression(eye_open=0.20, lower_lid=0.72, brow_raise=-0.060, brow_furrow=0.035, mouth_width=1.10,
                         corner=-0.012, lips=0.40, crow_feet=0.9, cheeks=0.3),
    "surprise": Expression(eye_open=1.62, lower_lid=-0.30, brow_raise=0.085, brow_worry=0.015, mouth_width=0.50,
                           open_up=0.055, open_down=0.085, roundness=0.5, jaw_drop=0.035, mouth_shift=0.025),
    "neutral": Expression(corner=0.016),
}
INTENSITY = (0.75, 1.0)
SIZES = (32, 512)


def identity(seed: int) -> Identity:
    """The person with this seed. The same seed is the same person."""
    rng = _rng(seed, "identity")
    woman = rng.random() < 0.5
    tone = rng.uniform(0, len(SKINS) - 1)
    skin = _varied(rng, _blend(SKINS, tone), 0.03)
    age = rng.beta(1.4, 2.6)
    hair = _varied(rng, HAIRS[_hair_name(rng, tone, age)], 0.08)
    beard = "none" if woman else str(rng.choice(["none", "stubble", "mustache", "goatee", "full"],
                                                p=[0.42, 0.12, 0.12, 0.14, 0.20]))
    style = str(rng.choice(LONG_HAIR)) if woman else str(rng.choice(SHORT_HAIR))
    rouge = rng.uniform(0.25, 0.75) if woman else rng.uniform(0.05, 0.2)
    lip = _mix(_mix(skin, (176, 84, 84), 0.45), (186, 40, 66), rouge)
    return Identity(
        seed=seed, skin=skin, hair=hair, lip=lip, brow=_mix(_mix(hair, skin, 0.12), (40, 28, 24), 0.35),
        iris=_varied(rng, IRISES[0 if tone > 3.2 else rng.integers(len(IRISES))], 0.08),
        frame=((30, 30, 34), (112, 60, 36), (160, 40, 52), (48, 70, 120), (184, 150, 84))[rng.integers(5)],
        hair_style=style, beard=beard,
        glasses=str(rng.choice(["none", "round", "square", "wide"], p=[0.70, 0.10, 0.10, 0.10])),
        width=rng.uniform(0.48, 0.58), forehead=rng.uniform(0.57, 0.65), chin=rng.uniform(0.73, 0.82),
        jaw=rng.uniform(2.05, 2.35) if woman else rng.uniform(2.2, 2.8), taper=rng.uniform(0.05, 0.28),
        ear=rng.uniform(0.8, 1.2), eye_gap=rng.uniform(0.205, 0.250), eye_width=rng.uniform(0.112, 0.138),
        eye_height=rng.uniform(0.070, 0.088), eye_slant=rng.uniform(-0.06, 0.12),
        lashes=rng.uniform(0.6, 1.0) if woman else rng.uniform(0.0, 0.2),
        brow_height=rng.uniform(0.175, 0.205),
        brow_thickness=rng.uniform(0.014, 0.022) if woman else rng.uniform(0.020, 0.036),
        brow_arch=rng.uniform(0.010, 0.032), nose_width=rng.uniform(0.065, 0.115), nose_y=rng.uniform(0.15, 0.21),
        mouth_width=rng.uniform(0.155, 0.205), mouth_y=rng.uniform(0.385, 0.425),
        upper_lip=rng.uniform(0.028, 0.050), lower_lip=rng.uniform(0.038, 0.062),
        volume=rng.uniform(0.07, 0.14), side=int(rng.choice([-1, 1])), freckles=bool(tone < 2 and rng.random() < 0.3),
        earrings=bool(woman and rng.random() < 0.5), age=age)


def scene(seed: int) -> Scene:
    """The scene with this seed: background, clothes, light and where the head is."""
    rng = _rng(seed, "scene")
    wall = _varied(rng, WALLS[rng.integers(len(WALLS))], 0.06)
    azimuth, height = rng.uniform(-0.9, 0.9), rng.uniform(-0.75, -0.2)
    light = np.array([np.sin(azimuth), height, np.cos(azimuth)])
    warmth = rng.uniform(-1, 1)
    return Scene(
        seed=seed, wall=(wall, tuple(channel * rng.uniform(0.6, 0.8) for channel in wall)),
        wall_angle=rng.uniform(0, 2 * np.pi),
        spots=tuple(map(tuple, rng.uniform((-1, -1, 0.12, -0.12), (1, 1, 0.40, 0.18), (5, 4)).tolist())),
        clothes=_varied(rng, CLOTHES[rng.integers(len(CLOTHES))], 0.10),
        collar=str(rng.choice(["round", "v-neck", "shirt"])), light=tuple(light / np.linalg.norm(light)),
        light_color=(1 + 0.05 * warmth, 1.0, 1 - 0.07 * warmth), contrast=rng.uniform(0.2, 0.42),
        pose=Pose(x=rng.uniform(-0.05, 0.05), y=rng.uniform(0.0, 0.05), scale=rng.uniform(1.02, 1.13),
                  roll=rng.uniform(-0.08, 0.08), yaw=rng.uniform(-0.05, 0.05), pitch=rng.uniform(-0.02, 0.02)))


def moment(person: Identity, place: Scene, name: str) -> tuple[Expression, Pose]:
    """The one picture of a scene that shows an expression: the expression at its intensity, the pose of that moment.

    A function of the three alone, so that a picture can be drawn again and its truth exists.
    """
    rng = _rng(person.seed, "moment", place.seed, name)
    strength = rng.uniform(*INTENSITY)
    rest, full = FULL["neutral"], FULL[name]
    shown = Expression(**{f.name: _mix1(getattr(rest, f.name), getattr(full, f.name), strength)
                          for f in fields(Expression)})
    pose = place.pose
    return shown, replace(pose, x=pose.x + rng.normal(0, 0.010), y=pose.y + rng.normal(0, 0.010),
                          scale=pose.scale * (1 + rng.normal(0, 0.008)), roll=pose.roll + rng.normal(0, 0.012),
                          yaw=pose.yaw + rng.normal(0, 0.010), pitch=pose.pitch + rng.normal(0, 0.006))


def expression_name(expression: int | str) -> str:
    """The name of an expression given by name or label. Raises UserError if there is none such."""
    if isinstance(expression, str) and expression in EXPRESSIONS:
        return expression
    if not isinstance(expression, str) and 0 <= expression < len(EXPRESSIONS):
        return EXPRESSIONS[expression]
    raise UserError(f"expression {expression}: not one of {' '.join(EXPRESSIONS)} "
                    f"(labels 0 to {len(EXPRESSIONS) - 1})")


def check_size(size: int) -> None:
    """Raises UserError if faces are not drawn at this size, in pixels."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"image size {size}: faces are drawn from {SIZES[0]} to {SIZES[1]} pixels")


def _hair_name(rng: np.random.Generator, tone: float, age: float) -> str:
    if age > 0.62:
        return str(rng.choice(["grey", "white"]))
    if tone > 3.2:
        return str(rng.choice(["black", "dark brown"]))
    return str(rng.choice(["black", "dark brown", "brown", "auburn", "copper", "blond", "platinum"]))


def _rng(seed: int, *stream: int | str) -> np.random.Generator:
    return np.random.default_rng(derived_seed(seed, *stream))


def _blend(colors: tuple[Color, ...], position: float) -> Color:
    low = min(int(position), len(colors) - 2)
    return _mix(colors[low], colors[low + 1], position - low)


def _mix(first: Color, second: Color, share: float) -> Color:
    return tuple(_mix1(a, b, share) for a, b in zip(first, second))


def _mix1(a: float, b: float, share: float) -> float:
    return a + (b - a) * share


def _varied(rng: np.random.Generator, color: Color, spread: float) -> Color:
    """A color made lighter or darker, and a fifth of that in each channel."""
    gain = (1 + rng.normal(0, spread)) * (1 + rng.normal(0, spread / 5, 3))
    return tuple(np.clip(np.asarray(color) * gain, 8, 252).tolist())
