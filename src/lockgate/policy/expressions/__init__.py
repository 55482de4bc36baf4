"""Custom expressions: a small language of comparisons with AND, OR, NOT and parentheses.

    group = ("Staff", "Dev*") AND NOT sourceIP in 192.0.2.0/24
    userAttr.mail = "*@example.com" AND time in 08:00-18:00 AND time.day in Mon-Fri

* Texts stand in quotes; * in them is any text, \\* a star, \\" a quote, \\\\ a backslash. Case does not matter.
* Of a field with several values (group, userAttr, certDN, role) one must fit; != is the opposite of =.
* A list in parentheses is as good as one of its members. `in` and = mean the same.
* `<`, `<=`, `>`, `>=` compare numbers of attributes, time, time.hour, time.minute and time.date.
* What is not known (no certificate, no such attribute) fits nothing.
* `time` is now, `loginTime` when the person signed in, both by the gateway's clock; a range of the day
  does not include its end and may go over midnight. `role` is what earlier rules have given.

Nothing is looked up, called or imported; the length, depth and number of terms are bounded, and so is
the time that one comparison takes.

`parse`     text → `model.expression`, or ExpressionError with a position
`render`    the text of an expression
`evaluate`  whether it holds, and why
"""

from lockgate.policy.expressions.evaluate import evaluate, holds, uses_time
from lockgate.policy.expressions.parser import MAX_DEPTH, MAX_LENGTH, MAX_TERMS, parse
from lockgate.policy.expressions.render import render
from lockgate.policy.expressions.tokens import ExpressionError

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_TERMS",
    "ExpressionError",
    "evaluate",
    "holds",
    "parse",
    "render",
    "uses_time",
]
