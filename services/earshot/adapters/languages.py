"""Names of languages as Whisper's servers say them, and their codes."""

from __future__ import annotations

import re

_NAMES_AND_CODES = """
afrikaans=af albanian=sq amharic=am arabic=ar armenian=hy assamese=as azerbaijani=az bashkir=ba basque=eu
belarusian=be bengali=bn bosnian=bs breton=br bulgarian=bg burmese=my cantonese=yue castilian=es catalan=ca
chinese=zh croatian=hr czech=cs danish=da dutch=nl english=en estonian=et faroese=fo finnish=fi flemish=nl
french=fr galician=gl georgian=ka german=de greek=el gujarati=gu haitian=ht hausa=ha hawaiian=haw hebrew=he
hindi=hi hungarian=hu icelandic=is indonesian=id italian=it japanese=ja javanese=jv kannada=kn kazakh=kk khmer=km
korean=ko lao=lo latin=la latvian=lv lingala=ln lithuanian=lt luxembourgish=lb macedonian=mk malagasy=mg malay=ms
malayalam=ml maltese=mt mandarin=zh maori=mi marathi=mr moldavian=ro mongolian=mn myanmar=my nepali=ne
norwegian=no nynorsk=nn occitan=oc pashto=ps persian=fa polish=pl portuguese=pt punjabi=pa romanian=ro russian=ru
sanskrit=sa serbian=sr shona=sn sindhi=sd sinhala=si slovak=sk slovenian=sl somali=so spanish=es sundanese=su
swahili=sw swedish=sv tagalog=tl tajik=tg tamil=ta tatar=tt telugu=te thai=th tibetan=bo turkish=tr turkmen=tk
ukrainian=uk urdu=ur uzbek=uz vietnamese=vi welsh=cy yiddish=yi yoruba=yo
"""
"""The names in Whisper's own list, with their ISO 639 codes."""
_NAMES = dict(pair.split("=") for pair in _NAMES_AND_CODES.split())
_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def code(name: str) -> str:
    """The code of a language said by name or by code; empty when it is neither."""
    plain = name.strip()
    found = _NAMES.get(plain.lower())
    if found is not None:
        return found
    return plain if _CODE.fullmatch(plain) else ""
