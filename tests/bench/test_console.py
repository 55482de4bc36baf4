"""What the measurement of the console reads from pages, documents and the load tool's lines."""

from tests.bench.browser import hidden, menu, plain_gets
from tests.bench.console import configuration, percentiles, told


def test_the_load_tools_lines_are_read() -> None:
    log = "holding 3\nquiet 0 12.500000\nquiet 2 13.000000\nagain 0 14.250000\nquiet 0 15.000000\n"
    assert told(log, "quiet") == {0: 15.0, 2: 13.0}
    assert told(log, "again") == {0: 14.25}


def test_percentiles_are_samples_that_were_measured() -> None:
    samples = [float(number) for number in range(1, 201)]
    assert percentiles(samples) == {"median": 100.5, "p99": 198.0, "worst": 200.0}
    assert percentiles([3.0]) == {"median": 3.0, "p99": 3.0, "worst": 3.0}


def test_a_page_names_its_form_and_the_others() -> None:
    page = """
    <a href="/admin/users?a=1&amp;b=2">Users</a> <a href="/admin/users?a=1&amp;b=2">again</a>
    <a href="/admin/static/x.css">no page</a> <a href="/admin/overview.csv">no page</a> <a href="/other">no</a>
    <form><input type="hidden" name="csrf" value="a&amp;b"><input name="username"></form>
    """
    assert menu(page) == ["/admin/", "/admin/users?a=1&b=2"]
    assert hidden(page) == {"csrf": "a&b"}


def test_what_the_api_answers_without_arguments() -> None:
    document = {
        "paths": {
            "/api/v1/status": {"get": {}},
            "/api/v1/sessions": {"get": {"parameters": [{"name": "text"}]}, "post": {}},
            "/api/v1/explain": {"get": {"parameters": [{"name": "user", "required": True}]}},
            "/api/v1/users/{name}": {"get": {}},
            "/api/v1/audit/verify": {"post": {}},
        }
    }
    assert plain_gets(document) == ["/api/v1/status", "/api/v1/sessions"]


def test_the_watched_sessions_have_one_rule_and_nobody_else_has_it() -> None:
    tree = {
        "roles": [{"name": "Users"}],
        "access_control": [{"name": "Initial open policy"}],
        "realms": [{"name": "Users", "rules": [{"name": "Everybody"}]}],
    }
    values = {edit["path"]: edit["value"] for edit in configuration(tree, 20)}
    assert len(values["roles"]) == 12
    assert [rule["name"] for rule in values["realms/Users/rules"]][::11] == ["watched", "Everybody"]
    first, *_, last = values["access_control"]
    assert first["applies"] == {"to": "selected", "roles": ["Watched"]}
    assert last["applies"] == {"to": "except", "roles": ["Watched"]}
