"""Settings: what is read from the environment, what is refused, what is never shown."""

import os
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from reprompt_core import Settings, SettingsError


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("REPROMPT_")]:
        monkeypatch.delenv(name)


def test_every_field_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "DATABASE_URL": ("postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        "DATA_DIR": ("/srv/data", Path("/srv/data")),
        "DATABASE_POOL": ("7", 7),
        "DATABASE_TIMEOUT_S": ("33", 33),
        "DATABASE_PREPARE": ("0", False),
        "ENCODER": ("/srv/encoder", Path("/srv/encoder")),
        "CACHE_DIR": ("/srv/cache", Path("/srv/cache")),
        "THREADS": ("3", 3),
        "OFFLINE": ("1", True),
        "LLM_MODEL": ("a-model", "a-model"),
        "LLM_BASE_URL": ("http://localhost:1/v1", "http://localhost:1/v1"),
        "LLM_API_KEY": ("sk-1", "sk-1"),
        "LLM_TIMEOUT_S": ("2.5", 2.5),
        "LLM_MAX_CONCURRENCY": ("3", 3),
        "LLM_TEMPERATURE": ("0.7", 0.7),
        "LLM_BREAKER_FAILURES": ("2", 2),
        "LLM_BREAKER_S": ("9", 9.0),
        "LLM_CACHE_SIZE": ("0", 0),
        "LLM_CACHE_DAYS": ("7", 7),
        "AUDIO_URL": ("s3://bucket/music", "s3://bucket/music"),
        "QUEUE_LIMIT": ("50", 50),
        "ATTEMPTS": ("2", 2),
        "RETENTION_DAYS": ("3", 3),
        "STALLED_S": ("5.5", 5.5),
        "DRAIN_S": ("0", 0.0),
        "RUNPOD_ENDPOINT": ("abc123", "abc123"),
        "RUNPOD_API_KEY": ("rp-1", "rp-1"),
        "RUNPOD_URL": ("http://localhost:2/v2", "http://localhost:2/v2"),
        "RUNPOD_TIMEOUT_S": ("60", 60.0),
    }
    assert {f.name.upper() for f in fields(Settings)} == set(given)
    for name, (text, _) in given.items():
        monkeypatch.setenv(f"REPROMPT_{name}", text)
    settings = Settings()
    assert {n: getattr(settings, n.lower()) for n in given} == {n: value for n, (_, value) in given.items()}


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Settings()
    for field in fields(Settings):
        monkeypatch.setenv(f"REPROMPT_{field.name.upper()}", "")
    assert Settings() == expected
    assert expected.database_url is None
    assert expected.encoder is None
    assert expected.offline is False


def test_a_value_given_here_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROMPT_THREADS", "3")
    assert Settings(threads=2).threads == 2


def test_the_environment_is_read_when_settings_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings()
    monkeypatch.setenv("REPROMPT_DATABASE_POOL", "9")
    assert (before.database_pool, Settings().database_pool) == (4, 9)


def test_a_home_and_a_relative_folder_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPROMPT_DATA_DIR", "~/data")
    monkeypatch.setenv("REPROMPT_CACHE_DIR", "cache")
    assert Settings().data_dir == tmp_path / "data"
    assert Settings().cache_dir == tmp_path / "cache"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_POOL", "0"),
        ("DATABASE_POOL", "101"),
        ("DATABASE_POOL", "four"),
        ("DATABASE_POOL", "-1"),
        ("DATABASE_POOL", "2.5"),
        ("DATABASE_TIMEOUT_S", "601"),
        ("DATABASE_TIMEOUT_S", " 5"),
        ("THREADS", "65"),
        ("THREADS", "²"),
        ("THREADS", "9" * 5000),
        ("DATA_DIR", "~no-such-user-here/data"),
        ("ENCODER", "~no-such-user-here/encoder"),
        pytest.param(
            "OFFLINE",
            "ture",
        ),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"REPROMPT_{name}", value)
    with pytest.raises(SettingsError, match=f"REPROMPT_{name}"):
        Settings()


@pytest.mark.parametrize("value", ["mysql://u:s3cret@h/d", "u:s3cret@h/d", "host=h password=s3cret", "xpostgresql://h"])
def test_a_database_url_of_another_kind_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("REPROMPT_DATABASE_URL", value)
    with pytest.raises(SettingsError, match="REPROMPT_DATABASE_URL must start with postgresql://") as caught:
        Settings()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_names_of_the_scheme_pass(scheme: str) -> None:
    assert Settings(database_url=f"{scheme}://h/d").database_url == f"{scheme}://h/d"


@pytest.mark.parametrize(
    ("value", "offline"),
    [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False), ("no", False)],
)
def test_offline_reads_the_usual_words(monkeypatch: pytest.MonkeyPatch, value: str, offline: bool) -> None:
    monkeypatch.setenv("REPROMPT_OFFLINE", value)
    assert Settings().offline is offline


def test_repr_hides_the_database_url() -> None:
    shown = repr(Settings(database_url="postgresql://bob:s3cret@db.example/d"))
    assert not any(secret in shown for secret in ("s3cret", "bob", "db.example"))
    assert "data_dir" in shown


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().threads = 2  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.skipif(os.name != "posix", reason="needs user ids")
def test_the_data_of_root_lies_outside_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Settings().data_dir == Path("/var/lib/reprompt")


@pytest.mark.skipif(os.name != "posix", reason="needs user ids")
def test_the_data_of_a_person_lies_in_their_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert Settings().data_dir.is_relative_to(tmp_path)
