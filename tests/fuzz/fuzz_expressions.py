"""Custom expressions: refused at a place of the text, or an expression that says the same again and can be judged."""

from datetime import UTC, datetime

from lockgate.model.facts import CertificateFacts, SignInFacts
from lockgate.policy.expressions import MAX_LENGTH, ExpressionError, evaluate, parse, render
from tests.fuzz import harness

NOW = datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
SOMEBODY = SignInFacts(
    user="alice",
    server="System Local",
    realm="Users",
    source="192.0.2.9",
    user_agent="a" * 200,
    host_name="laptop",
    time=NOW.timestamp(),
    groups=("Staff", "Dev"),
    attributes={"mail": ("alice@example.com",), "level": ("3",)},
    certificate=CertificateFacts({"CN": ("alice",)}, "CN=CA", "1F", "ab" * 32),
)


def one_input(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    refused: ExpressionError | None = None
    try:
        expression = parse(text)
    except ExpressionError as error:
        refused = error
    if refused is not None:
        assert 0 <= refused.position <= len(text)
        assert str(refused).isprintable()
        assert len(str(refused)) < 300
        return
    result, reasons = evaluate(expression, SOMEBODY, NOW)
    assert reasons
    assert {reason.ok for reason in reasons} == {result}
    written = render(expression)
    if len(written) <= MAX_LENGTH:  # with spaces it can be longer than what was read
        assert parse(written) == expression


if __name__ == "__main__":
    harness.main("expressions")
