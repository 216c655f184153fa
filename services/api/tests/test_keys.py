"""API keys: who may, how often, and that nobody sees what is another's."""

import hashlib
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.xdist_group("api-keys")

ADA, BEN = {"Authorization": "Bearer key-of-ada-1c9e4b7d2f60"}, {"X-API-Key": "key-of-ben-8a5d3e0f7b19"}
BODY = {"words": "slow rain", "generator": "musicgen"}


def run(*arguments, **settings):
    env = {k: v for k, v in os.environ.items() if not k.startswith("REPROMPT_API_")} | settings
    command = [sys.executable, "-m", "reprompt_api", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


@pytest.fixture
def anyone(keyed):
    with keyed.client() as client:
        yield client


def test_without_a_key(anyone, is_problem):
    for path in (
        "/v1/corpora", "/v1/generations", "/metrics", "/v1/nothing", "//v1/corpora", "/v1//corpora", "/v1/corpora/",
        "///v1/generators", "/page/../v1/corpora",
    ):  # fmt: skip
        answer = anyone.get(path)
        if path.startswith("/page"):  # the client takes the dots out
            path = "/v1/corpora"
        is_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    is_problem(anyone.post("/v1/prompts", json={"words": "rain"}), 401)
    is_problem(anyone.post("//v1/prompts", json={"words": "rain"}), 401)
    is_problem(anyone.delete("/v1/generations/x"), 401)


def test_refusals_are_counted_to_their_route(anyone):
    for path in ("/v1/comparisons/export", "/v1/comparisons/3f0c9c1e", "/v1/generations/3f0c9c1e/takes/0/audio", "/v2"):
        anyone.get(path)
    text = anyone.get("/metrics", headers=ADA).text
    for route in (
        "/v1/comparisons/export",
        "/v1/comparisons/{id}",
        "/v1/generations/{id}/takes/{number}/audio",
        "none",
    ):
        assert f'reprompt_requests_total{{method="GET",route="{route}",status="401"}}' in text
    assert "3f0c9c1e" not in text


def test_dots_in_a_bare_request_lead_nowhere(keyed):
    for path in (
        b"/page/../v1/corpora",
        b"/page/%2e%2e/v1/corpora",
        b"/schema/../v1/corpora",
        b"/page//../../v1/corpora",
    ):
        with keyed.connect() as connection:
            connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(65536).split(b" ")[1] in {b"404", b"401"}


def test_what_needs_no_key(anyone):
    for path in ("/", "/livez", "/readyz", "/schema", "/schema/openapi.json", "/page/index.html"):
        assert anyone.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer key-of-ada-1c9e4b7d2f61"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic key-of-ada-1c9e4b7d2f60"},
        {"Authorization": "key-of-ada-1c9e4b7d2f60"},
        {"Authorization": "Bearer " + hashlib.sha256(b"key-of-ada-1c9e4b7d2f60").hexdigest()},
        {"Authorization": "Bearer é".encode("latin-1")},
        {"X-API-Key": "ada"},
        {"X-API-Key": ""},
        {"X-API-Key": "x" * 20_000},
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_wrong_keys(anyone, is_problem, headers):
    is_problem(anyone.get("/v1/corpora", headers=headers), 401)


@pytest.mark.parametrize("headers", [ADA, BEN, {"Authorization": f"bearer  {ADA['Authorization'][7:]}"}], ids=str)
def test_right_keys(anyone, headers):
    assert anyone.get("/v1/corpora", headers=headers).status_code == 200


def test_nobody_sees_what_is_anothers(anyone, is_problem):
    key = {"Idempotency-Key": "the-same"}
    hers = anyone.post("/v1/generations", json=BODY, headers={**ADA, **key}).json()
    his = anyone.post("/v1/generations", json=BODY, headers={**BEN, **key}).json()
    assert hers["id"] != his["id"]
    path = f"/v1/generations/{hers['id']}"
    for answer in (
        anyone.get(path, headers=BEN),
        anyone.get(f"{path}/events", headers=BEN),
        anyone.get(f"{path}/takes/0/audio", headers=BEN),
        anyone.delete(path, headers=BEN),
    ):
        is_problem(answer, 404)
    listed = anyone.get("/v1/generations", params={"limit": 100}, headers=BEN).json()["items"]
    assert hers["id"] not in [item["id"] for item in listed]
    assert his["id"] in [item["id"] for item in listed]
    assert anyone.get(path, headers=ADA).json()["status"] == "queued"


def test_nor_anothers_comparisons(anyone, is_problem):
    body = {"words": "slow rain", "generator": "musicgen"}
    hers = anyone.post("/v1/comparisons", json=body, headers=ADA).json()
    path = f"/v1/comparisons/{hers['id']}"
    for answer in (
        anyone.get(path, headers=BEN),
        anyone.get(f"{path}/a/audio", headers=BEN),
        anyone.post(f"{path}/vote", json={"choice": "a"}, headers=BEN),
    ):
        is_problem(answer, 404)
    assert anyone.get(path, headers=ADA).status_code == 200


def test_the_log_names_the_key_and_never_tells_it(keyed, anyone):
    anyone.get("/v1/corpora", headers={**ADA, "X-Request-ID": "by-ada"})
    assert keyed.line("by-ada")["key"] == "ada"
    # that no key is in the log is looked at when the server ends


NARROW = {
    "REPROMPT_API_KEYS": "ada:key-of-ada-1c9e4b7d2f60,ben:key-of-ben-8a5d3e0f7b19",
    "REPROMPT_API_RATE_PER_MINUTE": "5",
}


@pytest.fixture
def narrow(serve):
    """Five requests a minute."""
    with serve(**NARROW) as server, server.client() as client:
        yield client


@pytest.fixture
def behind(serve):
    """The same, behind proxies of ours."""
    with serve(**NARROW, REPROMPT_API_TRUSTED_PROXIES="127.0.0.0/8,10.1.0.0/16") as server, server.client() as client:
        yield client


def test_rates(narrow, is_problem):
    left = []
    for _ in range(5):
        answer = narrow.get("/v1/corpora", headers=ADA)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-limit"] == "5"
        left.append(int(answer.headers["ratelimit-remaining"]))
    assert left == [4, 3, 2, 1, 0]
    answer = narrow.get("/v1/corpora", headers=ADA)
    is_problem(answer, 429)
    assert 1 <= int(answer.headers["retry-after"]) <= 13
    assert answer.headers["ratelimit-remaining"] == "0"
    assert narrow.get("/v1/corpora", headers=BEN).status_code == 200  # another's bucket
    for n in range(5):  # who says to come from elsewhere is not believed
        is_problem(narrow.get("/v1/corpora", headers={"X-Forwarded-For": f"203.0.113.{n}"}), 401)
    is_problem(narrow.get("/v1/corpora"), 429)  # guessing is slowed down
    assert narrow.get("/v1/corpora", headers=BEN).status_code == 200  # and holds up nobody who has a key
    assert narrow.get("/livez").status_code == 200
    assert narrow.get("/").status_code == 200


def test_addresses_behind_a_proxy(behind):
    def asked(*forwarded):
        return behind.get("/v1/corpora", headers=[("X-Forwarded-For", value) for value in forwarded]).status_code

    assert [asked("203.0.113.5") for _ in range(6)] == [401, 401, 401, 401, 401, 429]
    assert asked("203.0.113.6") == 401  # another
    assert asked("203.0.113.5, 10.1.2.3") == 429  # through one more of ours
    assert asked("203.0.113.5", "10.1.2.3") == 429  # as two headers
    assert asked("1.2.3.4, 203.0.113.5") == 429  # what a client says of itself is not believed
    assert asked("203.0.113.5:4711") == 429  # some write the port
    house = ["2001:db8::1", "[2001:db8::2]:80", "2001:db8::3", "[2001:db8::4]", "2001:db8::5", "2001:db8::6"]
    assert [asked(address) for address in house] == [401, 401, 401, 401, 401, 429]
    assert asked("2001:db8:0:1::1") == 401  # the house next to it


def test_it_refuses_to_listen_to_others_without_keys():
    refused = run("--port", "0", REPROMPT_API_HOST="0.0.0.0")
    assert refused.returncode == 1
    assert "REPROMPT_API_KEYS" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "70000", "0 to 65535"),
        ("KEYS", "short", "16 printable"),
        ("KEYS", "a:0123456789abcdef,a:0123456789abcdeg", "same name"),
        ("KEYS", "sha256:" + "a" * 64, "NAME:sha256:HEX"),
        ("CORS_ORIGINS", "*", "no origin"),
        ("TRUSTED_PROXIES", "everyone", "everyone"),
        ("LOG_LEVEL", "loud", "DEBUG, INFO"),
        ("HOSTS", "music.example:80", "without a port"),
        ("IN_FLIGHT", "0", "1 to 10000"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(name, value, said):
    refused = run(**{"REPROMPT_API_PORT": "0", f"REPROMPT_API_{name}": value})
    assert refused.returncode == 1
    assert said in refused.stderr
    assert f"REPROMPT_API_{name}" in refused.stderr
    assert "Traceback" not in refused.stderr
    if name == "KEYS":
        assert value not in refused.stderr


def test_a_port_that_is_taken(keyed):
    refused = run("--port", str(keyed.port))
    assert refused.returncode == 1
    assert "give another with --port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_database_that_is_not_there():
    refused = run(
        "--port",
        "0",
        REPROMPT_DATABASE_URL="postgresql://u:pw-database-5d1e9c7a@127.0.0.1:1/x",
        REPROMPT_DATABASE_TIMEOUT_S="1",
    )
    assert refused.returncode == 1
    assert "reprompt-api: The database (127.0.0.1:1/x) cannot be" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "pw-database" not in refused.stderr


def test_keys_are_made():
    made = run("key", "ada")
    key, entry = (line.partition(":")[2].strip() for line in made.stdout.splitlines())
    assert entry == f"ada:sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    assert len(key) >= 40
