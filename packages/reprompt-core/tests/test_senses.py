"""Layer 1: what is mentioned, what is not, and what the mentions say of taste and feeling."""

from collections.abc import Callable

import pytest
from reprompt_core import Reprompt
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge
from reprompt_core.senses import Reader
from reprompt_core.types import TASTES, Senses
from reprompt_core.words import Words

Read = Callable[[str], Senses]


@pytest.fixture(scope="module")
def read(knowledge: Knowledge, encoder: Encoder) -> Read:
    reader = Reader(knowledge, encoder)
    return lambda words: reader.read(Words.check(words)).senses


def named(senses: Senses, *, negated: bool = False) -> set[str]:
    """The concepts that are mentioned by name."""
    return {m.concept for m in senses.mentions if m.via == "name" and m.negated == negated}


# -- by name -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "concept"),
    [
        pytest.param("two croissants on the table", "croissant", id="plural"),
        pytest.param("ripe tomatoes", "tomato", id="-oes"),
        pytest.param("a basket of strawberries", "strawberry", id="-ies"),
        pytest.param("unas nueces", "walnut", id="-ces"),
        pytest.param("PAELLA AT NOON", "paella", id="capitals"),
        pytest.param("un cafe con leche", "café con leche", id="accent-left-out"),
        pytest.param("jalapeño peppers", "jalapeno", id="accent"),
        pytest.param("un helado", "ice cream", id="spanish"),
        pytest.param("dos melocotones", "peach", id="spanish-plural"),
        pytest.param("me como un trozo de pan", "bread", id="spanish-bread"),
        pytest.param("a walk on the beach", "beach", id="place"),
        pytest.param("a tango", "tango", id="genre"),
        pytest.param("un violín", "violin", id="instrument"),
        pytest.param("I am furious", "furious", id="mood"),
        pytest.param("rock, no drums", "rock", id="everyday-beside-music"),
    ],
)
def test_things_are_found_by_name(read: Read, words: str, concept: str) -> None:
    assert concept in named(read(words))


@pytest.mark.parametrize(
    ("words", "whole", "part"),
    [
        ("strawberry ice cream", "strawberry ice cream", {"strawberry", "ice cream"}),
        ("a cup of jasmine tea", "jasmine tea", {"tea", "black tea"}),
        ("deep house at dawn", "deep house", {"house"}),
        ("drum and bass", "drum and bass", {"drum kit", "electric bass"}),
        ("a coffee shop", "café", {"black coffee"}),
        ("bass clarinet", "bass clarinet", {"clarinet", "electric bass"}),
        ("flor de cerezo", "spring", {"cherry"}),
    ],
)
def test_the_longest_name_is_meant(read: Read, words: str, whole: str, part: set[str]) -> None:
    found = named(read(words))
    assert whole in found
    assert not found & part


def test_a_mention_knows_its_place(read: Read) -> None:
    words = "Ya huele: ¡PIÑAS y un café con leche!"
    mentions = read(words).mentions
    assert {m.text for m in mentions} >= {"PIÑAS", "café con leche"}
    assert all(words[m.start : m.end] == m.text for m in mentions)


@pytest.mark.parametrize(
    ("ordinary", "musical", "concept"),
    [
        ("a house by the sea", "house music", "house"),
        ("a rock in the garden", "a rock song", "rock"),
        ("I caught a bass in the lake", "my uncle plays bass", "electric bass"),
        ("a trap door in the floor", "the trap beat", "trap"),
        ("a swing in the park", "swing music", "swing"),
        ("the metal gate is shut", "metal music", "heavy metal"),
        ("the beat of my heart", "a techno beat", "drum machine"),
    ],
)
def test_everyday_words_need_their_field(read: Read, ordinary: str, musical: str, concept: str) -> None:
    assert concept not in named(read(ordinary))
    assert concept in named(read(musical))


@pytest.mark.parametrize("words", ["loud rock", "beatless ambient", "slow rock", "dark pop"])
def test_a_genre_beside_a_word_of_sound_is_a_genre(read: Read, words: str) -> None:
    assert words.split()[-1] in {m.concept for m in read(words).of("genre")}


@pytest.mark.parametrize(
    "words",
    [
        "the pan is hot",
        "me duelen los pies",
        "estoy de pie en la calle",
        "mis pies descalzos en la arena",
        "sal del coche ahora",
    ],
)
def test_a_word_of_the_other_language_is_no_food(read: Read, words: str) -> None:
    senses = read(words)
    assert not senses.of("food", "drink")
    assert not any(senses.tastes.values())


@pytest.mark.parametrize(
    "words",
    [
        "the banana leaf sways",
        "cherry trees in bloom",
        "an olive grove at dawn",
        "orange light over the bay",
        "under the lemon tree",
        "an apple orchard",
        "strawberry fields",
        "almond blossom",
        "a honey-coloured glow",
        "chocolate brown eyes",
        "lime green walls",
        "hojas de plátano",
        "los árboles de limón",
        "flor de cerezo",
    ],
)
def test_what_is_not_eaten_has_no_taste(read: Read, words: str) -> None:
    senses = read(words)
    assert not senses.of("food", "drink")
    assert not any(senses.tastes.values())


def test_the_same_fruit_eaten_has_a_taste(read: Read) -> None:
    assert read("I eat a banana under the lemon tree").tastes["sweet"] > 0.5


# -- by nearness -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "taste"),
    [
        ("I am eating a zarvik dipped in caramel", "sweet"),
        ("a bowl of seaweed anchovy broth", "umami"),
        ("for dinner, some fiery habanero wings", "spicy"),
    ],
)
def test_an_unknown_dish_is_understood_through_known_ones(read: Read, words: str, taste: str) -> None:
    senses = read(words)
    assert senses.of("food", "drink")
    assert senses.tastes[taste] >= 0.35


def test_nearness_is_a_cosine_and_a_name_is_certain(read: Read) -> None:
    mentions = read("a slice of blorple cheesecake while grandfather whittles").mentions
    assert {m.via for m in mentions} == {"name", "nearest"}
    assert all((m.score == 1) == (m.via == "name") for m in mentions)
    assert all(0.28 <= m.score <= 1 for m in mentions)


# -- negation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "negated", "kept"),
    [
        ("jazz, no drums", {"drum kit"}, {"jazz"}),
        ("coffee without sugar", {"sugar"}, {"black coffee"}),
        ("café sin azúcar", {"sugar"}, {"black coffee"}),
        ("a lemon that is not sour", {"sour"}, {"lemon"}),
        ("I don't like jazz", {"jazz"}, set()),
        ("never sad", {"sad"}, set()),
        ("no quiero guitarra", {"acoustic guitar"}, set()),
        ("no drums or guitar", {"drum kit", "acoustic guitar"}, set()),
        ("sin batería ni guitarra", {"drum kit", "acoustic guitar"}, set()),
        ("no drums, guitar or bass", {"drum kit", "acoustic guitar", "electric bass"}, set()),
        ("tea without milk, sugar or honey", {"milk", "sugar", "honey"}, {"black tea"}),
        ("sin piano, guitarra ni batería", {"piano", "acoustic guitar", "drum kit"}, set()),
        ("neither drums nor guitar", {"drum kit", "acoustic guitar"}, set()),
        ("no guitar but drums", {"acoustic guitar"}, {"drum kit"}),
        ("no drums only violin", {"drum kit"}, {"violin"}),
        ("sin guitarra pero con violín", {"acoustic guitar"}, {"violin"}),
        ("no drums. A violin", {"drum kit"}, {"violin"}),
        ("sugar-free cola", {"sugar"}, {"cola"}),
        ("a salt-free broth", {"salt"}, set()),
        ("not only sweet but sour", set(), {"sweet", "sour"}),
        ("no doubt jazz", set(), {"jazz"}),
        ("not spicy ramen", {"spicy"}, {"ramen"}),
    ],
)
def test_negation_reaches_what_it_means(read: Read, words: str, negated: set[str], kept: set[str]) -> None:
    senses = read(words)
    assert named(senses, negated=True) == negated
    assert kept <= named(senses)


def test_drumless_has_no_drums(read: Read) -> None:
    assert "drum kit" not in named(read("drumless jazz"))


def test_what_is_negated_gives_neither_taste_nor_feeling(read: Read) -> None:
    senses = read("no chocolate and never sad")
    assert named(senses, negated=True) == {"chocolate", "sad"}
    assert not any(senses.tastes.values())
    assert senses.emotion.valence == senses.emotion.arousal == 0
    assert not senses.descriptors


# -- weighing ----------------------------------------------------------------------------------------------------


def apart(a: dict[str, float], b: dict[str, float]) -> float:
    return sum((a.get(t, 0) - b.get(t, 0)) ** 2 for t in TASTES) ** 0.5


@pytest.mark.parametrize(
    ("words", "head", "modifier"),
    [
        ("lemon cheesecake", "cheesecake", "lemon"),
        ("quiero un helado de limón", "ice cream", "lemon"),
        ("pancakes with maple syrup", "pancake", "maple syrup"),
        ("vanilla ice cream on a lemon", "vanilla ice cream", "lemon"),
        ("I am eating ramen, and there is honey in the shop", "ramen", "honey"),
        ("una paella con limón", "paella", "lemon"),
    ],
)
def test_the_dish_counts_more_than_its_trimmings(
    read: Read, knowledge: Knowledge, words: str, head: str, modifier: str
) -> None:
    senses = read(words)
    assert {head, modifier} <= named(senses)
    tastes = {name: knowledge.named["food", name].tastes for name in (head, modifier)}
    assert apart(senses.tastes, tastes[head]) < apart(senses.tastes, tastes[modifier])
    strongest = max(TASTES, key=lambda t: tastes[head].get(t, 0))
    assert senses.tastes[strongest] == max(senses.tastes.values())


@pytest.mark.parametrize(
    ("plain", "worded", "taste"),
    [
        ("chocolate", "sweet chocolate", "sweet"),
        ("ramen", "spicy ramen", "spicy"),
        ("a lemon", "a sweet lemon", "sweet"),
        ("una tarta de queso", "una tarta de queso salada", "salty"),
    ],
)
def test_a_taste_word_raises_its_taste(read: Read, plain: str, worded: str, taste: str) -> None:
    before, after = read(plain).tastes, read(worded).tastes
    assert after[taste] > before[taste] + 0.02
    assert all(0 <= v <= 1 for v in after.values())


@pytest.mark.parametrize(
    ("plain", "worded", "taste"),
    [
        ("a lemon", "a lemon that is not sour", "sour"),
        ("kimchi", "kimchi, not spicy", "spicy"),
        ("espresso", "espresso without bitterness", "bitter"),
        ("un limón", "un limón nada ácido", "sour"),
        ("ramen", "ramen without salt", "salty"),
    ],
)
def test_a_negated_taste_word_lowers_its_taste(read: Read, plain: str, worded: str, taste: str) -> None:
    before, after = read(plain).tastes, read(worded).tastes
    assert after[taste] < 0.7 * before[taste]
    assert any(after.values())


@pytest.mark.parametrize(
    ("words", "valence", "arousal"),
    [
        ("furious, eating a sweet cake", -0.5, +0.5),
        ("I feel furious eating honey", -0.5, +0.5),
        ("sad, with strawberry ice cream", -0.5, -0.2),
        ("estoy triste comiendo un helado", -0.4, -0.2),
        ("happy with a bitter espresso", +0.5, +0.2),
    ],
)
def test_a_stated_emotion_outranks_the_implied(read: Read, words: str, valence: float, arousal: float) -> None:
    emotion = read(words).emotion
    assert emotion.stated
    assert emotion.valence * valence >= valence**2
    assert emotion.arousal * arousal >= arousal**2


def test_food_implies_a_feeling_where_none_is_stated(read: Read) -> None:
    sweet, bitter = read("honey").emotion, read("a bitter espresso").emotion
    assert not sweet.stated
    assert not bitter.stated
    assert sweet.valence > 0.2 > -0.2 > bitter.valence


# -- descriptors and determinism ---------------------------------------------------------------------------------

SENTENCES = [
    "I'm at the food court about to eat a bowl of spicy ramen. It's noisy and the neon signs are bright.",
    "una noche de verano en la playa con helado de limón, sin música alta",
    "sad piano with strawberry ice cream",
    "zarvik stew by the flumen",
    "techno at 128 bpm, no drums",
    "silky dark chocolate in a cold blue room, furious",
]


@pytest.mark.parametrize("words", SENTENCES)
def test_descriptors_have_origins_in_the_words(read: Read, words: str) -> None:
    senses = read(words)
    assert senses.descriptors
    mentioned = {m.text for m in senses.mentions if not m.negated}
    for d in senses.descriptors:
        assert d.origin, d
        assert d.origin in mentioned or set(d.origin.split(", ")) <= mentioned or d.origin == "the tastes", d
        assert 0 <= d.weight <= 1, d


def test_every_taste_of_note_has_a_descriptor(read: Read) -> None:
    senses = read(SENTENCES[0])
    tastes = {d.dimension: d.value for d in senses.descriptors if d.dimension in TASTES}
    assert tastes == {t: v for t, v in senses.tastes.items() if v >= 0.15}
    assert {"salty", "umami", "spicy"} <= set(tastes)


@pytest.mark.parametrize("words", SENTENCES)
def test_the_same_words_give_the_same_senses(knowledge: Knowledge, encoder: Encoder, words: str) -> None:
    checked = Words.check(words)
    once, again = (Reader(knowledge, encoder).read(checked) for _ in range(2))
    assert once.senses == again.senses
    assert (once.vector == again.vector).all()


def test_a_batch_gives_the_senses_of_each_alone(knowledge: Knowledge, encoder: Encoder) -> None:
    checked = [Words.check(s) for s in (*SENTENCES, SENTENCES[0])]
    batch = Reader(knowledge, encoder).read_many(checked)
    alone = [Reader(knowledge, encoder).read(c) for c in checked]
    assert [r.senses for r in batch] == [r.senses for r in alone]


def test_what_was_read_before_changes_nothing(knowledge: Knowledge, encoder: Encoder) -> None:
    """Phrases are remembered; what they were first encoded with must not matter."""
    words = Words.check("zarvik stew by the flumen")
    used = Reader(knowledge, encoder)
    used.read(Words.check("a very long evening of telling stories, with zarvik stew"))
    assert used.read(words).senses == Reader(knowledge, encoder).read(words).senses


def test_the_whole_way_keeps_the_senses(say: Callable[..., Reprompt], read: Read) -> None:
    answer, senses = say(SENTENCES[0]), read(SENTENCES[0])
    assert answer.mentions == senses.mentions
    assert answer.descriptors == senses.descriptors
    assert answer.tastes == senses.tastes
