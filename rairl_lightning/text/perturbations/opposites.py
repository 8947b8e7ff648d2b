"""Words that point the other way, and words that deny: tables for the perturbations of prose."""

import re

# Each line is a pair that is swapped both ways; where a word has several opposites, the first line counts.
_DIRECTIONS = """
increase decrease
increases decreases
increased decreased
increasing decreasing
high low
higher lower
highest lowest
more less
most least
many few
fewer more
greater smaller
greatest smallest
large small
larger smaller
largest smallest
bigger smaller
big small
long short
longer shorter
longest shortest
fast slow
faster slower
early late
earlier later
older younger
oldest youngest
above below
before after
positive negative
positively negatively
upper lower
acute chronic
maximum minimum
maximise minimise
maximize minimize
rise fall
rises falls
rising falling
rose fell
raise lower
raises lowers
raised lowered
adds takes
lifts drops
advances rewinds
multiplies divides
multiply divide
multiplied divided
multiplying dividing
add subtract
added subtracted
adding subtracting
addition subtraction
sum difference
gain loss
gains losses
gained lost
loses gains
lose gain
profit loss
profits losses
buy sell
buys sells
bought sold
buying selling
earn spend
earns spends
earned spent
earning spending
expensive cheap
cheaper costlier
elevated reduced
elevation reduction
excess deficiency
excessive deficient
enhance reduce
enhances reduces
enhanced reduced
stimulate inhibit
stimulates inhibits
stimulated inhibited
stimulation inhibition
activate inhibit
activates inhibits
activation inhibition
promotes prevents
promote prevent
agonist antagonist
agonists antagonists
systolic diastolic
anterior posterior
proximal distal
superior inferior
medial lateral
dorsal ventral
arterial venous
artery vein
arteries veins
afferent efferent
sensory motor
sympathetic parasympathetic
benign malignant
dilation constriction
vasodilation vasoconstriction
vasodilator vasoconstrictor
internal external
intracellular extracellular
inner outer
stronger weaker
strong weak
strongly weakly
rapid gradual
rapidly gradually
severe mild
oxidation reduction
absorb release
absorbs releases
expands contracts
expansion contraction
exothermic endothermic
anode cathode
cation anion
cations anions
acidic basic
gram-positive gram-negative
demand supply
supply demand
debit credit
assets liabilities
inflation deflation
majority minority
convex concave
parallel perpendicular
male female
men women
boys girls
maternal paternal
mother father
left right
first last
"""
_DENIALS = """
likely unlikely
common uncommon
commonly rarely
able unable
possible impossible
always never
correct incorrect
correctly incorrectly
true false
normal abnormal
usual unusual
usually rarely
necessary unnecessary
effective ineffective
sufficient insufficient
appropriate inappropriate
complete incomplete
regular irregular
stable unstable
significant insignificant
legal illegal
valid invalid
related unrelated
known unknown
directly indirectly
direct indirect
dependent independent
reversible irreversible
consistent inconsistent
equal unequal
healthy unhealthy
symptomatic asymptomatic
include exclude
includes excludes
including excluding
agree disagree
accept reject
"""
_OF_THE_BODY = r"(?=[\s-](?:side|hand|arm|leg|foot|eye|ear|lung|kidney|breast|atri|ventric|heart|coronar|hemi|lobe))"
# Only there has the word an opposite: not in "5 apples left", "First, …", "more or less", "also known as".
_ONLY_WHERE = {
    "left": _OF_THE_BODY,
    "right": _OF_THE_BODY,
    "first": r"(?=\s[a-z]+)(?!\s(?:we|i|let|find|calculate|need|determine|of)\b)",
    "last": r"(?=\s[a-z]+)",
    "more": r"(?!\s+or\s+less)",
    "sum": r"(?=\s+of\b)",
    "difference": r"(?=\s+of\b)",
    "takes": r"(?=\s+[0-9$])",
    "long": r"(?!\s+as\b)",
    "longer": r"(?<!\bno\slonger)(?<!\bany\slonger)",
    "known": r"(?!\s+as\b)",
    "many": r"(?<!\bhow\smany)(?<!\bas\smany)",
}
_STEMS = """
    kal natr calc glyc thyroid tensi tonic volem volaem capni phosphat magnes therm troph plasia plastic ventilat
    secret activ reflex aldosteron parathyroid lipid pigment sensitiv metabol uricem uricaem bilirubin albumin osmol
    chlor coagul perfusi parathyr echoic dens intens algesi gamma mobil
"""
HYPER_HYPO = re.compile(rf"\b(hyper|hypo)(?=(?:{'|'.join(_STEMS.split())}))", re.IGNORECASE)
TACHY_BRADY = re.compile(r"\b(tachy|brady)(?=(?:cardi|pn|arrhythm|kin))", re.IGNORECASE)
PREFIXES = {"hyper": "hypo", "hypo": "hyper", "tachy": "brady", "brady": "tachy"}


def _both_ways(table: str) -> dict[str, str]:
    pairs = [line.split() for line in table.strip().splitlines()]
    out: dict[str, str] = {}
    for a, b in pairs:
        out.setdefault(a, b)
        out.setdefault(b, a)
    return out


DIRECTIONS = _both_ways(_DIRECTIONS)
"""A word to its opposite direction."""
DENIALS = _both_ways(_DENIALS)
"""A word to its denial."""


def _pattern(words: dict[str, str]) -> re.Pattern[str]:
    parts = [re.escape(word) + _ONLY_WHERE.get(word, "") for word in sorted(words, key=len, reverse=True)]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(parts)})(?![\w-])", re.IGNORECASE)


DIRECTION = _pattern(DIRECTIONS)
"""Where a text has a word with an opposite direction."""
DENIAL = _pattern(DENIALS)
"""Where a text has a word with a denial."""
