"""`lockgate config …` as people call it: over REST without a server, in drafts or at once."""

import json

import pytest

from tests.unit.cli.test_commands import answered, call, refused

TOKEN = "lgt_planted-token"


@pytest.fixture
def gateway(tmp_path):
    path = tmp_path / "D"
    answered("server", "init", "--dir", path, "--hostname", "gw.example.org")
    return path


def config(gateway, *arguments, stdin=None):
    return answered("config", *arguments, "--dir", gateway, stdin=stdin)


def test_a_draft_from_the_first_edit_to_the_way_back(gateway):
    draft = config(gateway, "set", "roles/Users/session/idle_seconds", "600")
    assert [(c["path"], c["before"], c["after"]) for c in draft["changes"]] == [
        ("roles/Users/session/idle_seconds", 1800, 600)
    ]
    config(gateway, "add", "roles/Staff", '{"description": "Employees"}', "--draft", draft["draft"])
    wrong = config(gateway, "set", "network/mtu", "99", "--draft", draft["draft"])
    assert not wrong["valid"]
    assert refused("config", "commit", draft["draft"], "--dir", gateway) == "config-invalid"
    assert config(gateway, "show", "network/mtu") == 1400
    config(gateway, "remove", "network/mtu", "--draft", draft["draft"])
    made = config(gateway, "commit", draft["draft"], "-m", "shorter")
    assert (made["number"], made["reason"], made["warnings"]) == (2, "shorter", [])
    assert config(gateway, "drafts") == []
    assert call("config", "show", "roles/Users/session/idle_seconds", "--dir", gateway).stdout == "600\n"
    shown = call("config", "diff", "1", "--dir", gateway).stdout.splitlines()
    assert shown == [
        "~ roles/Users/session/idle_seconds: 1800 -> 600",
        '+ roles/Staff {"description": "Employees", "web": true, "vpn_tunneling": true}',
    ]
    config(gateway, "rename", "roles/Staff", "Team", "--commit")
    log = config(gateway, "log")["revisions"]
    assert [(each["number"], each["author"] == "config.toml") for each in log] == [
        (3, False),
        (2, False),
        (1, True),
    ]
    config(gateway, "rollback", "1")
    assert [role["name"] for role in config(gateway, "show", "roles")] == ["Users"]
    assert refused("config", "show", "roles/Team", "--dir", gateway) == "no-such-object"


def test_what_cannot_be_edited_leaves_no_draft(gateway):
    assert refused("config", "set", "nowhere", "1", "--dir", gateway) == "no-such-setting"
    assert refused("config", "add", "roles/Users", "--dir", gateway) == "object-exists"
    assert config(gateway, "drafts") == []


def test_documents_go_out_and_come_in(gateway, tmp_path):
    value = json.dumps({"url": "https://other.example.org:8443"})
    config(gateway, "add", "push_targets/other", value, "--commit")
    config(gateway, "set", "push_targets/other/token", "-", "--commit", stdin=f"{TOKEN}\n")
    assert config(gateway, "show", "push_targets")[0]["token"] == "(secret)"
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a long passphrase\n")
    file = tmp_path / "out.json"
    for options in ((), ("--passphrase-file", passphrase)):
        assert call("config", "export", "--dir", gateway, "-o", file, *options).exit_code == 0
        assert TOKEN not in file.read_text()
        draft = config(gateway, "import", file, *options)
        assert draft["valid"]
        assert draft["changes"] == []
    assert refused("config", "import", file, "--dir", gateway) == "passphrase-needed"
    file.write_text("[" * 100_000)
    assert refused("config", "import", file, "--dir", gateway) == "document-too-deep"
    assert refused("config", "push", "nobody", "--dir", gateway) == "no-such-target"


def test_config_toml_is_taken_over(gateway):
    assert config(gateway, "show", "limits/half_open_total") == 4096
    file = gateway / "config.toml"
    file.write_text(file.read_text().replace("[limits]", "[limits]\nhalf_open_total = 99"))
    # Before the first start the file counts by itself.
    assert config(gateway, "show", "limits/half_open_total") == 99
    config(gateway, "set", "log/keep_days", "30", "--commit")
    file.write_text(file.read_text().replace("half_open_total = 99", "half_open_total = 77"))
    assert config(gateway, "show", "limits/half_open_total") == 99
    config(gateway, "import", file, "--commit")
    assert config(gateway, "show", "limits/half_open_total") == 77
    assert config(gateway, "show", "log/keep_days") == 30


def test_an_editor(gateway, monkeypatch):
    monkeypatch.setenv("EDITOR", "sed -i s/1800/900/")
    draft = config(gateway, "edit", "roles/Users")
    assert [c["path"] for c in draft["changes"]] == ["roles/Users/session/idle_seconds"]
    monkeypatch.setenv("EDITOR", "true")
    assert "nothing has been changed" in call("config", "edit", "--dir", gateway).stderr
    assert len(config(gateway, "drafts")) == 1
    monkeypatch.setenv("EDITOR", "sed -i s/{/[/")
    assert refused("config", "edit", "roles", "--dir", gateway) == "not-json"
    assert len(config(gateway, "drafts")) == 1
