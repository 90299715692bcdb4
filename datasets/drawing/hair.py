"""Draws the hair of one face, behind and in front of the head."""

import numpy as np

from datasets.drawing.canvas import SKULL_Y, Canvas, between, column, curve, ellipse, tapered
from datasets.drawing.faces import Color, Person, mix

STEPS = 61
LOCK = 0.90


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
