"""Entities of a trace and what they could be mistaken for: names, units, terms."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from rairl_lightning.text.perturbations.base import Solution
from rairl_lightning.text.perturbations.words import WORD, Site, in_case_of

_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][A-Za-z]+(?:-[A-Z][A-Za-z]+)*\b")
# After a number other than 1 a singular is an adjective or half a compound ("5 blue marbles", "4 boat trips"), no unit.
_PLURAL = r"[a-z]{2,}s|people|children|(?:wo)?men|feet|teeth|mice|[a-z]*fish|sheep"
_BEHIND_ONE = r"[a-z]{3,}(?=\s*[^\s\w]|\s*\Z|\s+(?:a|and|at|each|for|from|in|is|of|on|per|to|was)\b)"
_UNIT = re.compile(rf"(?<![\w.])(?:1\s({_BEHIND_ONE})|[0-9][0-9,.]*\s({_PLURAL}))\b")
_NO_UNIT = """
    about after all and any are because before both but by can during each equals few fewer for from had has have her
    his if into is its left less minus more my not of off on onto or other our over per plus she since some than that
    the their then there they this thus times to total under until was were when where which while who will with you
    your percent hundred thousand million billion
"""
_NO_NAME = """
    a after all also among an and answer any are as at based because before both but by can did do does dr during each
    either find five following for four from given had has have he her his how however i if in is it its let many most
    mr mrs ms next no none not now of on one only option or our she since so some statement step such than that the
    their then there therefore these they this those three thus to two under using was we were what when where which
    while who why will with yes you your
"""
_NO_TERM = """
    advance anyone average become becomes choose chooses close closes combine consist consists control decide
    decides decline decompose decomposes decrease decreases define definite despite determine diagnose disclose
    discloses discuss divide divides encourage enhance enhances ensure everyone examine exist exists favorite impose
    increase increases infinite inside insist insists invite invites manage manages mature measure million billion
    numerous obvious online opposite outside overcome persist previous propose proposes provide provides purchase
    purchases release releases resist secure someone suppose various versus welcome worldwide write writes
"""
_DAYS_AND_MONTHS = """
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August
    September October November December
"""
_NO_UNITS, _NO_NAMES, _NO_TERMS, _CALENDAR = (
    frozenset(words.split()) for words in (_NO_UNIT, _NO_NAME, _NO_TERM, _DAYS_AND_MONTHS)
)
_NOUN_ENDINGS = """
    age ance ancy ane ary ase cin cyte ectomy ence ency ene gen gin gram graphy ia ics ide ine ion ism ist ite itis
    ity ium lin ment min ness nin oid ol ole oma ome one opathy ose osis otomy ous parents pathy phil phy ship sis
    tin tor ule ure us virus xin ysis
"""
_ENDING = re.compile(rf"({'|'.join(sorted(_NOUN_ENDINGS.split(), key=len, reverse=True))})s?\Z")
_LONG = 6
Found = tuple[re.Match[str], int]
Pool = Callable[[Sequence[str]], tuple[str, ...]]
Alike = Callable[[str, str], bool]


def entity_sites(demonstration: Solution, others: Sequence[Solution]) -> list[list[Site]]:
    """Where the reasoning names an entity that another could replace: one list a kind, none of them empty."""
    reasoning, prompt = demonstration.reasoning, demonstration.prompt
    elsewhere = [other.prompt for other in others]
    finders: tuple[tuple[Iterable[Found], Pool, Alike], ...] = (
        (_names(reasoning, prompt), _name_pool, _alike_names),
        (_units(reasoning), _unit_pool, _alike_units),
        (_terms(reasoning, prompt), _term_pool, _alike_terms),
    )
    kinds = []
    for found, pool, alike in finders:
        near, far = pool([prompt]), pool(elsewhere)
        sites = (
            Site(*match.span(i), _like(match[i], near, alike) or _like(match[i], far, alike)) for match, i in found
        )
        kinds.append([site for site in sites if site.choices])
    return [kind for kind in kinds if kind]


def _names(reasoning: str, prompt: str) -> Iterator[Found]:
    known = set(_name_pool([prompt, reasoning]))
    return ((match, 0) for match in WORD.finditer(reasoning) if match[0] in known)


def _units(reasoning: str) -> Iterator[Found]:
    return ((match, match.lastindex or 0) for match in _UNIT.finditer(reasoning) if _unit_of(match) not in _NO_UNITS)


def _terms(reasoning: str, prompt: str) -> Iterator[Found]:
    known = set(_term_pool([prompt]))
    return ((match, 0) for match in WORD.finditer(reasoning) if match[0].casefold() in known)


def _name_pool(texts: Sequence[str]) -> tuple[str, ...]:
    plain = {match[0] for text in texts for match in WORD.finditer(text) if match[0].islower()}
    found = (match[0] for text in texts for match in _NAME.finditer(text))
    return tuple(name for name in dict.fromkeys(found) if name.casefold() not in _NO_NAMES | plain)


def _unit_pool(texts: Sequence[str]) -> tuple[str, ...]:
    found = (_unit_of(match) for text in texts for match in _UNIT.finditer(text))
    return tuple(unit for unit in dict.fromkeys(found) if unit not in _NO_UNITS)


def _unit_of(match: re.Match[str]) -> str:
    return match[match.lastindex or 0]


def _term_pool(texts: Sequence[str]) -> tuple[str, ...]:
    found = (match[0].casefold() for text in texts for match in WORD.finditer(text))
    terms = (word for word in dict.fromkeys(found) if len(word) >= _LONG and word not in _NO_TERMS)
    return tuple(word for word in terms if _ENDING.search(word))


def _like(old: str, pool: Sequence[str], alike: Alike) -> tuple[str, ...]:
    """Entities of the pool that look like ``old`` and are another one."""
    return tuple(in_case_of(new, old) for new in pool if _is_another(old, new) and alike(old, new))


def _is_another(old: str, new: str) -> bool:
    a, b = sorted((old.casefold(), new.casefold()), key=len)
    return not b.startswith(a.removesuffix("s")[: max(4, len(a) - 3)])


def _alike_names(old: str, new: str) -> bool:
    return old.isupper() == new.isupper() and (old in _CALENDAR) == (new in _CALENDAR)


def _alike_units(old: str, new: str) -> bool:
    return bool(re.fullmatch(_PLURAL, old)) == bool(re.fullmatch(_PLURAL, new))


def _alike_terms(old: str, new: str) -> bool:
    a, b = (_ENDING.search(word.casefold()) for word in (old, new))
    return a is not None and b is not None and a[0] == b[0]
