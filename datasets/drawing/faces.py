"""The parameters of a drawn face: a person, a scene and an expression, as numbers that ``portrait`` draws.

Lengths are in face units: half the side of the picture is 1, x points right, y points down, the middle of the
picture is (0, 0). Colors are RGB in [0, 255].
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from utils import derived_seed, refuse

EXPRESSIONS = ("disgust", "scream", "smile", "squint", "surprise", "neutral")

Color = tuple[float, float, float]

SKINS = ((248, 216, 194), (242, 202, 172), (231, 184, 145), (205, 150, 110), (158, 105, 72), (112, 72, 50))
HAIRS = {"black": (34, 30, 34), "dark brown": (64, 42, 32), "brown": (104, 68, 44), "auburn": (138, 62, 36),
         "copper": (186, 92, 44), "blond": (214, 172, 98), "platinum": (235, 218, 176), "grey": (150, 150, 154),
         "white": (226, 224, 220)}
IRISES = ((84, 52, 30), (110, 74, 40), (66, 110, 150), (84, 128, 92), (112, 128, 140))
FRAMES = ((30, 30, 34), (112, 60, 36), (160, 40, 52), (48, 70, 120), (184, 150, 84))
CLOTHES = ((52, 84, 128), (150, 62, 66), (70, 116, 92), (224, 220, 212), (66, 66, 74), (206, 156, 72),
           (126, 96, 146), (92, 148, 168), (184, 112, 96))
WALLS = ((176, 198, 214), (214, 204, 188), (188, 204, 178), (206, 188, 204), (150, 164, 176), (222, 196, 170),
         (118, 140, 156), (232, 230, 224), (166, 150, 138))

LONG_HAIR = ("long", "wavy", "bob", "fringe", "bun", "ponytail", "curly")
SHORT_HAIR = ("crop", "side part", "quiff", "spiky", "buzz", "receding", "bald", "curly short")

# Parameters of expressions: lengths in face units, the others relative to the person's own measures.
REST = {"eye_open": 1.0, "lower_lid": 0.0, "brow_raise": 0.0, "brow_furrow": 0.0, "brow_worry": 0.0,
        "mouth_width": 1.0, "mouth_shift": 0.0, "corner": 0.0, "open_up": 0.0, "open_down": 0.0, "roundness": 0.75,
        "sneer": 0.0, "lips": 1.0, "teeth": 0.0, "tongue": 0.0, "jaw_drop": 0.0, "cheeks": 0.0, "wrinkles": 0.0,
        "crow_feet": 0.0, "folds": 0.0}
FULL = {
    "disgust": {"eye_open": 0.50, "lower_lid": 0.45, "brow_raise": -0.045, "brow_furrow": 0.070, "mouth_width": 1.02,
                "corner": -0.085, "open_up": 0.012, "sneer": 0.075, "lips": 0.95, "teeth": 0.05, "wrinkles": 1.0,
                "folds": 1.0, "mouth_shift": -0.005},
    "scream": {"eye_open": 0.05, "lower_lid": 0.75, "brow_furrow": 0.055, "corner": -0.02, "open_up": 0.085,
               "open_down": 0.255, "roundness": 0.45, "lips": 0.8, "teeth": 0.045, "tongue": 1.0, "jaw_drop": 0.12,
               "crow_feet": 1.0, "folds": 0.7, "cheeks": 0.4},
    "smile": {"eye_open": 0.80, "lower_lid": 0.85, "brow_raise": 0.02, "mouth_width": 1.42, "corner": 0.125,
              "open_up": -0.015, "open_down": 0.115, "lips": 0.7, "teeth": 0.075, "tongue": 0.35, "cheeks": 1.0,
              "folds": 0.8, "crow_feet": 0.3, "mouth_shift": 0.045},
    "squint": {"eye_open": 0.20, "lower_lid": 0.72, "brow_raise": -0.060, "brow_furrow": 0.035, "mouth_width": 1.10,
               "corner": -0.012, "lips": 0.40, "crow_feet": 0.9, "cheeks": 0.3},
    "surprise": {"eye_open": 1.62, "lower_lid": -0.30, "brow_raise": 0.085, "brow_worry": 0.015, "mouth_width": 0.50,
                 "open_up": 0.055, "open_down": 0.085, "roundness": 0.5, "jaw_drop": 0.035, "mouth_shift": 0.025},
    "neutral": {"corner": 0.016},
}
INTENSITY = (0.75, 1.0)
SIZES = range(32, 513)  # pixels of a picture's side


class Pose(NamedTuple):
    """Where the head is: shift in face units, scale, roll in radians, yaw and pitch as parallax in face units."""

    x: float
    y: float
    scale: float
    roll: float
    yaw: float
    pitch: float


class Person:
    """All that stays of a person from picture to picture; the same seed is the same person."""

    def __init__(self, seed: int) -> None:
        self.seed, rng = seed, np.random.default_rng(derived_seed(seed, "identity"))
        woman = rng.random() < 0.5
        tone = rng.uniform(0, len(SKINS) - 1)
        lighter = min(int(tone), len(SKINS) - 2)
        self.skin = _varied(rng, mix(SKINS[lighter], SKINS[lighter + 1], tone - lighter), 0.03)
        self.age = rng.beta(1.4, 2.6)
        hairs = ("grey", "white") if self.age > 0.62 else tuple(HAIRS)[:2 if tone > 3.2 else 7]
        self.hair = _varied(rng, HAIRS[rng.choice(hairs)], 0.08)
        self.beard = "none" if woman else rng.choice(["none", "stubble", "mustache", "goatee", "full"],
                                                     p=[0.42, 0.12, 0.12, 0.14, 0.20])
        self.hair_style = rng.choice(LONG_HAIR if woman else SHORT_HAIR)
        rouge = rng.uniform(0.25, 0.75) if woman else rng.uniform(0.05, 0.2)
        self.lip = mix(mix(self.skin, (176, 84, 84), 0.45), (186, 40, 66), rouge)
        self.brow = mix(mix(self.hair, self.skin, 0.12), (40, 28, 24), 0.35)
        self.iris = _varied(rng, IRISES[0 if tone > 3.2 else rng.integers(len(IRISES))], 0.08)
        self.frame = FRAMES[rng.integers(len(FRAMES))]
        self.glasses = rng.choice(["none", "round", "square", "wide"], p=[0.70, 0.10, 0.10, 0.10])
        self.width, self.forehead = rng.uniform(0.48, 0.58), rng.uniform(0.57, 0.65)
        self.chin = rng.uniform(0.73, 0.82)
        self.jaw = rng.uniform(2.05, 2.35) if woman else rng.uniform(2.2, 2.8)
        self.taper, self.ear = rng.uniform(0.05, 0.28), rng.uniform(0.8, 1.2)
        self.eye_gap, self.eye_width = rng.uniform(0.205, 0.250), rng.uniform(0.112, 0.138)
        self.eye_height, self.eye_slant = rng.uniform(0.070, 0.088), rng.uniform(-0.06, 0.12)
        self.lashes = rng.uniform(0.6, 1.0) if woman else rng.uniform(0.0, 0.2)
        self.brow_height = rng.uniform(0.175, 0.205)
        self.brow_thickness = rng.uniform(0.014, 0.022) if woman else rng.uniform(0.020, 0.036)
        self.brow_arch = rng.uniform(0.010, 0.032)
        self.nose_width, self.nose_y = rng.uniform(0.065, 0.115), rng.uniform(0.15, 0.21)
        self.mouth_width, self.mouth_y = rng.uniform(0.155, 0.205), rng.uniform(0.385, 0.425)
        self.upper_lip, self.lower_lip = rng.uniform(0.028, 0.050), rng.uniform(0.038, 0.062)
        self.volume, self.side = rng.uniform(0.07, 0.14), int(rng.choice([-1, 1]))
        self.freckles = tone < 2 and rng.random() < 0.3
        self.earrings = woman and rng.random() < 0.5


class Scene:
    """A session with its camera: background, clothes, light and the head's pose; the same seed is the same scene."""

    def __init__(self, seed: int) -> None:
        self.seed, rng = seed, np.random.default_rng(derived_seed(seed, "scene"))
        wall = _varied(rng, WALLS[rng.integers(len(WALLS))], 0.06)
        azimuth, height = rng.uniform(-0.9, 0.9), rng.uniform(-0.75, -0.2)
        light = np.array([np.sin(azimuth), height, np.cos(azimuth)])
        warmth = rng.uniform(-1, 1)
        self.wall = wall, tuple(channel * rng.uniform(0.6, 0.8) for channel in wall)
        self.wall_angle = rng.uniform(0, 2 * np.pi)
        self.spots = rng.uniform((-1, -1, 0.12, -0.12), (1, 1, 0.40, 0.18), (5, 4)).tolist()
        self.clothes = _varied(rng, CLOTHES[rng.integers(len(CLOTHES))], 0.10)
        self.collar = rng.choice(["round", "v-neck", "shirt"])
        self.light = light / np.linalg.norm(light)
        self.light_color = 1 + 0.05 * warmth, 1.0, 1 - 0.07 * warmth
        self.contrast = rng.uniform(0.2, 0.42)
        self.pose = Pose(x=rng.uniform(-0.05, 0.05), y=rng.uniform(0.0, 0.05), scale=rng.uniform(1.02, 1.13),
                         roll=rng.uniform(-0.08, 0.08), yaw=rng.uniform(-0.05, 0.05), pitch=rng.uniform(-0.02, 0.02))


def moment(person: Person, scene: Scene, expression: int | str) -> tuple[SimpleNamespace, Pose]:
    """Return the parameters of an expression and the pose, as one picture of a scene shows them.

    Both are functions of the three arguments alone, so that a picture can be drawn again. Raises UserError for an
    unknown expression.
    """
    name = EXPRESSIONS[expression] if expression in range(len(EXPRESSIONS)) else expression
    refuse(f"expression {expression}", (name not in EXPRESSIONS, f"not one of {' '.join(EXPRESSIONS)} (labels 0 to "
                                        f"{len(EXPRESSIONS) - 1})"))
    rng = np.random.default_rng(derived_seed(person.seed, "moment", scene.seed, name))
    strength, neutral, full = rng.uniform(*INTENSITY), REST | FULL["neutral"], REST | FULL[name]
    pose = scene.pose
    return (SimpleNamespace(**{part: neutral[part] + (full[part] - neutral[part]) * strength for part in REST}),
            Pose(pose.x + rng.normal(0, 0.010), pose.y + rng.normal(0, 0.010), pose.scale * (1 + rng.normal(0, 0.008)),
                 pose.roll + rng.normal(0, 0.012), pose.yaw + rng.normal(0, 0.010), pose.pitch + rng.normal(0, 0.006)))


def mix(first: Color, second: Color, weight: float) -> Color:
    """Return the mixture of two colors: ``first`` for the weight 0, ``second`` for 1."""
    return tuple(a + (b - a) * weight for a, b in zip(first, second))


def _varied(rng: np.random.Generator, color: Color, spread: float) -> Color:
    """Return a color with a random change of its lightness, and a fifth of that in each channel."""
    gain = (1 + rng.normal(0, spread)) * (1 + rng.normal(0, spread / 5, 3))
    return tuple(np.clip(np.asarray(color) * gain, 8, 252).tolist())
