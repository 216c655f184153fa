"""The words that raise a flag, the cues, and what must or must not stand beside each of them.

English and Spanish, folded to lower case without accents.
"""

import re
from dataclasses import dataclass
from functools import partial

__all__ = ["DENIED_AFTER", "DENIED_BEFORE", "IN_A_LIST", "LIST_ENDS", "QUALITY", "VOCALS", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must stand beside a cue (one of `before`, `after`, `alone`, if any is given), and what must not."""

    before: re.Pattern[str] | None
    after: re.Pattern[str] | None
    alone: bool  # as a tag or a part of a list
    not_before: re.Pattern[str] | None
    not_after: re.Pattern[str] | None


QUALITY: dict[str, list[Rule]] = {}  # cue -> rules, of which one must hold
VOCALS: dict[str, list[Rule]] = {}

_PERSON = (
    r"(?:m[ae]n|wom[ae]n|boys?|girls?|kids?|child|children|people|person|someone|somebody|male|female|lady|guys?|he|"
    r"she|they|crowd|singers?|hosts?|\w+ist|players?|hombres?|mujer(?:es)?|nin[oa]s?|chic[oa]s?|gente|alguien|personas?|publico)"
)
_INSTRUMENT = (
    r"(?:(?:violin|viola|cello|fiddle|guitar|bass|synth|synthesizer|lead|pad|piano|organ|keyboard|key|drum|kick|snare|"
    r"hat|cymbal|percussion|beat|flute|oboe|clarinet|bassoon|horn|trumpet|trombone|tuba|sax|saxophone|recorder|harp|"
    r"string|strings|brass|woodwind|saw|bell|riff|solo|melody|tone|line|sitar|erhu|theremin|harmonica|accordion|"
    r"marimba|instrument|ukulele|mandolin|banjo|808|sub|tom|chord|arpeggio|viol|amp|rhodes|koto|bowl|texture|"
    r"guitarra|bajo|bateria|flauta|violonchelo|chelo|trompeta|saxo|saxofon|sintetizador|teclado|organo|arpa|cuerda|"
    r"clarinete|oboes|acordeon|bandoneon|contrabajo|tambor|campana|instrumento|melodia|cuenco|quena|charango)s?)"
)
_RECORDING = (
    r"(?:recordings?|audio|clips?|videos?|sound|tracks?|tape|footage|quality|mix|mic|microphone|performance|loop|"
    r"song|signal|grabacion(?:es)?|sonido|pista|calidad|toma|it|this|thing|everything|everything else)"
)
_FAULTY = (
    r"(?:bad|poor|poorer|low|lower|worse|terrible|awful|lousy|inferior|mediocre|subpar|horrible|cheap|crappy|"
    r"not (?:good|great))"
)
_FINE = r"(?:good|high|higher|great|excellent|pristine|professional|studio|broadcast|decent|best|superb|cd|fine|top)"
_DEVICE = (
    r"(?:cell|phones?|smartphone|cellphone|iphone|mobile|camera|camcorder|webcam|laptop|handheld|dictaphone|walkman)"
)
_SOFT_NOUN = r"(?:pads?|synths?|synthesi[sz]ers?|patch(?:es)?|presets?|textures?|stabs?|-like|like (?:synth|pad|lead))"


def _rule(
    rules: dict[str, list[Rule]],
    cues: str,
    *,
    before: str = "",
    after: str = "",
    alone: bool = False,
    not_before: str = "",
    not_after: str = "",
) -> None:
    rule = Rule(
        before=_ending(before) if before else None,
        after=_opening(after) if after else None,
        alone=alone,
        not_before=_ending(not_before) if not_before else None,
        not_after=_opening(not_after) if not_after else None,
    )
    for cue in cues.split():
        rules.setdefault(cue, []).append(rule)


def _ending(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^ ])(?:{pattern}) $")


def _opening(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern})(?![a-z0-9])")


_quality = partial(_rule, QUALITY)
_vocals = partial(_rule, VOCALS)

# -- the recording -------------------------------------------------------------------------------------------------

# "the recording is in mono, thin and noisy", but not "the recording features noisy guitars"
_IS = (
    rf"{_RECORDING}(?: is| was| are| sounds?| seems?| feels?| es| esta| suena)"
    rf"(?: (?!it |the |has |features |{_INSTRUMENT} )\w+| ,){{0,7}}"
)
_OF_RECORDING = (
    rf"(?:(?:and|but|y|e|pero|,) )*(?:(?!{_INSTRUMENT} )\w+ )?"
    r"(?:recordings?|audio|clips?|videos?|footage|tape|mix|mic|microphone|grabacion(?:es)?)"
)
_OF_SOUND = r"(?:environment|room|background|crowd|line|signal|sound|sonido|ambiente|fondo)"

_quality(
    "amateur amateurs amateurish amateurishly unprofessional unprofessionally bootleg bitrate artifacts artefacts "
    "dropout dropouts interference interferences coughing coughs cough toses tose tosiendo interferencia "
    "interferencias monaural",
)
_quality("aficionado aficionada aficionados aficionadas", not_after=r"al?|de", not_before="los|las")
_quality(
    "quality",
    before=rf"{_FAULTY}(?: audio| sound| recording| video)?|{_FINE}(?: audio| sound| recording)|(?:audio|sound|sonic|"
    r"recording|studio|broadcast|cd|professional|video)|high|excellent",
    after=rf"(?:of (?:the )?)?(?:recording|audio|sound|video|tape|footage)s?|(?:is|was) (?:\w+ )?{_FAULTY}|could be",
)
_quality("fidelity", after=rf"(?:recording|audio|sound|video)|(?:is|was) (?:\w+ )?{_FAULTY}")
_quality(
    "noisy muffled tinny hissy ruidoso ruidosa",
    before=_IS,
    after=rf"{_OF_RECORDING}|{_OF_SOUND}",
    alone=True,
    not_after=rf"(?:and |, )?(?:(?!the )\w+ )?{_INSTRUMENT}",
)
_quality(
    "distorted saturado saturada distorsionado distorsionada crackly choppy",
    before=r"(?:audio|recording|clip|video|sonido|grabacion)(?: (?:is|was|sounds|gets|esta|es|suena))?(?: \w+)?",
    after=_OF_RECORDING,
    not_after=_INSTRUMENT,
)
_quality(
    "mono",
    not_before=r"sintetizador|sinte|bajo|synth|lead|bass|un|el|los",
    not_after=rf"{_INSTRUMENT}|legato|mode|bassline|no aware",
)
_quality(
    "recording recordings",
    before=rf"{_FAULTY}|{_FINE}|{_DEVICE}|(?:noisy|old|older|home|homemade|casual|clean|crisp|clear|unclear|distant|crude|"
    r"low budget|rough|sloppy|demo|audience|archival|scratchy|dated|cassette|pirate|quality|muffled)",
    after=rf"quality|lacks|suffers|(?:is|was|sounds?) (?:\w+ ){{0,2}}(?:{_FAULTY}|{_FINE}|old|clean|clear|thin|crisp|"
    r"distant|boxy|in mono)|(?:on|with|from) (?:\w+ ){0,3}" + _DEVICE,
    not_before=r"field",
)
_quality(
    "recorded filmed shot captured taped",
    before=r"badly|poorly|well|professionally|cleanly|crudely|carelessly|amateurishly",
    after=rf"(?:\w+ ){{0,3}}?(?:on|with|from|by|via|using|through) (?:\w+ ){{0,3}}(?:{_DEVICE}|mic|microphone|"
    r"distance|audience|crowd|afar|far away)|outdoors|outside|off the (?:radio|tv|air)",
)
_quality("mixed mastered produced equalized", before="badly|poorly|terribly|sloppily")
_quality("mix", before=_FAULTY)
_quality(
    "phone smartphone cellphone iphone camera camcorder webcam laptop mobile",
    after="recordings?|audio|videos?|mic|microphone|quality|footage|clip",
)
_quality(
    "mic mics microphone microphones",
    before=rf"{_FAULTY}(?: quality)?|broken|built in|onboard",
    after=r"noises?|handling|feedback|bumps?|pops?|popping|hiss|rumble|placement|quality|issues|problems",
)
_quality(
    "audio sound",
    before=r"bad|poor|terrible|awful|lousy|inferior|subpar|muffled",
    after=rf"quality|(?:is|was) (?:very |quite |rather |so |of )?(?:{_FAULTY}|{_FINE}|(?:not |crystal )?clear|clean)|"
    r"(?:suddenly )?(?:cuts?|drops?|skips?) (?:in|out|off)|"
    r"(?:pops?|clips|clipping|dropouts?|glitch(?:es)?|issues|problems|defects|artifacts|distortion)",
)
_quality("microfono microfonos", after="baratos?|malos?|de mala")
_quality("outs", before="drop")
_quality("clipping", not_before="soft")
_quality(
    "hiss",
    not_before=rf"(?:warm|soft|gentle|snake|steam|analog|vinyl|cassette|(?<!loud )(?<!audible )(?<!constant )tape|"
    rf"{_INSTRUMENT}(?: \w+)?)",
)
_quality("hissing", after="noises?|recording|audio|tape", not_before=_INSTRUMENT)
_quality(
    "static",
    before="loud|full of|lots of|bursts of|radio",
    after="(?:background )?(?:noises?|hiss|interference|sounds?|buzz|crackle)|(?:on|in) the (?:recording|line|audio)",
    alone=True,
    not_after=rf"(?:, \w+ )?(?:{_SOFT_NOUN}|{_INSTRUMENT}|harmony|drone)",
)
_quality(
    "crackle crackles crackling",
    after="audio|recording|sound|noises?|speakers?|mic|microphone|(?:on|in) the (?:audio|recording)",
    not_before="vinyl|fire|record",
)
_quality(
    "hum buzz buzzing humming zumbido",
    before=r"(?:mains|electrical|electric|amp|amplifier|ground|line|background|loud|power|cable|audible|hz)",
    after=r"interference|noises?|in the background|from the (?:amp|amplifier|cable|mic|microphone|speakers?)|"
    r"de fondo|electrico|del amplificador",
    not_after=rf"{_INSTRUMENT}|synth",
)
_quality(
    "pop pops popping clicks feedback plosives distortion glitches",
    before=r"(?:the )?(?:audio|mic|microphone|digital|recording|speaker|pa)",
    after=r"(?:in|on) the (?:recording|audio|left|right|mic|microphone)",
)
_quality(
    "noise noises",
    before=r"(?:background|ambient|ambience|room|crowd|audience|wind|handling|mic|microphone|street|traffic|static|line|"
    r"amp|electrical|electric|audio|unwanted|constant|outside|surrounding|environmental|environment|hissing|buzzing|"
    r"crackling|digital|recording|city|external|lots? of|no)",
    after=r"(?:in|on|of|from) the (?:recording|audio|tape|mic|microphone|background|crowd|streets?|room|line|"
    r"surroundings)",
    not_after=r"rock|pop|music|artists?|wall|sweeps?|risers?|bursts?|gate|genre|punk|core|synth|channel|drums?|hits?|"
    r"textures?|drone|piece|solo",
)
_quality("crowd audience", after=r"noises?|cough\w*|murmur\w*|shuffl\w*")
_quality("broken blown", after=r"(?:out )?(?:speakers?|audio|recording)")
_quality("demo", before="rough|crude|basement", after="tape|recording|quality")
_quality(
    "calidad",
    before=r"(?:muy )?(?:baja|mala|poca|pobre|pesima|escasa|dudosa|inferior|alta|buena|excelente)",
    after=r"de (?:la )?(?:sonido|audio|grabacion)|del (?:sonido|audio)|(?:es )?(?:muy )?(?:mala|baja|pobre|pesima)",
)
_quality(
    "grabacion grabaciones",
    before="malas?|pesima|viejas?|antiguas?|pobre|buena|deficiente|ruidosa",
    after=r"(?:es |suena )?(?:muy )?(?:caseras?|amateur|antiguas?|viejas?|malas?|ruidosas?|defectuosas?|deficiente|"
    r"lejana|distante|limpia|profesional|pirata|sucia|pobre|nitida)|en mono|con (?:el |un )?(?:ruido|movil|telefono)|"
    r"de (?:movil|telefono|aficionad[oa]s?)",
)
_quality(
    "grabado grabada grabados grabadas filmado filmada",
    before="mal|bien|pesimamente",
    after=r"(?:\w+ ){0,2}?(?:con|en|desde|por) (?:\w+ ){0,2}(?:movil|telefono|celular|camara|microfono|portatil|calle|"
    r"lejos)|de lejos|al aire libre",
)
_quality(
    "ruido ruidos",
    before="con|mucho|hay|sin",
    after=r"(?:de )?(?:la |el |los )?(?:fondo|ambiente|ambiental|calle|sala|viento|estatica|trafico|publico)|"
    r"del (?:publico|viento|trafico|microfono|ambiente)|en la grabacion|electrico",
    not_after="blanco|rosa|marron",
)
_quality("siseo siseos", not_after=r"(?:\w+ )?(?:de (?:la )?cinta|de vinilo|calido|suave)")
_quality("satura saturan distorsiona", before=r"(?:audio|sonido|grabacion|microfono|volumen)(?: se)?")
_quality(
    "chasquidos cortes saltos golpes",
    after=r"(?:en|de|del|contra) (?:el |la )?(?:canal|audio|grabacion|microfono|sonido|cinta)",
)
_quality("oye escucha suena", after="(?:muy |bastante |fatal|bien )?(?:mal|fatal)")
_quality(
    "sonido audio",
    before="mal|pobre|pesimo",
    after=r"(?:(?:es|esta|suena) )?(?:muy |bastante )?(?:pobre|malo|pesimo|deficiente|ruidoso|sucio|lejano|"
    r"distorsionado|saturado|entrecortado|horrible)|se corta",
)

# -- voices --------------------------------------------------------------------------------------------------------

_BUT = (
    r"(?!(?:but|just|only|except|save|apart|while|with|behind|under|over|from|through|because|doubt|matter|wonder|"
    r"longer|and (?:an?|the)|pero|solo|sino|salvo|excepto|con|y (?:una?|el|la)) )"
)
_NO = (
    r"(?:no|without|sin|lacks?|lacking|minus|never|nobody|neither|nor|none|zero|devoid of|free of|free from|absence of|"
    r"instead of|rather than|(?:does|is|are|has|do|did|was)n t|does not|do not|carece de|nadie|ni|nunca|ningun|ninguna|"
    r"en vez de|tampoco|libre de)"
)
# a voice behind these words, or before those of DENIED_AFTER, is not there
DENIED_BEFORE = _ending(
    rf"{_NO}(?: {_BUT}\w+){{0,4}}|not(?: (?:an?|any|been|really))?"
    # "no drums, bass or vocals"
    rf"|{_NO}(?: {_BUT}[\w,]+){{0,7}} (?:or|nor|ni|o)(?: \w+)?"
    r"|instrumental (?:\w+ )?(?:version|cover|take|remix|rendition|arrangement|mix|edit) of(?: \w+){0,6}"
    r"|version instrumental de(?: \w+){0,6}"
    # what only resembles a voice; "sounds like a man singing" names one
    rf"|(?:(?<!sounds )(?<!sound )like|resembl\w+|imitat\w+|mimic\w*|evok\w+|reminiscent of|emulat\w+|parecid[oa] a|"
    rf"imita|imitan|imitando|recuerda a|como una?)(?: (?!male |female |{_PERSON} )\w+){{0,2}}"
)
# nor is one between these two: "no drums, vocals or bass"
IN_A_LIST = _ending(rf"{_NO}(?: {_BUT}[\w,]+){{0,7}}")
LIST_ENDS = re.compile(r"(?:\w+ )?(?:, (?:\w+ ){1,2})*?(?:, )?(?:or|nor|ni|o) ")
DENIED_AFTER = _opening(
    r": (?:none|no|ninguna?|absent)|-free|free (?:remix|version|mix|edit|track|music)|-like|"
    r"(?:(?:are|is|were|was|have been|has been) )?"
    r"(?:completely |all )?(?:removed|absent|muted|missing|left out|stripped|ausentes?|eliminad[oa]s?)"
)
_SAMPLED = r"(?:chopped|sliced|glitched|glitchy|granular)(?: (?:up|and|pitched|\w+ed))*"

_vocals(
    "singer singers vocalist vocalists vocalizing vocalization vocalisation lyrics lyricist rapper rappers rapping "
    "raps rapped sung crooner crooners crooning acapella cappella capella beatbox beatboxing beatboxer yodel yodeling "
    "yodels yodeler falsetto narrator narrators narrating narrates narrated announcer announcers "
    "sermon monologue spoken speaking chanting chants chanted chant hollering shouted shouting "
    "yelling yells yelled recites reciting recited recitation comedian presenter storyteller commentator "
    "emcee chatter chatting adlibs libs screamo singalong vocalese acappella "
    "cantante cantantes cantaor cantaora cantaores cantautor cantautora vocalista vocalistas letras rapero rapera "
    "raperos rapea rapean rapeando narrador narradora narracion locutor locutora hablando hablado hablada hablados "
    "recita recitado recitada recitando discurso tararea tararean tarareando tarareo sonero soneros capela charlando "
    "conversan conversando cante vocales gritos gritan grita gritando susurrada susurradas cantado cantada cantados "
    "cantadas presentador presentadora",
    not_before="ring|tone|coral|musically|historically|guitarras? que|al pie de las|(?:letters|typed|alphabet) of",
    not_after=r"chorus|" + _SOFT_NOUN,
)
# music "for a podcast" holds no speech
_vocals(
    "podcast interview interviews narration commentary voiceover voiceovers speech speeches",
    not_before=r"(?:for|under|behind|beneath)(?: \w+){0,2}",
    not_after=r"(?:intro|background|music|bed|opener|jingle|soundtrack)",
)
_vocals("shout shouts", not_after="chorus|outs?", not_before="brass|horn")
_vocals("mc mcs", not_after=r"\d+")
_vocals(
    "vocals vox",
    not_before=rf"{_SAMPLED}",
    not_after=rf"{_SOFT_NOUN}|organs?|continental|amps?|jaguar",
)
_vocals(
    "vocal",
    not_before=rf"{_SAMPLED}|non|almost|quasi",
    not_after=rf"{_SOFT_NOUN}|chops?|chopping|cuts?|slices|glitch(?:es)?|qualit(?:y|ies)|booth|formants?|free",
)
_vocals(
    "voice voices",
    not_before=r"(?:synth|mellotron|fugue|fugal|counterpoint|polyphonic|inner|middle|organ|independent|contrapuntal)|"
    r"(?:fugue|counterpoint|canon|invention|chorale)(?: \w+){0,3}|gives?(?: \w+)? an?(?: \w+)?",
    not_after=rf"{_SOFT_NOUN}|leading|fugue|counterpoint|polyphon\w+|canon|invention|of (?:the |a )?{_INSTRUMENT}|"
    r"(?:organ|synth)s?",
)
_vocals(
    "sing sings singing sang",
    not_before=rf"{_INSTRUMENT}(?: (?:solo|line|melody|lead|part|tone|that|which|is|are|\w+ly))*|birds?(?: are)?|"
    r"(?:wants?|wanting|likes?|makes?|making|begs?|begging|urges?)(?: \w+){0,2}(?: to)?|crickets|whales?|cicadas",
    not_after=rf"(?:tibetan |crystal |high |solo |slide |steel |electric |lead |bowed |slow |sweet )?{_INSTRUMENT}|"
    r"(?:of (?:the )?)?birds?|bowls?|insects|wires?|sand|legato|sustain|glass(?:es)?|quality|whales?",
)
_vocals(
    "choir choirs",
    not_before=rf"synth|synthetic|digital|synthesi[sz]ed|mellotron|wordless|{_INSTRUMENT}",
    not_after=rf"(?:synth )?{_SOFT_NOUN}|a+hs|o+hs|of (?:\w+ )?{_INSTRUMENT}|hits?|swells?",
)
_vocals("choral", not_after=rf"(?:synth )?{_SOFT_NOUN}|swells?")
_vocals(
    "chorus",
    before="gospel|children s|male|female|men s|women s|mixed|vocal|opera|human|chanted|sung",
    after="of (?:voices|singers|people|children|men|women)|sings?",
)
_VOICE_RANGES = r"(?:soprano|alto|tenor|baritone|bass)"
_vocals(
    "soprano sopranos tenor tenors baritone baritones mezzo countertenor contralto baritono",
    not_before=r"(?:saxo|saxofon|sax|saxophone|pans?|flauta|flauta de pico|flauta dulce|clarinete|recorder|trombon|"
    r"guitarra|ukelele|steel|tambor)",
    not_after=rf"(?:(?:, |and |or |y )*{_VOICE_RANGES} )*(?:sax\w*|{_INSTRUMENT}|steel|pan|register|range|clef|"
    r"trombones?|pans)",
)
_vocals("aria arias", not_after="for|on|arranged|played")
_vocals("rap", not_after=r"(?:style )?(?:beats?|instrumentals?|type)|-like|rhythmically")
_vocals(
    "male female",
    not_after=r"(?!vocal)\w+ist|drummer|bagpiper|player|dj|musicians?|producer|composer|performer|dancers?|audience|"
    r"laugh\w*|breath\w*|grunt\w*|gasp\w*|cry\w*",
)
_vocals("talking", not_after="drums?|box|guitars?|bass|synths?|modular|heads")
_vocals(
    "talk talks speak speaks whisper whispers whispering whispered murmur murmurs murmured hum hums humming hummed "
    "tells says saying habla hablan dice dicen charla charlan susurra susurran",
    before=rf"{_PERSON}(?: (?:can be heard|is|are|also|\w+ly|who|that|voice|que|esta))*|lyrics|radio",
    after=r"(?:show|radio|words|phrases|vocals?|lines|lyrics|poem|a tune|the tune|a melody|along|a lullaby|to \w+self)",
)
_vocals(
    "dialogue dialogues dialog conversation conversations dialogo dialogos conversacion conversaciones",
    not_before=rf"{_INSTRUMENT}(?: \w+){{0,4}}|musical|instrumental",
    not_after=rf"(?:(?!{_PERSON} )\w+ ){{0,4}}{_INSTRUMENT}|musical|instrumental",
)
_vocals("host hosts", before="radio|show|tv|game|podcast")
_vocals("toasting", before="reggae|dub|dancehall|deejay|jamaican|ragga")
_vocals("duet", after="(?:of|between|with|by) (?:an? |two )?" + _PERSON)
_vocals(
    "voz voces",
    not_before=r"(?:fuga|canon|contrapunto|invencion|polifonia)(?: \w+){0,3}|"
    r"(?:sintetizador|sinte|colchon|pads?) de",
    not_after=rf"(?:intermedias?|interiores|internas?|sintetica|sintetizada)|de (?:la |el )?{_INSTRUMENT}|del "
    rf"{_INSTRUMENT}",
)
_vocals(
    "canta cantan cantando cantar",
    not_before=rf"{_INSTRUMENT}(?: (?:que|\w+))?|pajaros?|aves|grillos|ganas de|invita a",
    not_after=r"(?:los )?(?:pajaros|grillos|gallos)",
)
_vocals(
    "canto cantos",
    not_after=rf"de (?:los |las |la |el |un |una |unos )?(?:pajaros?|aves?|grillos?|cigarras?|ballenas?|{_INSTRUMENT})|"
    rf"del (?:gallo|grillo|{_INSTRUMENT})",
)
_vocals(
    "coro coros coral",
    not_before=r"(?:pads?|colchon|textura|efecto|pedal|samples?|sonidos?)(?: de| con)?|sin letra",
    not_after=rf"(?:sintetic|sintetizad|digital)\w*|de {_INSTRUMENT}|de sintetizador|pad|synth|de bach|para",
)
_vocals("letra", not_before="pie de la")
