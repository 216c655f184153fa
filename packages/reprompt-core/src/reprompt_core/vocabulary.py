"""Word lists that tell what a sentence speaks of: fields, negation, function words; English and Spanish, folded."""

__all__ = [
    "CUES",
    "EATING",
    "GROUP_OF",
    "JOINERS",
    "NEGATIONS",
    "NOT_EATEN",
    "PREPOSITIONS",
    "SOUND_WORDS",
    "STOP_WORDS",
]

# The field that a kind of concept belongs to.
GROUP_OF = {
    "food": "food",
    "drink": "food",
    "taste": "food",
    "texture": "sense",
    "temperature": "sense",
    "colour": "sense",
    "aroma": "sense",
    "instrument": "music",
    "genre": "music",
    "mood": "feeling",
    "place": "scene",
    "time": "scene",
    "weather": "scene",
    "activity": "scene",
    "occasion": "scene",
    "ambience": "scene",
}

EATING = frozenset(
    "eat eats eating ate eaten food bowl bowls plate plates dish dishes cup cups glass glasses mug slice slices bite "
    "bites sip sips sipping sipped taste tastes tasting tasted drink drinks drinking drank order ordered ordering "
    "serve serves served serving breakfast lunch dinner brunch supper dessert snack snacking meal meals menu hungry "
    "delicious yummy tasty recipe devour devouring devoured munching munch nibbling chewing slurping slurp gulp spoon "
    "spoonful fork chopsticks portion bottle pint pot jar jars tray bag "
    "comer come comes comiendo comi comimos comida comen plato platos taza tazas vaso vasos copa copas tazon cuenco "
    "rebanada porcion bocado mordisco probar probando probe beber bebiendo bebi bebo bebida trago "
    "tomando desayuno desayunando almuerzo almorzando cena cenando cenar merienda merendando postre hambre "
    "pedi pedimos pido racion tapa tapas rico rica deliciosa delicioso saboreando sabor botella jarra sirven sirvieron "
    "cucharada comiendome trozo pedazo tomo tomamos tome bebimos".split()
)

_CUES = {
    "food": EATING,
    "music": frozenset(
        "music musical song songs track tracks tune tunes melody melodies beat beats bpm tempo rhythm rhythms playlist "
        "soundtrack groove riff riffs solo solos instrumental chord chords loop loops arpeggio bassline drop remix "
        "band orchestra ensemble play plays playing played style genre vibe vibes sound sounds compose anthem jam "
        "score musica cancion canciones tema ritmo ritmos melodia melodias compas banda orquesta toca tocan tocando "
        "tocar suena sonido acordes pista estilo genero instrumental fondo minor major menor mayor".split()
    ),
    "feeling": frozenset(
        "feel feels feeling feelings felt mood emotion emotional heart soul am m we makes making "
        "siento siente sentir sintiendo sentimiento animo estoy corazon alma estamos".split()
    ),
}
CUES: dict[str, tuple[str, ...]] = {}
"""Word -> the fields whose presence it tells."""
for _group, _words in _CUES.items():
    for _word in _words:
        CUES[_word] = (*CUES.get(_word, ()), _group)

PREPOSITIONS = frozenset(
    "in at on near inside through by under outside around across into along to from "
    "en por bajo cerca dentro fuera entre hacia desde sobre junto".split()
)

SOUND_WORDS = frozenset(
    "slow fast loud soft quiet dark deep heavy warm bright hard dirty classic old-school upbeat beatless drumless "
    "instrumental acoustic electric electronic driving mellow chill lento lenta rapido rapida oscuro oscura suave "
    "fuerte".split()
)
"""Words that, before an everyday word, make it a kind of music: "slow rock", "dark pop"."""

NEGATIONS = frozenset(
    "no not neither without never none zero minus except avoid excluding skip sans nothing hate dont doesnt isnt wasnt "
    "sin nunca ningun ninguna nada excepto salvo tampoco evita ni "
    "exclude omit excluye omite".split()
)
NOT_EATEN = frozenset(
    "tree trees leaf leaves blossom blossoms flower flowers field fields grove groves orchard orchards vine vines bush "
    "bushes plantation garden skin peel light lights sky glow color colour colored coloured hair eyes fingers "
    "walls brown green jar jars dress paper candle candles wood forest street seller vendor picker pickers harvest "
    "plant plants "
    "arbol arboles hoja hojas flor flores".split()
)
"""Words that, after a food's name, make it something that is not eaten."""
JOINERS = frozenset("or nor ni o u and y e any the el la los las".split())
"""Words through which a negation reaches the next thing named."""

STOP_WORDS = (
    frozenset(
        "a an the this that these those i you he she it we they me my mine your his her its our their them us who whom "
        "which what where when why how and or but so if then than as of to in on at by for from with without into onto "
        "over under about after before during while through between near up down out off again just only very really "
        "too also more most much many some any each every all both few other another such no not nor own same s t ll "
        "re ve d m is am are was were be been being do does did doing have has had having will would can could should "
        "may might must shall let lets get gets got getting go goes going went gone come comes came coming make makes "
        "made making take takes took want wants wanted like likes liked love loves need needs give gave put one two "
        "three first last new old good nice great big small little long short lot lots bit kind sort thing things "
        "something someone everyone everything way here there now today tonight yesterday tomorrow still already yet "
        "even ever never always sometimes please create generate write want need something music song track piece "
        "tune playlist soundtrack background style vibe feel feels feeling felt mood sound sounds sounding full half "
        "front back side end start inside outside around along away together alone behind across next last fresh "
        "left right freshly homemade stall stand shop truck cart counter huge tiny whole plain simple "
        "best favourite favorite "
        "el la los las un una unos unas lo al del de y e o u en que con sin por para a ante como mas muy mi mis tu "
        "tus su sus nuestro nuestra este esta estos estas ese esa eso esto aquel aquella yo el ella nosotros ellos me "
        "te se le les nos es son soy eres somos fue era eran ser estar estoy estas estamos estan hay ha han he hemos "
        "tengo tiene tienen tener voy va vamos van ir quiero quiere queremos hacer hace hago algo alguien todo toda "
        "todos todas mucho mucha muchos muchas poco poca si no ni ya pero cuando donde mientras desde hasta entre "
        "sobre bajo tras aqui alli ahora hoy ayer siempre nunca tambien solo otra otro bien mal gran grande pequeno "
        "pequena nuevo nueva viejo vieja recien hecho hecha cosa cosas crea genera musica cancion tema fondo "
        "despues antes luego unas junto cerca".split()
    )
    | EATING
)
