#!/usr/bin/env python3
"""Draws the pictures of the documents: `docs/pictures/draw.py` writes them beside itself.

Python's standard library only. The text of each picture is here; nothing in an SVG is edited by hand.
"""

import pathlib
from xml.sax.saxutils import escape

INK, SOFT, LINE = "#1b2420", "#5c6a64", "#9aa8a1"
FILL = {
    "plain": "#ffffff",
    "state": "#e8f1ff",
    "entry": "#e5f4ec",
    "proof": "#fff3d6",
    "none": "#f3f5f4",
    "stop": "#fde6e3",
}
FONT = "font-family='system-ui, sans-serif'"


class Picture:
    """Boxes, arrows and text on a grid of pixels."""

    def __init__(self, name, width, height):
        self.name, self.width, self.height = name, width, height
        self.parts = []

    def box(self, x, y, width, height, lines, fill="plain", bold=True, dashed=False):
        dash = " stroke-dasharray='4 3'" if dashed else ""
        self.parts.append(
            f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='4' fill='{FILL[fill]}' "
            f"stroke='{LINE}'{dash}/>"
        )
        lines = [lines] if isinstance(lines, str) else lines
        top = y + height / 2 - (len(lines) - 1) * 8.5 + 4.5
        for number, line in enumerate(lines):
            # About seven pixels per character of size 13; longer lines get smaller.
            size = min(13 if number == 0 else 12, 13 * (width - 8) / (6.9 * len(line)))
            first = number == 0
            self.text(x + width / 2, top + 17 * number, line, bold=bold and first, soft=not first, size=size)

    def text(self, x, y, line, anchor="middle", bold=False, soft=False, size=13):
        weight = " font-weight='600'" if bold else ""
        color = SOFT if soft else INK
        self.parts.append(
            f"<text x='{x:g}' y='{y:g}' text-anchor='{anchor}' font-size='{size:.3g}' fill='{color}'{weight} "
            f"{FONT}>{escape(line)}</text>"
        )

    def arrow(self, *points, label=None, dashed=False):
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = " stroke-dasharray='4 3'" if dashed else ""
        self.parts.append(
            f"<polyline points='{path}' fill='none' stroke='{SOFT}' stroke-width='1.3'{dash} "
            "marker-end='url(#head)'/>"
        )
        if label:
            (x1, y1), (x2, y2) = points[-2], points[-1]
            self.text((x1 + x2) / 2 + 6, (y1 + y2) / 2 - 5, label, anchor="start", soft=True, size=12)

    def save(self):
        head = (
            "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' "
            f"orient='auto-start-reverse'><path d='M0 0L8 4L0 8z' fill='{SOFT}'/></marker></defs>"
        )
        body = "\n".join(self.parts)
        path = pathlib.Path(__file__).parent / f"{self.name}.svg"
        path.write_text(
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {self.width} {self.height}' "
            f"width='{self.width}' height='{self.height}'>\n<rect width='100%' height='100%' fill='white'/>\n"
            f"{head}\n{body}\n</svg>\n",
            encoding="utf-8",
        )


def segment():
    """The files of a log, and what is in a segment."""
    it = Picture("segment", 900, 400)
    it.text(20, 28, "A directory of one log", anchor="start", bold=True, size=15)
    it.box(20, 44, 150, 56, ["metadata", "slot A | slot B"], "state")
    for number, (name, note) in enumerate(
        [("segment 7", "sealed"), ("segment 8", "sealed"), ("segment 9", "the tail")]
    ):
        it.box(200 + 150 * number, 44, 130, 56, [name, note], "entry")
    it.box(650, 44, 100, 56, [".spare", "made ready"], "none", dashed=True)
    it.box(770, 44, 110, 56, [".side", "a large value"], "state")
    it.arrow((265, 100), (265, 150), (40, 150), (40, 178))
    it.text(280, 142, "a sealed segment", anchor="start", soft=True, size=12)
    columns = [
        (110, ["header", "4096 bytes"], "proof"),
        (95, ["Entry", "index 40"], "entry"),
        (95, ["Set", "promise"], "state"),
        (95, ["Entry", "index 41"], "entry"),
        (95, ["Truncate", "to 41"], "state"),
        (95, ["Entry", "index 41"], "entry"),
        (90, ["never used", "zeros"], "none"),
        (95, ["offset table", "4 B per entry"], "proof"),
        (90, ["footer", "64 bytes"], "proof"),
    ]
    x = 20
    for width, lines, fill in columns:
        it.box(x, 180, width, 58, lines, fill)
        x += width
    it.arrow((565, 100), (565, 132), (890, 132), (890, 266), (835, 266), (835, 290))
    it.text(575, 126, "the tail", anchor="start", soft=True, size=12)
    x = 20
    for width, lines, fill in [
        (110, ["header", "4096 bytes"], "proof"),
        (240, ["frames of durable batches", "before tail_offset of the checkpoint"], "entry"),
        (190, ["frames since", "read again by an open"], "entry"),
        (130, ["witness", "in the next block"], "proof"),
        (100, ["made ready", "zeros"], "none"),
        (90, ["no space yet", "reads as zeros"], "none"),
    ]:
        it.box(x, 292, width, 58, lines, fill)
        x += width
    it.text(
        20,
        382,
        "green: entries   blue: state   yellow: what proves or repeats   every frame: 32 bytes of header, payload, "
        "zeros up to a multiple of 8",
        anchor="start",
        soft=True,
        size=12,
    )
    it.save()


def batch():
    """From a call to a medium."""
    it = Picture("batch", 900, 330)
    steps = [
        ("commit(batch)", "the host's thread", "plain"),
        ("plan", "every refusal happens here", "plain"),
        ("frames", "encoded into memory", "entry"),
        ("publish", "readers see the batch", "state"),
    ]
    for number, (name, note, fill) in enumerate(steps):
        it.box(20 + 220 * number, 40, 180, 56, [name, note], fill)
        if number:
            it.arrow((20 + 220 * number - 40, 68), (20 + 220 * number, 68))
    it.text(460, 24, "under the writer's lock", soft=True, size=12)
    it.arrow((770, 96), (770, 150))
    more = [
        ("turn to sync", "one leader for all who wait", "plain"),
        ("write", "frames and witness, one call", "entry"),
        ("sync", "the commit point", "proof"),
        ("watermark", "waiters and callbacks", "state"),
    ]
    for number, (name, note, fill) in enumerate(more):
        x = 680 - 220 * number
        it.box(x, 152, 180, 56, [name, note], fill)
        if number:
            it.arrow((x + 220, 180), (x + 180, 180))
    it.text(20, 240, "A crash before the sync returns: the batch is whole or absent, and nobody was told of it.", anchor="start")
    it.text(20, 262, "A crash after it: every frame is on the medium, and an open finds the batch whole.", anchor="start")
    it.text(
        20,
        284,
        "A batch that begins a segment also waits for the directory and for a checkpoint that names the segment.",
        anchor="start",
    )
    it.text(
        20,
        306,
        "The next sync, or the checkpoint of an idle log, states what this one made durable: that proves it later.",
        anchor="start",
    )
    it.save()


def recovery():
    """What an open does, and where it refuses."""
    it = Picture("recovery", 900, 560)
    flow = [
        ("lock, list the directory", "a second process is refused", "plain"),
        ("read both slots from the medium", "the newer valid one is the checkpoint", "state"),
        ("the segments that it names", "each there, each what its name says", "entry"),
        ("walk the tail from the checkpoint on", "whole batches, each numbered one up", "entry"),
        ("search everything after the last one", "checked headers, and the witness", "proof"),
        ("open: a new checkpoint", "then remove what nothing refers to", "state"),
    ]
    for number, (name, note, fill) in enumerate(flow):
        y = 20 + 88 * number
        it.box(40, y, 330, 58, [name, note], fill)
        if number:
            it.arrow((205, y - 30), (205, y))
    refusals = [
        (1, "no slot can be read: refused, never taken for a new log"),
        (2, "one is missing or contradicts its name: refused"),
        (3, "a frame where none can be: the metadata file is older than the log"),
        (4, "a header says that the next batch was durable: damage, refused"),
    ]
    for number, text in refusals:
        y = 20 + 88 * number
        it.box(440, y + 9, 430, 40, text, "stop", bold=False)
        it.arrow((370, y + 29), (440, y + 29))
    note = "headers of later batches that do not say so: a torn end, dropped and reported"
    it.text(390, 494, note, anchor="start", soft=True, size=12)
    it.text(40, 545, "A refusal changes nothing: the files stay as they were found.", anchor="start", bold=True)
    it.save()


def parts():
    """The parts of the engine, low to high."""
    it = Picture("parts", 900, 430)
    rows = [
        ("hosts", ["OmniPaxos storage", "stores of Raft hosts", "groups", "command line"], "plain"),
        ("log", ["writer: plan, frames, publish", "syncer: turn, sync, checkpoint", "reader: view, read, iter"], "entry"),
        ("recovery", ["observe", "replay", "table", "inspect, repair"], "proof"),
        ("segment", ["tail, space", "frames walked", "offsets, warm bytes"], "entry"),
        ("directory", ["metadata file", "spares", "side files", "lock, identity"], "state"),
        ("format", ["segment header, frame, footer, slot: bytes and no I/O"], "proof"),
        ("io", ["the operating system", "memory", "simulated disk"], "none"),
    ]
    for number, (name, boxes, fill) in enumerate(rows):
        y = 16 + 58 * number
        it.text(20, y + 27, name, anchor="start", bold=True)
        width = (770 - 10 * (len(boxes) - 1)) / len(boxes)
        for place, text in enumerate(boxes):
            it.box(110 + place * (width + 10), y, width, 44, text, fill, bold=False)
    it.text(20, 424, "A part uses only what stands below it.", anchor="start", soft=True, size=12)
    it.save()


for draw in (segment, batch, recovery, parts):
    draw()
