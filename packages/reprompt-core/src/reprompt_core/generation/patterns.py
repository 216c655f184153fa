"""Grooves as data: what drums, chords and bass play in one bar.

A pattern is one character per cell, `division` cells to the beat. Drums and chords: `X` accented, `x` plain, `o`
light, `.` nothing; chords also `a`, the next note of the broken chord. Bass: `r` root, `5` fifth, `8` octave, `3`
third, `n` a step towards the next root. Drums are keyed by General MIDI percussion key.

The beat stays audible in each: swing and syncopation lie around strokes on the beat, never in their place.
"""

from dataclasses import dataclass

__all__ = ["GROOVES", "KITS", "PERCUSSION", "SNARE", "Groove"]

KICK, RIM, SNARE, CLAP, HAT, PEDAL, OPEN, RIDE = 36, 37, 38, 39, 42, 44, 46, 51
COWBELL, CONGA_MUTE, CONGA, CONGA_LOW, SHAKER, CLAVES = 56, 62, 63, 64, 70, 75
SURDO_MUTE, SURDO = 86, 87


@dataclass(frozen=True, slots=True)
class Groove:
    """One bar of a style."""

    drums: dict[int, str]
    chords: str
    bass: str
    beats: int = 4  # in a bar
    division: int = 4  # cells in a beat; 3: triplets


_EIGHTHS = "x.o.x.o.x.o.x.o."
GROOVES = {
    "four_on_floor": Groove(
        {KICK: "X...X...X...X...", CLAP: "....x.......x...", OPEN: "..o...o...o...o.", HAT: "o...o...o...o..."},
        "x...x...x...x.o.",
        "r...r.8.r...r.8.",
    ),
    "backbeat": Groove(
        {KICK: "X.......X.o.....", SNARE: "....X.......X...", HAT: _EIGHTHS},
        "x...o...x...o...",
        "r...r...r...r.5.",
    ),
    "halftime": Groove(
        {KICK: "X...o.....x.....", SNARE: "........X.......", HAT: "x.o.x.o.x.o.x.oo"},
        "x...o...x...o...",
        "r...r...r...r.5.",
    ),
    "swing": Groove(
        {RIDE: "x..x.ox..x.o", PEDAL: "...x.....x..", KICK: "x..o..x..o.."},
        "x..o..x..o..",
        "r..3..5..n..",
        division=3,
    ),
    "shuffle": Groove(
        {KICK: "X.....X.....", SNARE: "...X.....X..", HAT: "x.ox.ox.ox.o"},
        "x..o..x..o..",
        "r..r..5..r..",
        division=3,
    ),
    "boom_bap": Groove(
        {KICK: "X......o..x.....", SNARE: "....X.......X...", HAT: _EIGHTHS},
        "x...o...x...o...",
        "r...r...r...r.5.",
    ),
    "breakbeat": Groove(
        {KICK: "X.o.......x.....", SNARE: "....X..o....X..o", HAT: "x...x...x.o.x..."},
        "x...o...x...o...",
        "r...r...r.r.5...",
    ),
    "waltz": Groove(
        {KICK: "X...........", SNARE: "....o...o...", HAT: "o...x...x..."},
        "....x...x...",
        "r...........",
        beats=3,
    ),
    "bossa": Groove(
        {RIM: "x..x..x...x..x..", KICK: "x..ox..ox..ox..o", HAT: _EIGHTHS},
        "x...x.o.x...x...",
        "r...r.5.r...r.5.",
    ),
    "samba": Groove(
        {
            SURDO_MUTE: "x.......x.......",
            SURDO: "....X.......X...",
            SHAKER: "xo.oxo.oxo.oxo.o",
            RIM: "x.o.x..ox.o.x..o",
        },
        "x...x..ox...x...",
        "r...r..55...5..r",
    ),
    "clave": Groove(
        {
            CLAVES: "x..x..x...x.x...",
            COWBELL: "x...x...x...x...",
            CONGA_MUTE: "....x...........",
            CONGA: "o...........o...",
            CONGA_LOW: "..............xx",
        },
        "x...x..ox...x...",
        "r...r.5.r...8...",
    ),
    "reggae": Groove(
        {KICK: "o.......X.......", RIM: "........X.......", HAT: _EIGHTHS},
        "..x...x...x...x.",
        "r...r...r...8...",
    ),
    "dembow": Groove(
        {KICK: "X...X...X...X...", SNARE: "...x..x....x..x.", HAT: "o...o...o...o..."},
        "x...o...x...o...",
        "r...r...r...r.5.",
    ),
    "afrobeat": Groove(
        {KICK: "X.....o.X.....o.", SNARE: "....x..o....x..o", HAT: "x.o.x.o.x.o.x.oo"},
        "x.o.x...x.o.x...",
        "r...5..rr...8...",
    ),
    "march": Groove(
        {KICK: "X.......X.......", SNARE: "x...X.oox...X.oo", HAT: "....o.......o..."},
        "....x.......x...",
        "r.......5.......",
    ),
    "six_eight": Groove(
        {KICK: "X.....X.....", SNARE: "...x.....x..", HAT: "x.ox.ox.ox.o"},
        "x..x..x..x.o",
        "r..r..5..r..",
        division=3,
    ),
    "train": Groove(
        {KICK: "X.......X.......", SNARE: "o.o.X.o.o.o.X.oo"},
        "....x.......x.o.",
        "r.......5.......",
    ),
    "polka": Groove(
        {KICK: "X.......X.......", SNARE: "....x.......x...", HAT: "....x.......x..."},
        "....x.......x...",
        "r.......5.......",
    ),
    "tango": Groove(
        {KICK: "x...x...x...x.o.", RIM: "............x.x."},
        "X...x...X...x.o.",
        "r...r...5...r.5.",
    ),
    "funk": Groove(
        {KICK: "X..o......x.....", SNARE: "....X..o....X...", HAT: "x.o.x.o.x.o.x.oo"},
        "x...o..ox...o...",
        "r..rr...r...8.5.",
    ),
    "two_step": Groove(
        {KICK: "X.........x.....", SNARE: "....X.......X...", HAT: "x.o.x.o.x.o.x.oo"},
        "x...o...x...o...",
        "r...r...r...8.r.",
    ),
    "blast": Groove(
        {KICK: "X.o.X.o.X.o.X.o.", SNARE: "..o...o...o...o.", RIDE: "x...x...x...x..."},
        "X...x...X...x...",
        "r...r...r...r...",
    ),
    "free": Groove({}, "x.a.x.a.x.a.x.a.", "r...r...5...r..."),
}
"""By the names in `knowledge.concepts.GROOVES`."""

KITS = frozenset(
    "drum kit|brushed drums|electronic drums|drum machine|808 drums|snare drum|kick drum|hi-hat|cymbals".split("|")
)
"""Percussion that plays the groove itself."""

PERCUSSION = {
    "bongos": {60: "x.xox.xo", 61: "......o."},
    "congas": {CONGA_MUTE: "..x...x.", CONGA: "x...x...", CONGA_LOW: ".......x"},
    "djembe": {CONGA_LOW: "X...x...", 61: "..x.o.xo"},
    "tabla": {61: "X...x...", 60: "..xo..xo"},
    "dhol": {45: "X...X...", 50: "..x..xx."},
    "taiko drums": {41: "X...X...", 45: "......xx"},
    "cajón": {KICK: "X...x...", RIM: "..x..ox."},
    "tambourine": {54: "o.x.o.x."},
    "pandeiro": {54: "xoxoxoxo"},
    "shaker": {SHAKER: "xoxoxoxo"},
    "maracas": {SHAKER: "xoxoxoxo"},
    "claves": {CLAVES: "x..xx.x."},
    "castanets": {85: "x.oox.oo"},
    "cowbell": {COWBELL: "x.x.x.x."},
    "triangle": {81: "x.o.x.o."},
    "güiro": {73: ".o.o.o.o", 74: "x...x..."},
    "bodhrán": {41: "X.o.x.o."},
    "darbuka": {CONGA_LOW: "X...x...", 60: "..x.o.xo"},
    "frame drum": {41: "X...x...", 54: "..o...o."},
    "timbales": {65: "x.o.x.o.", 66: "......xx"},
    "surdo": {SURDO_MUTE: "x...x...", SURDO: "..X...X."},
    "agogô": {67: "x...x...", 68: "..xo..xo"},
    "handclaps": {CLAP: "..x...x."},
    "finger snaps": {CLAP: "..o...o."},
    "woodblock": {76: "x...x...", 77: "..o...o."},
    "gong": {52: "x......."},
    "sleigh bells": {83: "xoxoxoxo"},
    "talking drum": {CONGA: "x..ox...", CONGA_LOW: "..x...xo"},
    "turntables": {30: "..o...o."},
}
"""What hand percussion plays in a bar: two cells to the beat, on it and between."""
