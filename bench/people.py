"""Names of synthetic patients in the scripts that hospitals write, each in a character set that can hold it."""

from __future__ import annotations

import re
from typing import NamedTuple


class Script(NamedTuple):
    """How one part of the world writes its names."""

    character_set: str
    """Value of Specific Character Set (0008,0005), PS3.3 C.12.1.1.2."""
    codec: str
    escape: bytes
    """Escape sequence at the start of every component (ISO 2022), where Python's codec doesn't write it."""
    family: tuple[str, ...]
    given: tuple[str, ...]
    romanised: bool
    """Whether the name has an alphabetic group before the ideographic one (PS3.5 6.2.1.1)."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_LATIN_FAMILY = (
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Anderson Taylor Thomas Moore Jackson "
    "Martin Lee Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams "
    "Baker Nelson Carter Mitchell Roberts Turner Phillips Parker Evans Edwards Collins Stewart Morris Murphy Cook "
    "Rogers Morgan Cooper Peterson Reed Bailey Bell Kelly Howard Ward Cox Goldsmith Blacksmith"
)
_LATIN_GIVEN = (
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph "
    "Jessica Thomas Sarah Charles Karen Christopher Lisa Daniel Nancy Matthew Betty Anthony Sandra Mark Margaret "
    "Donald Ashley Steven Kimberly Andrew Emily Paul Donna Joshua Michelle Kenneth Carol Kevin Amanda Brian Melissa"
)

SCRIPTS: dict[str, Script] = {
    "english": Script("", "ascii", b"", _words(_LATIN_FAMILY), _words(_LATIN_GIVEN), False),
    "european": Script(
        "ISO_IR 100",
        "latin-1",
        b"",
        _words("Müller Schröder Jürgens Björk Åkesson Núñez Peña Lefèvre François Gonçalves Sørensen Weiß"),
        _words("Jörg Käthe Renée José Zoë Günther Mårten Inés Åse Noël Joëlle Çelik"),
        False,
    ),
    "cyrillic": Script(
        "ISO_IR 144",
        "iso8859_5",
        b"",
        _words("Иванов Смирнов Кузнецов Попов Соколов Лебедев Козлов Новиков Морозов Петров Волков Люкceмбypг"),
        _words("Александр Дмитрий Мария Анна Сергей Ольга Елена Иван Наталья Юрий"),
        False,
    ),
    "arabic": Script(
        "ISO_IR 127",
        "iso8859_6",
        b"",
        _words("قباني حداد خوري نجار منصور سلامة شاهين عبود"),
        _words("لنزار محمد فاطمة علي مريم يوسف ليلى حسن"),
        False,
    ),
    "chinese": Script(
        "ISO_IR 192",
        "utf-8",
        b"",
        _words("王 李 张 刘 陈 杨 黄 赵 吴 周 徐 孙 欧阳 司马"),
        _words("小东 伟 芳 娜 秀英 敏 静 丽 强 磊 军 洋 勇 艳 杰"),
        True,
    ),
    "mainland": Script(
        "GB18030",
        "gb18030",
        b"",
        _words("朱 胡 林 郭 何 高 罗 郑 梁 谢 宋 唐"),
        _words("建国 志强 桂英 玉兰 淑珍 浩然 子涵 雨桐 嘉怡 俊杰"),
        True,
    ),
    "japanese": Script(
        "\\ISO 2022 IR 87",
        "iso2022_jp",
        b"",
        _words("山田 佐藤 鈴木 高橋 田中 渡辺 伊藤 中村 小林 加藤"),
        _words("太郎 花子 一郎 美咲 健太 陽子 大輔 翔太 直美"),
        True,
    ),
    "korean": Script(
        "\\ISO 2022 IR 149",
        "euc_kr",
        b"\x1b$)C",
        _words("김 이 박 최 정 강 조 윤 장 임"),
        _words("희중 민준 서연 지훈 서윤 현우 지우 예준"),
        True,
    ),
}
"""Every script by a name; `english` is the default repertoire and has no character set element."""

MIX = ("english",) * 12 + ("european",) * 3 + ("chinese", "mainland", "cyrillic", "arabic", "japanese", "korean")
"""How often each script turns up."""

_DELIMITERS = re.compile(r"([\^=\\])")


def encode_text(text: str, script: Script) -> bytes:
    """`text` in the script's character set; escape sequences start anew after every delimiter (PS3.5 6.1.2.5.3)."""
    pieces = []
    for piece in _DELIMITERS.split(text):
        escape = b"" if piece.isascii() else script.escape
        pieces.append(escape + piece.encode(script.codec))
    return b"".join(pieces)


def person_name(script: Script, family: int, given: int) -> str:
    """A name out of the script's stock, with an alphabetic group in front where the script has one."""
    own = f"{script.family[family % len(script.family)]}^{script.given[given % len(script.given)]}"
    if not script.romanised:
        return own
    latin = SCRIPTS["english"]
    return f"{latin.family[family % len(latin.family)]}^{latin.given[given % len(latin.given)]}={own}"
