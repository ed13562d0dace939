"""What a formula can be evaluated on besides float64 arrays: its operators act on these classes as on numbers.

:class:`~fastgen_rf.arithmetic._doubleword.DoubleWord` is float64-grade arithmetic without float64,
:class:`~fastgen_rf.arithmetic._slope.Slope` a value and its derivative, :class:`~fastgen_rf.arithmetic._term.Term`
source text, :class:`~fastgen_rf.arithmetic._inplace.InPlace` a block that stays in cache. Nothing here knows a
framework or a formula.
"""
