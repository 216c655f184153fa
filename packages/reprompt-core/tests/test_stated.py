"""The person's own music words: tempo, key, mode, pace, dynamics, timbre, and what to leave out."""

from collections.abc import Callable

import pytest
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge
from reprompt_core.senses import Reader
from reprompt_core.stated import read_stated
from reprompt_core.types import Stated
from reprompt_core.words import Words

State = Callable[[str], Stated]


@pytest.fixture(scope="module")
def state(knowledge: Knowledge, encoder: Encoder) -> State:
    reader = Reader(knowledge, encoder)

    def read(text: str) -> Stated:
        words = Words.check(text)
        return read_stated(words, reader.read(words).senses, knowledge)

    return read


# -- tempo -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "bpm"),
    [
        ("techno at 128 bpm", 128),
        ("techno, 128BPM", 128),
        ("a 128-bpm techno", 128),
        ("120.5 bpm", 120),
        ("a tempo of 90", 90),
        ("tempo: 140", 140),
        ("bpm = 75", 75),
        ("90 beats per minute", 90),
        ("90 beats a minute", 90),
        ("tempo de 100", 100),
        ("salsa a 96 ppm", 96),
        ("120 golpes por minuto", 120),
        ("80 pulsos", 80),
        ("30 bpm", 30),
        ("260 bpm", 260),
        ("12 bpm", None),
        ("300 bpm", None),
        ("1200 bpm", None),
        ("I am 90 years old, techno", None),
        ("room 128, techno", None),
    ],
)
def test_bpm(state: State, words: str, bpm: int | None) -> None:
    assert state(words).tempo_bpm == bpm


def test_beats_per_minute_are_no_instrument(state: State) -> None:
    assert state("90 beats per minute").instruments == ()


# -- key and mode ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key", "mode"),
    [
        ("house in A minor", "A", "minor"),
        ("slow piano in a minor", "A", "minor"),
        ("in a minor, slow piano", "A", "minor"),
        ("In C Major, techno", "C", "major"),
        ("c major", "C", "major"),
        ("F# minor", "F#", "minor"),
        ("house in f# minor", "F#", "minor"),
        ("C♯ minor", "C#", "minor"),
        ("F sharp minor", "F#", "minor"),
        ("F-sharp minor", "F#", "minor"),
        ("B flat major", "Bb", "major"),
        ("Bb major", "Bb", "major"),
        ("B♭ major", "Bb", "major"),
        ("in the key of F", "F", "major"),
        ("key of B flat", "Bb", "major"),
        ("in the key of G minor", "G", "minor"),
        ("jazz in B flat, 90 bpm", "Bb", "major"),
        ("trumpet in Bb", "Bb", "major"),
        ("techno in F#", "F#", "major"),
        ("jazz in B flat, dorian mode", "Bb", "dorian"),
        ("a ballad in A", "A", "major"),
        ("a waltz in C, 90 bpm", "C", "major"),
        ("jazz en si bemol", "Bb", "major"),
        ("balada en fa# con piano", "F#", "major"),
        ("piano in the A minor key", "A", "minor"),
        ("the A major scale", "A", "major"),
        ("la menor", "A", "minor"),
        ("piano en la menor", "A", "minor"),
        ("en re menor con piano", "D", "minor"),
        ("en do sostenido menor", "C#", "minor"),
        ("si bemol mayor", "Bb", "major"),
        ("Mi bemol mayor", "Eb", "major"),
        ("tonalidad de sol", "G", "major"),
        ("D dorian", "D", "dorian"),
        ("re dórico", "D", "dorian"),
        ("E phrygian", "E", "phrygian"),
        ("C sharp lydian", "C#", "lydian"),
        ("G mixolydian", "G", "mixolydian"),
        ("in a minor key", None, "minor"),
        ("jazz in a major key", None, "major"),
        ("dorian mode", None, "dorian"),
        ("a pentatonic scale", None, "pentatonic"),
        ("escala pentatónica", None, "pentatonic"),
    ],
)
def test_key_and_mode(state: State, words: str, key: str | None, mode: str | None) -> None:
    stated = state(words)
    assert (stated.key, stated.mode) == (key, mode)


@pytest.mark.parametrize(
    "words",
    [
        "a minor change in the plan",
        "I have a minor cold, techno",
        "A major event at work",
        "a major problem with my boss",
        "the key of the house",
        "the key of a house",
        "rain in a flat in Berlin",
        "music for dancing in a city",
        "lluvia en la tarde",
        "un paseo en sol",
        "in A city by night",
        "a key on the table",
        "no tengo la menor duda, piano",
        "la mayor parte de mi vida",
        "mi mayor alegría es el mar",
        "the mayor of the town, be major",
    ],
)
def test_no_key_is_meant(state: State, words: str) -> None:
    stated = state(words)
    assert (stated.key, stated.mode) == (None, None)


@pytest.mark.parametrize(
    ("words", "written"), [("B flat major", "B flat"), ("Bb major", "Bb"), ("si bemol mayor", "Bb"), ("F# minor", "F#")]
)
def test_a_key_is_written_as_the_person_wrote_it_in_english(state: State, words: str, written: str) -> None:
    assert state(words).key_written == written


# -- pace, dynamics, register, articulation, harmony -------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("a slow tango", "pace", "slow"),
        ("a fast piano piece", "pace", "fast"),
        ("uptempo jazz", "pace", "fast"),
        ("midtempo funk", "pace", "moderate"),
        ("música lenta", "pace", "slow"),
        ("una canción rápida", "pace", "fast"),
        ("a tango with violin, slow and quiet", "pace", "slow"),
        ("a tango with violin, slow and quiet", "dynamics", "soft"),
        ("soft piano", "dynamics", "soft"),
        ("loud techno", "dynamics", "loud"),
        ("techno, loud", "dynamics", "loud"),
        ("pianissimo violin", "dynamics", "soft"),
        ("un piano suave", "dynamics", "soft"),
        ("techno fuerte", "dynamics", "loud"),
        ("high-pitched flute", "register", "high"),
        ("low register cello", "register", "low"),
        ("mid register piano", "register", "mid"),
        ("piano de registro grave", "register", "low"),
        ("notas agudas de flauta", "register", "high"),
        ("staccato strings", "articulation", "staccato"),
        ("legato cello", "articulation", "legato"),
        ("sustained violin notes", "articulation", "legato"),
        ("piano ligado", "articulation", "legato"),
        ("dissonant piano", "harmony", "dissonant"),
        ("armonía consonante", "harmony", "consonant"),
    ],
)
def test_the_sound_is_stated(state: State, words: str, field: str, value: str) -> None:
    assert getattr(state(words), field) == value


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("a slow Sunday with friends", "pace"),
        ("I walk slowly home", "pace"),
        ("fast food on the pier", "pace"),
        ("un paseo lento por el parque", "pace"),
        ("techno, not too fast", "pace"),
        ("soft cheese and wine", "dynamics"),
        ("a quiet street at night", "dynamics"),
        ("a loud crowd at the stadium", "dynamics"),
        ("piano but not loud", "dynamics"),
        ("a high mountain", "register"),
        ("a picnic by the flowing river", "articulation"),
        ("a choppy sea at dusk", "articulation"),
    ],
)
def test_other_things_are_not_about_the_sound(state: State, words: str, field: str) -> None:
    assert getattr(state(words), field) is None


# -- genres, instruments, timbres --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "genres"),
    [
        ("drum and bass with a reese bass", ("drum and bass",)),
        ("a tango, then some techno", ("tango", "techno")),
        ("techno techno techno", ("techno",)),
        ("jazz instead of techno", ("jazz",)),
        ("loud rock", ("rock",)),
        ("piano-free jazz", ("jazz",)),
        ("a house by the sea", ()),
    ],
)
def test_genres_are_stated_in_order(state: State, words: str, genres: tuple[str, ...]) -> None:
    assert state(words).genres == genres


@pytest.mark.parametrize(
    ("words", "instruments"),
    [
        ("Rhodes and guitar", (("Rhodes piano", "rhodes"), ("acoustic guitar", "guitar"))),
        ("un violín y una flauta", (("violin", "violin"), ("flute", "flute"))),
        ("violins", (("violin", "violins"),)),
    ],
)
def test_instruments_are_written_in_the_person_s_english(
    state: State, words: str, instruments: tuple[tuple[str, str], ...]
) -> None:
    assert state(words).instruments == instruments


@pytest.mark.parametrize(
    ("words", "timbres"),
    [
        ("warm piano", ("warm",)),
        ("bright synth lead and warm cello", ("bright", "warm")),
        ("un sintetizador cálido", ("warm",)),
        ("piano oscuro", ("dark",)),
        ("dark techno", ("dark",)),
        ("a warm day with piano", ()),
        ("crisp leaves and a piano", ()),
        ("a distorted guitar", ()),  # part of the instrument's name
    ],
)
def test_timbres_stand_right_beside_an_instrument_or_a_genre(
    state: State, words: str, timbres: tuple[str, ...]
) -> None:
    assert state(words).timbres == timbres


# -- what is left out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        "jazz without {}",
        "jazz, no {}",
        "jazz with no {}",
        "jazz sans {}",
        "jazz minus the {}",
        "jazz except {}",
        "jazz excluding {}",
        "jazz, exclude the {}",
        "jazz, omit the {}",
        "jazz, leave out the {}",
        "jazz, leave the {} out",
        "jazz with everything but the {}",
        "jazz, anything but {}",
        "jazz, drop the {}",
        "jazz, lose the {}",
        "jazz, mute the {}",
        "jazz, skip the {}",
        "jazz, remove the {}",
        "jazz, remove all {}",
        "jazz, get rid of the {}",
        "jazz, avoid {}",
        "jazz, I don't want {}",
        "jazz, do not use any {}",
        "jazz but please never any {}",
        "jazz but I hate {}",
        "jazz with neither {} nor harp",
        "jazz, no harp, {} or tuba",
        "{}-free jazz",
        "jazz sin {}",
        "jazz, nada de {}",
        "jazz, todo menos {}",
        "jazz excepto {}",
        "jazz, quita el {}",
        "jazz, fuera el {}",
        "jazz, evita el {}",
        "jazz, ningún {}",
        "jazz, no quiero {}",
        "jazz sin arpa ni {}",
        "jazz sin arpa, {} ni tuba",
    ],
)
@pytest.mark.parametrize("instrument", ["piano", "banjo"])
def test_an_instrument_is_left_out_however_it_is_said(state: State, form: str, instrument: str) -> None:
    stated = state(form.format(instrument))
    assert instrument in stated.exclude
    assert instrument in stated.exclude_texts
    assert instrument not in {name for name, _ in stated.instruments}


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        ("jazz without drums", "drums"),
        ("drumless jazz", "drums"),
        ("beatless techno", "drums"),
        ("jazz sin batería", "drums"),
        ("techno, no beats", "drums"),
        ("funk, no percussion", "percussion"),
        ("salsa sin percusión", "percussion"),
        ("funk, no brass", "brass"),
        ("funk, no horns", "brass"),
        ("tango sin cuerdas", "strings"),
        ("jazz, no woodwinds", "woodwind"),
        ("techno without synths", "synth"),
        ("techno sin teclados", "keyboards"),
        ("techno without guitars", "guitar"),
        ("techno, no vocals", "vocals"),
        ("instrumental techno", "vocals"),
        ("techno sin voces", "vocals"),
        ("no techno at the warehouse party", "techno"),
        ("not techno but jazz", "techno"),
    ],
)
def test_families_and_genres_are_left_out(state: State, words: str, left_out: str) -> None:
    stated = state(words)
    assert left_out in stated.exclude
    assert stated.exclude_texts
    assert left_out not in stated.genres


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("no guitar but piano", "piano"),
        ("no drums, bring the piano", "piano"),
        ("no drums only piano", "piano"),
        ("jazz with nothing but piano and harp", "harp"),
        ("not only piano, harp too", "piano"),
        ("leave the piano in", "piano"),
        ("no electric guitar, acoustic guitar yes", "acoustic guitar"),
        ("sin guitarra pero con piano", "piano"),
    ],
)
def test_what_is_wanted_is_not_left_out(state: State, words: str, kept: str) -> None:
    stated = state(words)
    assert kept in {name for name, _ in stated.instruments}
    assert not {kept, kept.split()[-1]} & {*stated.exclude, *stated.exclude_texts}


def test_a_text_is_left_out_once(state: State) -> None:
    assert state("jazz sin batería").exclude_texts == ("batería",)


@pytest.mark.parametrize(
    "words", ["a bowl of ramen under neon signs", "a calm evening by the sea", "no sugar, no milk"]
)
def test_words_without_music_state_nothing(state: State, words: str) -> None:
    assert state(words) == Stated()
