"""Draws one face: ``draw(person, scene, expression, size)``, from back to front, with Pillow."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from datasets.drawing.canvas import SKULL_Y, Canvas, between, clamped, column, curve, ellipse
from datasets.drawing.faces import SIZES, Color, Person, Scene, mix, moment
from utils import derived_seed, refuse

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
    refuse(f"image size {size}", (size not in SIZES, f"faces are drawn from {SIZES[0]} to {SIZES[-1]} pixels"))
    person, scene = Person(person_seed), Scene(scene_seed)
    shown, pose = moment(person, scene, expression)
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
        self._shape_mouth()

    def _shape_mouth(self) -> None:
        """Compute the mouth's curves (25, 2) from corner to corner, which other parts of the face depend on.

        They are the line on which the closed mouth's lips would meet, and the inner and outer edges of both lips. The
        sneer pulls one half of the upper lip up; ``lip_middle`` is the height where a mustache grows.
        """
        person, shown = self.person, self.shown
        opening, flat = DOME ** shown.roundness, 0 * ALONG
        curl = shown.sneer * np.exp(-np.square((ALONG - 0.40 * person.side) / 0.46)) * DOME ** 0.5
        bow = 1 - 0.30 * np.exp(-np.square(ALONG / 0.16))
        self.mouth_x = ALONG * person.mouth_width * shown.mouth_width
        self.mouth_line = column(self.mouth_x, person.mouth_y + shown.mouth_shift - shown.corner * ALONG ** 2)
        self.upper_inner = self.mouth_line - column(flat, shown.open_up * opening + curl)
        low = self.mouth_line[:, 1] + shown.open_down * opening - 0.35 * curl
        self.lower_inner = column(self.mouth_x, np.maximum(low, self.upper_inner[:, 1]))
        self.upper_outer = self.upper_inner - column(flat, person.upper_lip * shown.lips * bow * DOME ** 0.6)
        self.lower_outer = self.lower_inner + column(flat, person.lower_lip * shown.lips * DOME ** 0.65)
        self.lip_middle = float(person.nose_y + 0.05 + self.upper_outer[12, 1]) / 2

    def draw(self) -> None:
        """Draw all parts, from back to front."""
        hair = Hair(self.canvas, self.person, self.dark_hair, self.light_hair)
        hair.back()
        self.neck_and_clothes()
        if not hair.covers_ears:
            self.ears()
        for draw_part in (self.head, self.beard, self.nose, self.mouth, self.eyes, hair.front, self.brows,
                          self.glasses):
            draw_part()

    # ------------------------------------------------------------------------------------- head and body

    def head_outline(self, grow: float = 0.0) -> np.ndarray:
        """Return the outline of the head, with the jaw as far down as the expression takes it."""
        person = self.person
        turn = np.linspace(0, np.pi, 33)
        c, s = np.cos(turn), np.sin(turn)
        skull = column((person.width + grow) * c, SKULL_Y - (person.forehead + grow) * s)
        c, power = np.cos(turn[::-1]), 2 / person.jaw
        x = (person.width + grow) * np.sign(c) * np.abs(c) ** power * (1 - person.taper * s ** 2.5)
        chin = person.chin + self.shown.jaw_drop + grow
        return np.concatenate([skull, column(x, SKULL_Y + chin * s ** power)])

    def neck_and_clothes(self) -> None:
        """Draw the neck with the shadow of the chin, the shoulders and a collar."""
        canvas, person, clothes = self.canvas, self.person, self.scene.clothes
        neck = NECK + 0.35 * (person.width - 0.5) + (0.02 if person.beard != "none" else 0)
        canvas.fill(curve((-neck, 0.3), (-neck, 0.80), (-neck - 0.12, 0.96), (-0.3, 1.5), (0.3, 1.5),
                          (neck + 0.12, 0.96), (neck, 0.80), (neck, 0.3)), mix(person.skin, self.shadow, 0.2),
                    outline=True)
        chin = self.head_outline()[33:]
        canvas.fill(column(np.clip(chin[:, 0], -neck, neck), np.minimum(chin[:, 1] + 0.085, 1.0)), self.shadow, 0.75)
        shoulders = curve((-1.6, 1.35), (-1.15, 1.02), (-0.72, 0.92), (-neck - 0.10, 0.87), (-neck - 0.005, 0.82))
        low = {"round": 0.99, "v-neck": 1.12, "shirt": 1.10}[self.scene.collar]
        opening = np.array([(-neck, 0.82), (0, low), (neck, 0.82)])
        if self.scene.collar == "round":
            opening = curve((-neck, 0.84), (-neck * 0.65, low - 0.04), (0, low), (neck * 0.65, low - 0.04),
                            (neck, 0.84))
        canvas.fill(np.concatenate([shoulders, opening, shoulders[::-1] * (-1, 1)]), clothes, outline=True)
        canvas.stroke(opening, 0.045, mix(clothes, (20, 20, 30), 0.3))
        if self.scene.collar == "shirt":
            flap = np.array([(neck - 0.01, 0.79), (neck + 0.13, 0.88), (neck * 0.75, 1.06), (0.0, low)])
            canvas.fill(flap, mix(clothes, (255, 255, 255), 0.25), outline=True, both=True)

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
        cheek_y, low = 0.20 - 0.03 * shown.cheeks, self.lower_outer[12, 1]
        for shapes, color, blur in (
                ([(ellipse(side * 0.30, cheek_y, 0.13, 0.09), 0.35 + 0.35 * shown.cheeks) for side in (-1, 1)],
                 mix(person.skin, (214, 70, 70), 0.5), 0.06),
                ([(ellipse(side * person.eye_gap, EYE_Y - 0.01, 0.15, 0.11), 0.38) for side in (-1, 1)]
                 + [(ellipse(person.side * 0.065, 0.06, 0.03, 0.15), 0.22),
                    (ellipse(0, person.nose_y + 0.045, person.nose_width, 0.025), 0.5),
                    (ellipse(0, low + 0.035, 0.10, 0.022), 0.5)], self.shadow, 0.03),
                ([(ellipse(-person.side * 0.06, -0.36, 0.20, 0.08), 0.25),
                  (ellipse(-person.side * 0.008, 0.05, 0.018, 0.12), 0.5), (ellipse(0, low + 0.11, 0.05, 0.03), 0.3)],
                 mix(person.skin, (255, 250, 240), 0.6), 0.03)):
            canvas.shade(shapes, color, blur)
        if person.freckles:
            rng = np.random.default_rng(derived_seed(person.seed, "freckles"))
            for x, y in rng.uniform((-0.34, 0.06), (0.34, 0.22), (26, 2)):
                canvas.fill(ellipse(x, y, 0.008, 0.008), self.shadow, 0.6)
        self.lines()

    def lines(self) -> None:
        """Draw folds from nose to mouth, crow's feet, wrinkles of the nose and between the brows, forehead lines.

        Lines that are too faint to see are left out.
        """
        person, shown = self.person, self.shown
        fold = max(shown.folds, 0.45 * (person.age - 0.3))
        raised = min(0.4, max(4 * shown.brow_raise, 0.5 * (person.age - 0.55)))
        nose, outside = person.nose_width, person.eye_gap + person.eye_width + 0.025
        x, y = max(self.mouth_x[-1] + 0.05, nose + 0.1), self.mouth_line[-1, 1]
        folds = (((nose + 0.03, person.nose_y - 0.05),
                  ((nose + x) / 2 + 0.06, (person.nose_y + y) / 2 - 0.05), (x, y - 0.01)), 0.020, 0.65 * fold)
        feet = [(((outside, EYE_Y + 0.01 + 0.5 * slope), (outside + 0.06, EYE_Y + 0.01 + 1.5 * slope)),
                 0.014, 0.7 * shown.crow_feet) for slope in (-0.05, 0.0, 0.05)]
        between_brows = ((0.035, EYE_Y - 0.20), (0.030, EYE_Y - 0.11)), 0.016, min(1.0, 10 * shown.brow_furrow)
        on_nose = [(((-0.07, y - 0.025), (0, y + 0.012), (0.07, y - 0.025)), 0.018, 0.75 * shown.wrinkles)
                   for y in (-0.10, -0.045, 0.01)]
        on_forehead = [(((-0.2, y + 0.012), (0, y - 0.008), (0.2, y + 0.012)), 0.012, raised) for y in (-0.43, -0.38)]
        for lines, both in (([folds, *feet, between_brows], True), (on_nose + on_forehead, False)):
            for points, width, depth in lines:
                if depth > 0.04:
                    self.canvas.stroke(curve(*points), width, self.line, depth, taper=(0, 0), both=both)

    # ------------------------------------------------------------------------------------------- the eyes

    def eyes(self) -> None:
        """Draw both eyes: white, iris, pupil, highlight and lids, and a line where the lids meet."""
        canvas, person, shown = self.canvas, self.person, self.shown
        x = person.eye_gap + ALONG * person.eye_width
        tilt = EYE_Y - person.eye_slant * ALONG * person.eye_width
        top = tilt - person.eye_height * shown.eye_open * DOME ** 0.7
        bottom = np.maximum(tilt + 0.055 * DOME ** 0.8 * (1 - 1.35 * shown.lower_lid), top)
        gap, upper, lower = float((bottom - top)[12]), column(x, top), column(x, bottom)
        if gap > 0.02:
            for side in (-1, 1):
                self.eyeball(side, x * side, top, bottom)
        lash = mix(BLACK, person.brow, 0.25)
        thickness = 0.024 + 0.010 * person.lashes + (0.012 if gap <= 0.06 else 0)
        canvas.stroke(upper, thickness, lash, taper=(0.4, 0.8), both=True)
        if person.lashes > 0.4:
            tip = curve((x[-4], top[-4]), (x[-1], top[-1]), (x[-1] + 0.035, top[-1] - 0.030))
            canvas.stroke(tip, 0.024, lash, taper=(0.6, 0), both=True)
        canvas.stroke(lower, 0.012, self.line, 0.85, taper=(0.2, 0.8), both=True)
        crease = (upper - column(0 * x, 0.032 + 0.010 * DOME))[4:-1]
        canvas.stroke(crease, 0.011, self.line, 0.55, taper=(0, 0), both=True)
        if shown.lower_lid > 0.3:
            bag = (lower + column(0 * x, 0.032 + 0.012 * DOME))[3:-3]
            canvas.stroke(bag, 0.012, self.line, 0.6 * shown.lower_lid, taper=(0, 0), both=True)

    def eyeball(self, side: int, x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> None:
        """Draw what is seen of an eyeball between the lids ``top`` and ``bottom`` over ``x``."""
        canvas, iris = self.canvas, self.person.iris
        canvas.fill(np.concatenate([column(x, top), column(x, bottom)[::-1]]), (250, 248, 246))
        order = slice(None, None, side)
        center, middle = side * self.person.eye_gap, EYE_Y - 0.008
        discs = [(ellipse(center, middle, radius, radius), color)
                 for radius, color in ((0.062, mix(iris, BLACK, 0.45)), (0.052, iris), (0.030, BLACK))]
        for disc, color in (*discs, (ellipse(center - 0.022, middle - 0.026, 0.017, 0.017), (255, 255, 255))):
            canvas.fill(clamped(disc, x[order], top[order], bottom[order]), color)
        shade = np.concatenate([column(x, top), column(x, np.minimum(top + 0.022, bottom))[::-1]])
        canvas.fill(shade, (90, 70, 80), 0.35)

    def brows(self) -> None:
        """Draw both brows."""
        person, shown = self.person, self.shown
        y = EYE_Y - person.brow_height - shown.brow_raise
        inner, outer = person.eye_gap - 0.125 - 0.15 * shown.brow_furrow, person.eye_gap + 0.155
        arch = person.brow_arch + 0.25 * max(0.0, shown.brow_raise)
        line = curve((inner, y + shown.brow_furrow - shown.brow_worry),
                     ((inner + outer) / 2 - 0.02,
                      y - arch * 0.85 + 0.25 * shown.brow_furrow - 0.3 * shown.brow_worry),
                     ((inner + 2 * outer) / 3 + 0.01, y - arch), (outer, y + 0.030))
        self.canvas.stroke(line, person.brow_thickness * 1.9, person.brow, 0.95, taper=(0.75, 0.15), both=True)

    def glasses(self) -> None:
        """Draw a frame around the eyes, with a bridge and temples to the ears."""
        person, canvas = self.person, self.canvas
        if person.glasses == "none":
            return
        rx, ry = {"round": (0.165, 0.155), "square": (0.18, 0.130), "wide": (0.19, 0.115)}[person.glasses]
        x, y = max(person.eye_gap, rx + 0.035), EYE_Y + 0.012
        turn, power = np.linspace(0, 2 * np.pi, 49), 1.0 if person.glasses == "round" else 0.5
        rim = column(rx * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power,
                     ry * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power)
        for side in (-1, 1):
            canvas.fill(rim + (side * x, y), (225, 236, 244), 0.07)
            canvas.stroke(rim + (side * x, y), 0.026, person.frame)
        canvas.stroke(np.array([(x + rx, y - 0.03), (person.width * 0.985, y - 0.045)]), 0.028, person.frame, both=True)
        canvas.stroke(curve((rx - x, y - 0.02), (0, y - 0.045), (x - rx, y - 0.02)), 0.026, person.frame)

    # -------------------------------------------------------------------------------------- nose and mouth

    def nose(self) -> None:
        """Draw wings, nostrils and the shadow of one side; wrinkling pulls the nose up and broadens it."""
        canvas, person, shown = self.canvas, self.person, self.shown
        y = person.nose_y - 0.03 * shown.wrinkles
        w = person.nose_width * (1 + 0.15 * max(shown.wrinkles, shown.cheeks))
        wing = curve((w * 0.72, y - 0.065), (w, y - 0.015), (w * 0.80, y + 0.022))
        canvas.stroke(wing, 0.017, self.line, 0.8, taper=(0, 0), both=True)
        for side in (-1, 1):
            canvas.fill(ellipse(side * w * 0.45, y + 0.014, w * 0.24, 0.013), mix(self.line, BLACK, 0.35), 0.85)
        base = curve((-w * 0.62, y + 0.020), (0, y + 0.040), (w * 0.62, y + 0.020))
        canvas.stroke(base, 0.012, self.line, 0.7, taper=(0, 0))
        bridge = curve((person.side * 0.045, EYE_Y - 0.05), (person.side * 0.040, 0.02),
                       (person.side * 0.05, y - 0.07))
        canvas.stroke(bridge, 0.016, self.shadow, 0.55, taper=(0, 0))

    def mouth(self) -> None:
        """Draw inside, tongue, teeth, then lips and the line between them."""
        canvas, person, shown = self.canvas, self.person, self.shown
        dark = mix(person.lip, (60, 14, 22), 0.75)
        lips = np.concatenate([self.upper_outer, self.lower_outer[::-1]])
        canvas.stroke(np.concatenate([lips, lips[:1]]), 0.012, self.line, 0.6)
        canvas.fill(lips, person.lip)
        upper, lower = self.upper_inner, self.lower_inner
        canvas.fill(np.concatenate([upper, lower[::-1]]), (74, 16, 24))
        top, bottom = upper[:, 1], lower[:, 1]
        depth = float((bottom - top)[12])
        if shown.tongue and depth > 0.08:
            tongue = ellipse(0, bottom[12], self.mouth_x[-1] * 0.72, depth * 0.42)
            canvas.fill(clamped(tongue, self.mouth_x, top, bottom), (204, 84, 92))
        if shown.teeth:
            edge = np.minimum(top + shown.teeth * (0.75 + 0.25 * DOME), bottom)
            canvas.fill(np.concatenate([upper, column(self.mouth_x, edge)[::-1]]), TEETH)
        canvas.stroke(upper, 0.022 if depth < 0.03 else 0.012, dark, taper=(0.6, 0.6))
        gloss = between(self.lower_inner, self.lower_outer, 0.5)[8:17]
        canvas.stroke(gloss, 0.018 * shown.lips, mix(person.lip, (255, 240, 235), 0.6), 0.6, taper=(0, 0))
        for side in (0, -1):
            canvas.fill(ellipse(*self.mouth_line[side], 0.013, 0.013), dark, 0.8)

    def beard(self) -> None:
        """Draw beard and mustache, around the mouth in its present shape."""
        canvas, style = self.canvas, self.person.beard
        color = mix(self.person.brow, self.person.hair, 0.5)
        if style == "stubble":
            canvas.shade([(self.full_beard(-0.05), 0.28)], color, 0.035)
        elif style in ("full", "goatee"):
            canvas.fill(self.full_beard(0.018) if style == "full" else self.goatee(), color, outline=True)
        elif style == "mustache":
            y, corner = self.mouth_line[0, 1] + 0.02, self.mouth_x[-1] + 0.05
            line = curve((-corner, y), (-corner * 0.5, self.lip_middle + 0.015), (0, self.lip_middle),
                         (corner * 0.5, self.lip_middle + 0.015), (corner, y))
            canvas.stroke(line, 0.085, color, taper=(0.2, 0.2))

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
        wide, w = person.width + person.volume, person.width
        if style in ("long", "wavy", "fringe", "bob"):
            fall = self.FALLS[style]
            y = np.linspace(SKULL_Y, fall, 40)
            wave = 0.035 * np.sin((y - SKULL_Y) * 13) if style == "wavy" else 0.0 * y
            tuck = 0.22 * np.clip((y - fall + 0.25) / 0.25, 0, 1) ** 2 if style == "bob" else -0.05 * np.clip(y, 0, 1)
            right = column(wide + wave - tuck, y)
            canvas.fill(np.concatenate([right, right[::-1] * (-1, 1)]), self.dark, outline=True)
        elif style == "curly":
            turn = np.linspace(0, 2 * np.pi, 145)
            bump = 1 + 0.045 * np.abs(np.sin(turn * 9))
            canvas.fill(column((wide + 0.13) * np.cos(turn) * bump, 0.02 + 0.86 * np.sin(turn) * bump), self.dark,
                        outline=True)
        elif style == "bun":
            top = SKULL_Y - person.forehead - 0.06
            canvas.fill(ellipse(0, top, 0.22, 0.14), person.hair, outline=True)
            canvas.stroke(curve((-0.12, top + 0.03), (0, top - 0.07), (0.13, top + 0.02)), 0.015, self.light, 0.6)
        elif style == "ponytail":
            tail = curve((w - 0.1, -0.45), (w + 0.16, -0.40), (w + 0.26, 0.05), (w + 0.16, 0.55), (w + 0.20, 0.85),
                         (w - 0.02, 0.60), (w + 0.02, 0.1), closed=True)
            canvas.fill(tail * (person.side, 1), self.dark, outline=True)

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
        elif style == "spiky":
            top = volume * 0.6 + 0.10 * np.clip(s, 0, 1) ** 0.7 * (np.abs((turn * 3.2) % 1 - 0.5) * 2)
        elif style in ("curly", "curly short"):
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
        canvas.stroke(inner[3:-3], 0.022, self.dark, 0.5, taper=(0.3, 0.3))
        if style in ("bun", "ponytail"):
            for root in range(6, 55, 6):
                crown = outer[30 + (root - 30) * 3 // 4]
                strand = between(inner[root:root + 1], crown[None], np.linspace(0.04, 0.94, 7))
                canvas.stroke(strand, 0.013, self.dark, 0.5, taper=(0, 0))
        elif style != "buzz":
            for weight in (0.35, 0.62):
                strand = between(inner, outer, weight + 0.10 * np.sin(np.linspace(0, 9, STEPS)))[10:51]
                canvas.stroke(strand, 0.012, self.dark, 0.45, taper=(0, 0))
            shine = between(inner, outer, 0.75)[16:46] if person.side > 0 else between(inner, outer, 0.75)[14:40]
            canvas.stroke(shine, 0.040, self.light, 0.75, taper=(0, 0))

    def locks(self, color: Color) -> None:
        """Draw the hair that falls in front of the ears, on both sides."""
        person = self.person
        fall = min(self.FALLS[self.style], 1.2) - 0.04
        y = np.linspace(SKULL_Y, fall, 40)
        wave = 0.03 * np.sin((y - SKULL_Y) * 13) if self.style in ("wavy", "curly") else 0.0 * y
        outer = person.width + person.volume + (0.08 if self.style == "curly" else 0.0) + wave
        outer = outer - (0.18 * np.clip((y - fall + 0.2) / 0.2, 0, 1) ** 2 if self.style == "bob" else 0.0 * y)
        inner = person.width * (LOCK - 0.04 * np.clip(y, 0, 1)) + 0.7 * wave + 0.12 * np.clip(y - 0.55, 0, 1)
        shape = np.concatenate([column(outer, y), column(np.minimum(inner, outer), y)[::-1]])
        self.canvas.fill(shape, color, outline=True, both=True)
        self.canvas.stroke(column(inner * 0.5 + outer * 0.5, y), 0.014, self.dark, 0.5, taper=(0, 0), both=True)
