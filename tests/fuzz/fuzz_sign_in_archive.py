"""An uploaded archive of sign-in pages: refused with findings, or files with plain names within the limits."""

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.sign_in_pages import MAX_FILES, MAX_TOTAL, TYPES, read_archive
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    problem: Problem | None = None
    try:
        archive = read_archive(data, skip_validation=True)
    except ProblemError as error:
        problem = error.problem
    if problem is not None:
        assert problem.code == "bad-sign-in-pages"
        assert problem.details
        return
    assert len(archive.assets) + len(archive.templates) <= MAX_FILES
    assert sum(len(asset.content) for asset in archive.assets.values()) <= MAX_TOTAL
    for name in archive.assets:
        assert name.isascii()
        assert not name.startswith(("/", "."))
        assert not set(name) & set("\\:\0")
        assert ".." not in name.split("/")
        assert name.rpartition(".")[2].lower() in TYPES


if __name__ == "__main__":
    harness.main("sign_in_archive")
