"""Draws one face: ``draw(person, scene, expression, size)``, from back to front, with Pillow."""

from functools import cached_property
from types import SimpleNamespace

import numpy as np
from PIL import Image

from datasets.drawing import faces
from datasets.drawing.canvas import SKULL_Y, Canvas, between, clamped, column, curve, ellipse, tapered
from datasets.drawing.faces import Color, Person, Scene, mix
from utils import derived_seed

EYE_Y = -0.07
NECK = 0.25
ALONG = np.linspace(-1.0, 1.0, 25)
DOME = 1.0 - ALONG ** 2
BLACK: Color = (22, 16, 18)
TEETH: Color = (250, 248, 242)
STEPS = 61
LOCK = 0.90


def draw(person_seed: int, scene_seed: int, expression: int | str, size: int) -> Image.Image:
    """Draw a person in a scene with an expression (name or label), as RGB of ``size`` × ``size`` pixels.

    The same arguments give the same pixels, and another size shows the same picture. Raises UserError for an unknown
    expression and for a size outside 32 to 512.
    """
    faces.check_size(size)
    person, scene = Person(person_seed), Scene(scene_seed)
    shown, pose = faces.moment(person, scene, expression)
    canvas = Canvas(size, pose, person, scene)
    Portrait(canvas, person, scene, shown).draw()
    return canvas.finish()


class Portrait:
    """One face on one canvas, part by part."""

    def __init__(self, canvas: Canvas, person: Person, scene: Scene, shown: SimpleNamespace) -> None:
        self.canvas, self.person, self.scene, self.shown = canvas, person, scene, shown
        self.shadow = mix(person.skin, (96, 34, 30), 0.34)
        self.line = mix(person.skin, (60, 22, 20), 0.62)
        self.light_hair = mix(person.hair, (255, 236, 200), 0.20)
        self.dark_hair = mix(person.hair, (12, 8, 10), 0.35)

    def draw(self) -> None:
        """Draw all parts, from back to front."""
        hair = Hair(self.canvas, self.person, self.dark_hair, self.light_hair)
        hair.back()
        self.neck_and_clothes()
        if not hair.covers_ears:
            self.ears()
        self.head()
        self.beard()
        self.nose()
        self.mouth()
        for side in (-1, 1):
            self.eye(side)
        hair.front()
        for side in (-1, 1):
            self.brow(side)
        self.glasses()

    # ------------------------------------------------------------------------------------- head and body

    def head_outline(self, grow: float = 0.0) -> np.ndarray:
        """Return the outline of the head, with the jaw as far down as the expression takes it."""
        person = self.person
        turn = np.linspace(0, np.pi, 33)
        c, s = np.cos(turn), np.sin(turn)
        skull = column((person.width + grow) * c, SKULL_Y - (person.forehead + grow) * s)
        c, s = np.cos(turn[::-1]), np.sin(turn)
        power = 2 / person.jaw
        x = (person.width + grow) * np.sign(c) * np.abs(c) ** power
        x = x * (1 - person.taper * s ** 2.5)
        chin = person.chin + self.shown.jaw_drop + grow
        return np.concatenate([skull, column(x, SKULL_Y + chin * s ** power)])

    def neck_and_clothes(self) -> None:
        """Draw the neck with the shadow of the chin, the shoulders and a collar."""
        canvas, person, clothes = self.canvas, self.person, self.scene.clothes
        dark = mix(clothes, (20, 20, 30), 0.3)
        neck = NECK + 0.35 * (person.width - 0.5) + (0.02 if person.beard != "none" else 0)
        canvas.fill(curve((-neck, 0.3), (-neck, 0.80), (-neck - 0.12, 0.96), (-0.3, 1.5), (0.3, 1.5),
                          (neck + 0.12, 0.96), (neck, 0.80), (neck, 0.3)), mix(person.skin, self.shadow, 0.2),
                    outline=True)
        outline = self.head_outline()
        chin = outline[len(outline) // 2:]
        canvas.fill(column(np.clip(chin[:, 0], -neck, neck), np.minimum(chin[:, 1] + 0.085, 1.0)), self.shadow, 0.75)
        shoulders = curve((-1.6, 1.35), (-1.15, 1.02), (-0.72, 0.92), (-neck - 0.10, 0.87), (-neck - 0.005, 0.82))
        low = {"round": 0.99, "v-neck": 1.12, "shirt": 1.10}[self.scene.collar]
        if self.scene.collar == "round":
            opening = curve((-neck, 0.84), (-neck * 0.65, low - 0.04), (0, low), (neck * 0.65, low - 0.04),
                            (neck, 0.84))
        else:
            opening = np.array([(-neck, 0.82), (0, low), (neck, 0.82)])
        canvas.fill(np.concatenate([shoulders, opening, shoulders[::-1] * (-1, 1)]), clothes, outline=True)
        canvas.stroke(opening, 0.045, dark)
        if self.scene.collar == "shirt":
            for side in (-1, 1):
                flap = np.array([(neck - 0.01, 0.79), (neck + 0.13, 0.88), (neck * 0.75, 1.06), (0.0, low)])
                canvas.fill(flap * (side, 1), mix(clothes, (255, 255, 255), 0.25), outline=True)

    def ears(self) -> None:
        """Draw both ears, half behind the head."""
        person = self.person
        for side in (-1, 1):
            x, ry = side * (person.width + 0.015), 0.115 * person.ear
            self.canvas.fill(ellipse(x, 0.0, 0.062 * person.ear, ry), person.skin, outline=True)
            self.canvas.fill(ellipse(x + side * 0.012, 0.0, 0.03 * person.ear, ry * 0.62), self.shadow, 0.55)
            if person.earrings:
                self.canvas.fill(ellipse(x + side * 0.012, ry + 0.015, 0.022, 0.022), (240, 214, 130))

    def head(self) -> None:
        """Draw skin, blush, soft shadows, freckles and the lines that an expression makes."""
        canvas, person, shown = self.canvas, self.person, self.shown
        canvas.fill(self.head_outline(), person.skin, outline=True)
        cheek_y = 0.20 - 0.03 * shown.cheeks
        blush = mix(person.skin, (214, 70, 70), 0.5)
        canvas.shade([(ellipse(side * 0.30, cheek_y, 0.13, 0.09), 0.35 + 0.35 * shown.cheeks) for side in (-1, 1)],
                     blush, 0.06)
        canvas.shade([(ellipse(side * person.eye_gap, EYE_Y - 0.01, 0.15, 0.11), 0.38) for side in (-1, 1)]
                     + [(ellipse(person.side * 0.065, 0.06, 0.03, 0.15), 0.22),
                        (ellipse(0, person.nose_y + 0.045, person.nose_width, 0.025), 0.5),
                        (ellipse(0, self.lower_outer[12, 1] + 0.035, 0.10, 0.022), 0.5)], self.shadow, 0.03)
        canvas.shade([(ellipse(-person.side * 0.06, -0.36, 0.20, 0.08), 0.25),
                      (ellipse(-person.side * 0.008, 0.05, 0.018, 0.12), 0.5),
                      (ellipse(0, self.lower_outer[12, 1] + 0.11, 0.05, 0.03), 0.3)],
                     mix(person.skin, (255, 250, 240), 0.6), 0.03)
        if person.freckles:
            rng = np.random.default_rng(derived_seed(person.seed, "freckles"))
            for x, y in rng.uniform((-0.34, 0.06), (0.34, 0.22), (26, 2)):
                canvas.fill(ellipse(x, y, 0.008, 0.008), self.shadow, 0.6)
        self.lines()

    def lines(self) -> None:
        """Draw folds from nose to mouth, crow's feet, wrinkles of the nose and between the brows, forehead lines."""
        person, shown = self.person, self.shown
        fold = max(shown.folds, 0.45 * (person.age - 0.3))
        raised = min(0.4, max(4 * shown.brow_raise, 0.5 * (person.age - 0.55)))
        nose, outside = person.nose_width, person.eye_gap + person.eye_width + 0.025
        x, y = max(self.mouth_x[-1] + 0.05, nose + 0.1), self.mouth_line[-1, 1]
        for side in (-1, 1):
            self.wrinkle(curve((nose + 0.03, person.nose_y - 0.05),
                               ((nose + x) / 2 + 0.06, (person.nose_y + y) / 2 - 0.05), (x, y - 0.01)) * (side, 1),
                         0.020, 0.65 * fold)
            for slope in (-0.05, 0.0, 0.05):
                ray = curve((outside, EYE_Y + 0.01 + 0.5 * slope), (outside + 0.06, EYE_Y + 0.01 + 1.5 * slope))
                self.wrinkle(ray * (side, 1), 0.014, 0.7 * shown.crow_feet)
            self.wrinkle(curve((0.035, EYE_Y - 0.20), (0.030, EYE_Y - 0.11)) * (side, 1),
                         0.016, min(1.0, 10 * shown.brow_furrow))
        for y in (-0.10, -0.045, 0.01):
            self.wrinkle(curve((-0.07, y - 0.025), (0, y + 0.012), (0.07, y - 0.025)), 0.018, 0.75 * shown.wrinkles)
        for y in (-0.43, -0.38):
            self.wrinkle(curve((-0.2, y + 0.012), (0, y - 0.008), (0.2, y + 0.012)), 0.012, raised)

    def wrinkle(self, line: np.ndarray, width: float, depth: float) -> None:
        """Draw a line in the skin, unless it is too faint to see."""
        if depth > 0.04:
            self.canvas.stroke(line, tapered(line, width), self.line, depth)

    # ------------------------------------------------------------------------------------------- the eyes

    def eye(self, side: int) -> None:
        """Draw one eye: white, iris, pupil, highlight and lids, and a line where the lids meet."""
        canvas, person, shown = self.canvas, self.person, self.shown
        x = person.eye_gap + ALONG * person.eye_width
        tilt = EYE_Y - person.eye_slant * ALONG * person.eye_width
        top = tilt - person.eye_height * shown.eye_open * DOME ** 0.7
        bottom = np.maximum(tilt + 0.055 * DOME ** 0.8 * (1 - 1.35 * shown.lower_lid), top)
        gap = float((bottom - top)[12])
        if gap > 0.02:
            self.eyeball(side, x * side, top, bottom)
        lash = mix(BLACK, person.brow, 0.25)
        upper, lower = column(x * side, top), column(x * side, bottom)
        thickness = 0.024 + 0.010 * person.lashes + (0.012 if gap <= 0.06 else 0)
        canvas.stroke(upper, tapered(upper, thickness, 0.4, 0.8), lash)
        if person.lashes > 0.4:
            tip = curve((x[-4], top[-4]), (x[-1], top[-1]), (x[-1] + 0.035, top[-1] - 0.030)) * (side, 1)
            canvas.stroke(tip, tapered(tip, 0.024, 0.6), lash)
        canvas.stroke(lower, tapered(lower, 0.012, 0.2, 0.8), self.line, 0.85)
        crease = (upper - column(0 * x, 0.032 + 0.010 * DOME))[4:-1]
        canvas.stroke(crease, tapered(crease, 0.011), self.line, 0.55)
        if shown.lower_lid > 0.3:
            bag = (lower + column(0 * x, 0.032 + 0.012 * DOME))[3:-3]
            canvas.stroke(bag, tapered(bag, 0.012), self.line, 0.6 * shown.lower_lid)

    def eyeball(self, side: int, x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> None:
        """Draw what is seen of an eyeball between the lids ``top`` and ``bottom`` over ``x``."""
        canvas, iris = self.canvas, self.person.iris
        canvas.fill(np.concatenate([column(x, top), column(x, bottom)[::-1]]), (250, 248, 246))
        order = slice(None, None, side)
        center, middle = side * self.person.eye_gap, EYE_Y - 0.008
        for radius, color in ((0.062, mix(iris, BLACK, 0.45)), (0.052, iris), (0.030, BLACK)):
            disc = ellipse(center, middle, radius, radius)
            canvas.fill(clamped(disc, x[order], top[order], bottom[order]), color)
        glint = ellipse(center - 0.022, middle - 0.026, 0.017, 0.017)
        canvas.fill(clamped(glint, x[order], top[order], bottom[order]), (255, 255, 255))
        shade = np.concatenate([column(x, top), column(x, np.minimum(top + 0.022, bottom))[::-1]])
        canvas.fill(shade, (90, 70, 80), 0.35)

    def brow(self, side: int) -> None:
        """Draw one brow."""
        person, shown = self.person, self.shown
        y = EYE_Y - person.brow_height - shown.brow_raise
        inner, outer = person.eye_gap - 0.125 - 0.15 * shown.brow_furrow, person.eye_gap + 0.155
        arch = person.brow_arch + 0.25 * max(0.0, shown.brow_raise)
        line = curve((inner, y + shown.brow_furrow - shown.brow_worry),
                     ((inner + outer) / 2 - 0.02,
                      y - arch * 0.85 + 0.25 * shown.brow_furrow - 0.3 * shown.brow_worry),
                     ((inner + 2 * outer) / 3 + 0.01, y - arch), (outer, y + 0.030)) * (side, 1)
        self.canvas.stroke(line, tapered(line, person.brow_thickness * 1.9, 0.75, 0.15), person.brow, 0.95)

    def glasses(self) -> None:
        """Draw a frame around the eyes, with a bridge and temples to the ears."""
        person, canvas = self.person, self.canvas
        if person.glasses == "none":
            return
        rx, ry = {"round": (0.165, 0.155), "square": (0.18, 0.130), "wide": (0.19, 0.115)}[person.glasses]
        x, y = max(person.eye_gap, rx + 0.035), EYE_Y + 0.012
        turn = np.linspace(0, 2 * np.pi, 49)
        power = 1.0 if person.glasses == "round" else 0.5
        rim = column(rx * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power,
                     ry * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power)
        for side in (-1, 1):
            canvas.fill(rim + (side * x, y), (225, 236, 244), 0.07)
            canvas.stroke(rim + (side * x, y), 0.026, person.frame)
            temple = np.array([(x + rx, y - 0.03), (person.width * 0.985, y - 0.045)]) * (side, 1)
            canvas.stroke(temple, 0.028, person.frame)
        canvas.stroke(curve((rx - x, y - 0.02), (0, y - 0.045), (x - rx, y - 0.02)), 0.026, person.frame)

    # -------------------------------------------------------------------------------------- nose and mouth

    def nose(self) -> None:
        """Draw wings, nostrils and the shadow of one side; wrinkling pulls the nose up and broadens it."""
        canvas, person, shown = self.canvas, self.person, self.shown
        y = person.nose_y - 0.03 * shown.wrinkles
        w = person.nose_width * (1 + 0.15 * max(shown.wrinkles, shown.cheeks))
        for side in (-1, 1):
            wing = curve((w * 0.72, y - 0.065), (w, y - 0.015), (w * 0.80, y + 0.022)) * (side, 1)
            canvas.stroke(wing, tapered(wing, 0.017), self.line, 0.8)
            canvas.fill(ellipse(side * w * 0.45, y + 0.014, w * 0.24, 0.013), mix(self.line, BLACK, 0.35), 0.85)
        base = curve((-w * 0.62, y + 0.020), (0, y + 0.040), (w * 0.62, y + 0.020))
        canvas.stroke(base, tapered(base, 0.012), self.line, 0.7)
        bridge = curve((person.side * 0.045, EYE_Y - 0.05), (person.side * 0.040, 0.02),
                       (person.side * 0.05, y - 0.07))
        canvas.stroke(bridge, tapered(bridge, 0.016), self.shadow, 0.55)

    @cached_property
    def mouth_x(self) -> np.ndarray:
        """The x coordinates of the mouth's curves, from corner to corner."""
        return ALONG * self.person.mouth_width * self.shown.mouth_width

    @cached_property
    def mouth_line(self) -> np.ndarray:
        """The line on which the closed mouth's lips would meet."""
        y = self.person.mouth_y + self.shown.mouth_shift - self.shown.corner * ALONG ** 2
        return column(self.mouth_x, y)

    @cached_property
    def _curl(self) -> np.ndarray:
        """The height by which one half of the upper lip is pulled up."""
        return self.shown.sneer * np.exp(-np.square((ALONG - 0.40 * self.person.side) / 0.46)) * DOME ** 0.5

    @cached_property
    def upper_inner(self) -> np.ndarray:
        """The lower edge of the upper lip."""
        return self.mouth_line - column(0 * ALONG, self.shown.open_up * DOME ** self.shown.roundness + self._curl)

    @cached_property
    def lower_inner(self) -> np.ndarray:
        """The upper edge of the lower lip."""
        low = self.mouth_line[:, 1] + self.shown.open_down * DOME ** self.shown.roundness - 0.35 * self._curl
        return column(self.mouth_x, np.maximum(low, self.upper_inner[:, 1]))

    @cached_property
    def upper_outer(self) -> np.ndarray:
        """The upper edge of the upper lip, with its bow."""
        bow = 1 - 0.30 * np.exp(-np.square(ALONG / 0.16))
        return self.upper_inner - column(0 * ALONG, self.person.upper_lip * self.shown.lips * bow * DOME ** 0.6)

    @cached_property
    def lower_outer(self) -> np.ndarray:
        """The lower edge of the lower lip."""
        return self.lower_inner + column(0 * ALONG, self.person.lower_lip * self.shown.lips * DOME ** 0.65)

    def mouth(self) -> None:
        """Draw inside, tongue, teeth, then lips and the line between them."""
        canvas, person, shown = self.canvas, self.person, self.shown
        dark = mix(person.lip, (60, 14, 22), 0.75)
        lips = np.concatenate([self.upper_outer, self.lower_outer[::-1]])
        canvas.stroke(np.concatenate([lips, lips[:1]]), 0.012, self.line, 0.6)
        canvas.fill(lips, person.lip)
        upper, lower = self.upper_inner, self.lower_inner
        inside = np.concatenate([upper, lower[::-1]])
        canvas.fill(inside, (74, 16, 24))
        top, bottom = upper[:, 1], lower[:, 1]
        depth = float((bottom - top)[12])
        if shown.tongue and depth > 0.08:
            tongue = ellipse(0, bottom[12], self.mouth_x[-1] * 0.72, depth * 0.42)
            canvas.fill(clamped(tongue, self.mouth_x, top, bottom), (204, 84, 92))
        if shown.teeth:
            edge = np.minimum(top + shown.teeth * (0.75 + 0.25 * DOME), bottom)
            shape = np.concatenate([upper, column(self.mouth_x, edge)[::-1]])
            canvas.fill(shape, TEETH)
        canvas.stroke(upper, tapered(upper, 0.022 if depth < 0.03 else 0.012, 0.6, 0.6), dark)
        gloss = between(self.lower_inner, self.lower_outer, 0.5)[8:17]
        canvas.stroke(gloss, tapered(gloss, 0.018 * shown.lips), mix(person.lip, (255, 240, 235), 0.6), 0.6)
        for side in (0, -1):
            canvas.fill(ellipse(*self.mouth_line[side], 0.013, 0.013), dark, 0.8)

    def beard(self) -> None:
        """Draw beard and mustache, around the mouth in its present shape."""
        canvas, style = self.canvas, self.person.beard
        color = mix(self.person.brow, self.person.hair, 0.5)
        if style == "stubble":
            canvas.shade([(self.full_beard(-0.05), 0.28)], color, 0.035)
        elif style == "full":
            canvas.fill(self.full_beard(0.018), color, outline=True)
        elif style == "goatee":
            canvas.fill(self.goatee(), color, outline=True)
        elif style == "mustache":
            y, corner = self.mouth_line[0, 1] + 0.02, self.mouth_x[-1] + 0.05
            line = curve((-corner, y), (-corner * 0.5, self.lip_middle + 0.015), (0, self.lip_middle),
                         (corner * 0.5, self.lip_middle + 0.015), (corner, y))
            canvas.stroke(line, tapered(line, 0.085, 0.2, 0.2), color)

    @cached_property
    def lip_middle(self) -> float:
        """The height between the nose and the upper lip, where a mustache grows."""
        return float(self.person.nose_y + 0.05 + self.upper_outer[12, 1]) / 2

    def full_beard(self, grow: float) -> np.ndarray:
        """Return the outline of a full beard: along the jaw from ear to ear, and back under the nose."""
        jaw = self.head_outline(grow)[33:]
        jaw = jaw[jaw[:, 1] > 0.02]
        jaw[:, 0] *= 1 - 0.045 * np.clip(1 - (jaw[:, 1] - 0.02) / 0.25, 0, 1)
        width, corner, top = self.person.width, self.mouth_x[-1] + 0.07, self.lip_middle
        half = curve((width * 0.93, 0.04), (width * 0.84, 0.22), (corner, top + 0.03), (0.07, top - 0.015),
                     (-0.02, top - 0.015))[:-6]
        return np.concatenate([jaw, half, half[::-1] * (-1, 1)])

    def goatee(self) -> np.ndarray:
        """Return the outline of a goatee: from under the nose around the mouth to the chin."""
        chin = float(self.head_outline()[:, 1].max())
        mouth, low, top = self.mouth_line[0, 1], float(self.lower_outer[12, 1]), self.lip_middle
        corner = self.mouth_x[-1] + 0.05
        wide = min(max(corner, 0.16), 0.23)
        half = curve((0, top + 0.012), (0.07, top - 0.012), (max(corner, 0.15), mouth - 0.01),
                     (wide, (low + mouth) / 2 + 0.03), (wide * 0.85, (low + chin) / 2 + 0.01),
                     (wide * 0.5, chin - 0.015), (0, chin + 0.012))
        return np.concatenate([half, half[::-1] * (-1, 1)])


class Hair:
    """The hair of one person on one canvas; ``back`` is to be drawn before the head, ``front`` after it."""

    FALLS = {"long": 1.4, "wavy": 1.4, "fringe": 1.4, "bob": 0.52, "curly": 0.75}

    def __init__(self, canvas: Canvas, person: Person, dark: Color, light: Color) -> None:
        self.canvas, self.person, self.dark, self.light = canvas, person, dark, light
        self.style = person.hair_style
        self.covers_ears = self.style in self.FALLS

    def back(self) -> None:
        """Draw what lies behind head and neck."""
        person, canvas, style = self.person, self.canvas, self.style
        wide = person.width + person.volume
        if style in ("long", "wavy", "fringe", "bob"):
            fall = self.FALLS[style]
            y = np.linspace(SKULL_Y, fall, 40)
            wave = 0.035 * np.sin((y - SKULL_Y) * 13) if style == "wavy" else 0.0 * y
            tuck = 0.22 * np.clip((y - fall + 0.25) / 0.25, 0, 1) ** 2 if style == "bob" else -0.05 * np.clip(y, 0, 1)
            right = column(wide + wave - tuck, y)
            canvas.fill(np.concatenate([right, right[::-1] * (-1, 1)]), self.dark, outline=True)
        if style == "curly":
            turn = np.linspace(0, 2 * np.pi, 145)
            bump = 1 + 0.045 * np.abs(np.sin(turn * 9))
            canvas.fill(column((wide + 0.13) * np.cos(turn) * bump, 0.02 + 0.86 * np.sin(turn) * bump), self.dark,
                        outline=True)
        if style == "bun":
            top = SKULL_Y - person.forehead - 0.06
            canvas.fill(ellipse(0, top, 0.22, 0.14), person.hair, outline=True)
            canvas.stroke(curve((-0.12, top + 0.03), (0, top - 0.07), (0.13, top + 0.02)), 0.015, self.light, 0.6)
        if style == "ponytail":
            side, w = person.side, person.width
            tail = curve((w - 0.1, -0.45), (w + 0.16, -0.40), (w + 0.26, 0.05), (w + 0.16, 0.55), (w + 0.20, 0.85),
                         (w - 0.02, 0.60), (w + 0.02, 0.1), closed=True)
            canvas.fill(tail * (side, 1), self.dark, outline=True)

    def outer(self) -> np.ndarray:
        """Return the outer edge of the hair on the head, from the left ear over the top to the right ear (61, 2)."""
        person, style = self.person, self.style
        turn = np.linspace(np.pi + 0.10, -0.10, STEPS)
        c, s = np.cos(turn), np.sin(turn)
        volume = {"buzz": 0.015, "receding": 0.03, "bun": 0.035, "ponytail": 0.04, "crop": 0.06}.get(
            style, person.volume)
        top = np.full_like(turn, volume)
        if style == "quiff":
            top = volume + 0.06 * np.clip(s, 0, 1) ** 0.6 * (1 + 0.6 * c * person.side)
        if style == "spiky":
            top = volume * 0.6 + 0.10 * np.clip(s, 0, 1) ** 0.7 * (np.abs((turn * 3.2) % 1 - 0.5) * 2)
        if style in ("curly", "curly short"):
            top = volume + 0.04 * np.abs(np.sin(turn * 7))
        wide = person.width + np.minimum(top, volume + 0.02) * (0.55 if not self.covers_ears else 1.0)
        return column(wide * c, SKULL_Y - (person.forehead + top) * s)

    def hairline(self) -> np.ndarray:
        """Return the inner edge of the hair on the head, point by point opposite ``outer`` (61, 2)."""
        a, style, side = self.person.width, self.style, self.person.side
        shapes = {  # from the left ear to the middle, or to the right ear
            "round": ((-0.975, 0.02), (-0.92, -0.20), (-0.76, -0.40), (-0.40, -0.51), (0, -0.53)),
            "fringe": ((-0.95, 0.05), (-0.90, -0.16), (-0.80, -0.30), (-0.45, -0.35), (0, -0.37)),
            "part": ((-0.975, 0.02), (-0.92, -0.20), (-0.78, -0.36), (-0.35, -0.42), (0.10, -0.50), (0.40, -0.57),
                     (0.74, -0.42), (0.92, -0.20), (0.975, 0.02)),
            "middle": ((-0.95, 0.05), (-0.92, -0.12), (-0.82, -0.32), (-0.45, -0.48), (0, -0.60)),
            "high": ((-0.975, 0.02), (-0.93, -0.20), (-0.78, -0.42), (-0.50, -0.57), (0, -0.54)),
        }
        shape = {"fringe": "fringe", "bob": "part", "long": "middle", "wavy": "part", "side part": "part",
                 "quiff": "part", "receding": "high"}.get(style, "round")
        points = np.array(shapes[shape])
        if shape != "part":
            points = np.concatenate([points, points[-2::-1] * (-1, 1)])
        points[:, 0] *= a
        if self.covers_ears:
            points[[0, -1], 0] = -LOCK * a, LOCK * a
        points[:, 0] *= side
        line = curve(*points[::side])
        t, at = np.linspace(0, 1, len(line)), np.linspace(0, 1, STEPS)
        return column(np.interp(at, t, line[:, 0]), np.interp(at, t, line[:, 1]))

    def front(self) -> None:
        """Draw what lies on the head: cap, strands, and locks beside the face."""
        person, canvas, style = self.person, self.canvas, self.style
        if style == "bald":
            return
        color = mix(person.hair, person.skin, 0.35) if style == "buzz" else person.hair
        outer, inner = self.outer(), self.hairline()
        if self.covers_ears:
            self.locks(color)
        canvas.fill(np.concatenate([outer, inner[::-1]]), color, outline=True)
        canvas.stroke(inner[3:-3], tapered(inner[3:-3], 0.022, 0.3, 0.3), self.dark, 0.5)
        if style in ("bun", "ponytail"):
            for root in range(6, 55, 6):
                crown = outer[30 + (root - 30) * 3 // 4]
                strand = between(inner[root:root + 1], crown[None], np.linspace(0.04, 0.94, 7))
                canvas.stroke(strand, tapered(strand, 0.013), self.dark, 0.5)
        elif style != "buzz":
            for weight in (0.35, 0.62):
                strand = between(inner, outer, weight + 0.10 * np.sin(np.linspace(0, 9, STEPS)))[10:51]
                canvas.stroke(strand, tapered(strand, 0.012), self.dark, 0.45)
            shine = between(inner, outer, 0.75)[16:46] if person.side > 0 else between(inner, outer, 0.75)[14:40]
            canvas.stroke(shine, tapered(shine, 0.040), self.light, 0.75)

    def locks(self, color: Color) -> None:
        """Draw the hair that falls in front of the ears, on both sides."""
        person = self.person
        fall = min(self.FALLS[self.style], 1.2) - 0.04
        y = np.linspace(SKULL_Y, fall, 40)
        wave = 0.03 * np.sin((y - SKULL_Y) * 13) if self.style in ("wavy", "curly") else 0.0 * y
        outer = person.width + person.volume + (0.08 if self.style == "curly" else 0.0) + wave
        tuck = 0.18 * np.clip((y - fall + 0.2) / 0.2, 0, 1) ** 2 if self.style == "bob" else 0.0 * y
        inner = person.width * (LOCK - 0.04 * np.clip(y, 0, 1)) + 0.7 * wave + 0.12 * np.clip(y - 0.55, 0, 1)
        for side in (-1, 1):
            shape = np.concatenate([column(outer - tuck, y), column(np.minimum(inner, outer - tuck), y)[::-1]])
            self.canvas.fill(shape * (side, 1), color, outline=True)
            strand = column(inner * 0.5 + (outer - tuck) * 0.5, y) * (side, 1)
            self.canvas.stroke(strand, tapered(strand, 0.014), self.dark, 0.5)
