"""create_app: what it opens, what it is given, and what a browser of another page may do with it."""

import asyncio
import socket
import subprocess
import sys

import httpx2
import pytest
from reprompt_core import Pipeline, Settings
from reprompt_core.generation.jobs import Jobs

pytestmark = pytest.mark.xdist_group("api-app")


@pytest.fixture
def core(scratch):
    return Settings(data_dir=scratch / "data")


async def asked(app, *requests):
    """The answers of an app in this process, its lifespan around them."""
    answers = []
    async with app.lifespan():
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for method, path, options in requests:
                answers.append(await client.request(method, path, **options))
    return answers


def test_nothing_is_opened_by_imports_or_by_making_an_app():
    code = (
        "import sys, threading, gc, socket\n"
        "import reprompt_api\n"
        "assert 'litestar' not in sys.modules\n"
        "from reprompt_api import ApiSettings, create_app\n"
        "app = create_app(ApiSettings())\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not [o for o in gc.get_objects() if isinstance(o, socket.socket)]\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'runpod', 'openai', 'opentelemetry.sdk'}\n"
        "print(sorted(heavy & set(sys.modules)), app.state.get('service'))"
    )
    environment = {"REPROMPT_DATA_DIR": "/nonexistent/folder", "REPROMPT_ENCODER": "/nonexistent/encoder", "PATH": ""}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert out.stdout.strip() == "[] None", out.stderr


def test_given_a_pipeline_and_jobs_they_are_used_and_stay_open(core):
    from reprompt_api import ApiSettings, create_app

    async def main():
        async with Pipeline(core) as pipeline, Jobs(pipeline=pipeline) as jobs:
            app = create_app(ApiSettings(previews=0), pipeline=pipeline, jobs=jobs)
            body = {"words": "slow rain", "generator": "musicgen"}
            ready, made = await asked(app, ("GET", "/readyz", {}), ("POST", "/v1/generations", {"json": body}))
            assert ready.json() == {"ready": True, "not_ready": []}
            kept = await jobs.get(made.json()["id"])  # the same database, and still open
            await jobs.cancel(kept.id)
            await jobs.remove(kept.id)
            assert (await pipeline.reprompt("slow rain")).prompt
            return kept.request.words

    assert asyncio.run(main()) == "slow rain"


def test_a_fault_tells_nothing_from_inside(core, is_problem, caplog):
    from reprompt_api import ApiSettings, create_app

    class Broken(Pipeline):
        async def reprompt(self, *args, **options):
            raise ValueError("the secret of the inside at /opt/secret.py")

    async def main():
        async with Broken(core) as pipeline:
            app = create_app(ApiSettings(previews=0), pipeline=pipeline)
            return await asked(
                app,
                ("POST", "/v1/prompts", {"json": {"words": "rain"}}),
                ("POST", "/v1/generations", {"json": {"words": "rain"}}),
                ("GET", "/livez", {}),
            )

    prompts, generations, alive = asyncio.run(main())
    for answer in (prompts, generations):
        is_problem(answer, 500)
        assert "secret" not in answer.text
    assert alive.status_code == 200


def test_a_database_that_goes_away(core, is_problem):
    from reprompt_api import ApiSettings, create_app

    async def main():
        async with Pipeline(core) as pipeline:
            app = create_app(ApiSettings(previews=0), pipeline=pipeline)
            async with app.lifespan():
                transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
                async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                    await pipeline.database.pool.close()
                    ready = await client.get("/readyz")
                    prompts = await client.post("/v1/prompts", json={"words": "rain"})
                    export = await client.get("/v1/comparisons/export")
                    return ready, prompts, export

    ready, prompts, export = asyncio.run(main())
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "not_ready": ["database"]}
    for answer in (prompts, export):
        problem = is_problem(answer, 503)
        assert answer.headers["retry-after"] == "5"
        assert "data" not in problem["detail"].replace("database", "")


def test_before_and_after_its_lifespan_it_says_so(is_problem):
    from reprompt_api import ApiSettings, create_app

    async def main():
        transport = httpx2.ASGITransport(app=create_app(ApiSettings()), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/readyz"), await client.get("/v1/corpora")

    ready, corpora = asyncio.run(main())
    assert ready.status_code == 503
    is_problem(corpora, 503)


def test_other_pages_may_not_unless_they_are_named(core):
    from reprompt_api import ApiSettings, create_app

    music, other = {"Origin": "https://music.example"}, {"Origin": "https://other.example"}
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}

    async def main(origins):
        async with Pipeline(core) as pipeline:
            return await asked(
                create_app(ApiSettings(previews=0, cors_origins=origins, rate_per_minute=3), pipeline=pipeline),
                ("OPTIONS", "/v1/prompts", {"headers": {**music, **ask}}),
                ("OPTIONS", "/v1/prompts", {"headers": {**other, **ask}}),
                ("GET", "/v1/corpora", {"headers": music}),
                ("GET", "/v1/corpora", {"headers": other}),
                ("GET", "/v1/corpora", {"headers": music}),  # refused: the page may know why
            )

    preflight, refused, read, unread, limited = asyncio.run(main(("https://music.example",)))
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://music.example"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-methods" not in refused.headers
    assert "access-control-allow-origin" not in refused.headers
    assert read.headers["access-control-allow-origin"] == "https://music.example"
    assert "Retry-After" in read.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in unread.headers
    assert limited.status_code == 429
    assert limited.headers["access-control-allow-origin"] == "https://music.example"
    assert all(answer.headers["vary"] == "Origin" for answer in (preflight, refused, read, unread, limited))
    for answer in asyncio.run(main(())):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_small_answers_are_sent_at_once():
    from reprompt_api import ApiSettings
    from reprompt_api.server import listen

    with (
        listen(ApiSettings(port=0)) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
