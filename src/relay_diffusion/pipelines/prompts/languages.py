"""Whether a text is in a language other than English, by the small words that no sentence lacks.

Lists of nouns and adjectives, as prompts often are, have hardly any small words, and pass.
"""

from __future__ import annotations

import re

MIN_WORDS = 8
"""Of texts with fewer words nothing is said."""

_MIN_DIFFERENT = 3
_MIN_SHARE = 1 / 6
"""Of the words: prose has a fifth (Polish) to two fifths (French)."""

# Words that name or describe things in English too are left out: man, hat, door, van, car, ten.
_SMALL_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "English": "a an the and or but not no of in on at with without by from to into onto for "
        "as is are was were be been has have its it his her their he she they this that these "
        "those there which who while where when over under behind beside between against above "
        "below before after near through across along around out up down off so one each other",
        "French": "le la les l un une des du de d et est sont dans sur sous avec sans au aux qui "
        "que qu se sa ses ce cette ces il elle ils ne pas en par plus dont entre devant derrière",
        "German": "der die das den dem des ein eine einen einem einer eines und ist sind im am auf "
        "mit von vom zu zum zur sich aus bei nicht durch über unter hinter vor neben sein seine",
        "Spanish": "el la los las un una unos unas de del al y es está están en con por para que "
        "se su sus lo sobre entre bajo desde hacia como más muy junto",
        "Italian": "il lo la gli le l un uno una di del della dei delle dello degli e è sono nel "
        "nella nei nelle sul sulla con per che si al alla da dal dalla su tra ed suo sua",
        "Portuguese": "o os as um uma uns umas de do da dos das e é são em no na nos nas com por "
        "para que se ao à seu sua pelo pela sobre entre sob está estão",
        "Dutch": "de het een en in is zijn op met te dat die voor aan er naar bij uit om tussen "
        "achter naast onder over wordt heeft haar ook niet als zich",
        "Polish": "i w z na do się jest są nie że o od po za przez przy nad jego jej oraz który "
        "która które jak ze we a to przed między obok",
        "Czech": "a v ve na je jsou se s z ze do k o po za nad u při před který která které jeho "
        "její mezi jako není má svým",
        "Romanian": "un o a și este sunt în cu de pe la din se lui ei ale al într iar său sa sub "
        "spre printre lângă pentru",
        "Swedish": "en ett och är på i med av till som den det de sig sitt för från bakom över "
        "under vid genom mellan om inte har sina",
        "Danish": "en et og er på i med af til som den det de sig for fra over under ved gjennom "
        "gennem mellem om ikke har sine av",
        "Finnish": "ja on ovat se joka jotka sen sekä myös kuin että hän ei mutta kun takana "
        "edessä alla päällä vieressä kanssa sitä",
        "Turkish": "bir ve bu şu o ile için de da olan olarak üzerinde çok gibi kadar "
        "altında arkasında yanında içinde önünde",  # noqa: RUF001
        "Indonesian": "yang di dan dengan dari ke pada untuk ini itu sebuah seekor seorang dalam "
        "adalah oleh atas bawah belakang antara sedang tidak",
        "Vietnamese": "một và với của trong trên là những các được có cho dưới này đang ở như con",
    }.items()
}
_ENGLISH = _SMALL_WORDS["English"]

_WORD = re.compile(r"[^\W\d_]+")
_SHORT_FORM = re.compile(r"['\u2019](?:s|t|d|m|ve|re|ll)\b")
_QUOTED = re.compile(r'"[^"]*"|“[^”]*”|«[^»]*»|„[^“”]*[“”]')
_NAME = re.compile(r"\b[A-ZÀ-Þ]\w*(?:[ -][a-zà-ÿ]{1,4}){1,3}[ -](?=[A-ZÀ-Þ])")


def is_foreign(text: str) -> bool:
    """Whether a text of :data:`MIN_WORDS` words or more has many small words of another language
    written in Latin letters, and fewer English ones.

    Words that both languages have count for neither. Those within names (Rio de Janeiro) and in
    quotation marks, which may be what is written in the picture, are not counted.
    """
    told = _NAME.sub(" ", _SHORT_FORM.sub("", _QUOTED.sub(" ", text)))
    words = [word.lower() for word in _WORD.findall(told)]
    if len(words) < MIN_WORDS:
        return False
    for small in _SMALL_WORDS.values():
        theirs = [word for word in words if word in small - _ENGLISH]
        if len(set(theirs)) < _MIN_DIFFERENT or len(theirs) < _MIN_SHARE * len(words):
            continue
        if len(theirs) > sum(word in _ENGLISH - small for word in words):
            return True
    return False
