"""Jobs behind PgBouncer in transaction mode, where nothing of a session holds: no notices, no prepared statements."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from reprompt_core import Settings
from working import DEADLINE_S, Rig, TestMaker, new_database, quickly, request, working


class Pooled(Rig):
    """A rig whose processes are told that there is a pooler."""

    def settings(self, **more: Any) -> Settings:
        """Without prepared statements."""
        return super().settings(database_prepare=False, **more)


@contextlib.contextmanager
def pooler(url: str, folder: Path) -> Iterator[str]:
    """The address of a PgBouncer before the database."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    folder.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server, config = conninfo_to_dict(url), folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\nreprompt = host={server['host']} dbname={server['dbname']} user=postgres\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
        "default_pool_size = 3\nserver_reset_query = DISCARD ALL\nserver_reset_query_always = 1\n"
    )
    user = ["-u", Path(str(server["host"])).owner()] if os.geteuid() == 0 else []  # who may use the server's socket
    with subprocess.Popen([program, "-q", *user, str(config)]) as process:
        try:
            end = time.monotonic() + DEADLINE_S
            while time.monotonic() < end:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"postgresql://postgres@127.0.0.1:{port}/reprompt"
        finally:
            process.kill()


def test_generations_are_accepted_made_followed_and_cancelled_through_a_pooler(
    environment: None, tmp_path: Path
) -> None:
    async def work() -> None:
        maker = TestMaker(quickly)
        async with rig.jobs() as jobs, working(jobs, maker):
            asked = [jobs.submit(request(), key=f"key {i % 5}") for i in range(20)]
            ids = {g.id for g in await asyncio.gather(*asked)}
            assert len(ids) == 5
            for id in ids:
                assert (await jobs.wait(id, timeout_s=DEADLINE_S)).status == "succeeded"
            assert sorted(maker.made) == sorted(ids)
            waiting = await jobs.submit(request(generator="musicgen"))
            following = asyncio.create_task(jobs.wait(waiting.id, timeout_s=DEADLINE_S))
            await asyncio.sleep(0)
            await jobs.cancel(waiting.id)
            assert (await following).status == "cancelled"

    with new_database() as url, pooler(url, tmp_path) as pooled, Pooled(pooled, tmp_path) as rig:
        rig.run(work())
