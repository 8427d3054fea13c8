"""Detection of texts without visible characters: white space, zero-width characters, fillers."""

from __future__ import annotations

import unicodedata

# Control, format and separator characters; a lone surrogate is half a character.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})

# Invisible characters of other categories: those that Unicode lets programs ignore (the property
# Default_Ignorable_Code_Point, https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt), and the blank
# braille pattern.
_FILLERS = frozenset(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, *range(0xFE00, 0xFE10), 0xFFA0)
)
_TAGS_AND_SELECTORS = range(0xE0000, 0xE1000)


def is_blank(text: str) -> bool:
    """Return whether `text` is empty or consists of invisible characters only."""
    starts_visibly = "!" <= text[:1] <= "~"  # true for nearly every text, and faster than looking the character up
    return not starts_visibly and all(map(_is_invisible, text))


def _is_invisible(character: str) -> bool:
    code = ord(character)
    if unicodedata.category(character) in _INVISIBLE:
        return True
    return code in _FILLERS or code in _TAGS_AND_SELECTORS
