-- Every query about generations, by name. What a worker says of a generation counts for its own attempt alone.

-- name: has_queue
-- Not to_regclass: a session that once looked for it goes on believing that it is not there, also behind the lock.
SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'procrastinate_jobs'
               AND relnamespace = ANY (SELECT unnest(current_schemas(false))::regnamespace));

-- name: lock_queue
-- One process makes the queue's tables; the others wait and find them.
SELECT pg_advisory_xact_lock(hashtext('reprompt.queue'));

-- name: hold_up_nobody
-- For transactions of several statements: a process that is stopped in the middle of one, or one that waits for such a
-- one, gives up.
SELECT set_config('idle_in_transaction_session_timeout', '10s', true), set_config('lock_timeout', '15s', true);

-- name: lock_admission
-- Whether there is room is asked and answered by one at a time.
SELECT pg_advisory_xact_lock(hashtext('reprompt.admission'));

-- name: generation_by_key
SELECT {generation}, digest FROM reprompt.generations WHERE tenant = %(tenant)s AND idempotency_key = %(key)s;

-- name: count_queued
SELECT count(*) FROM reprompt.generations WHERE status = 'queued';

-- name: add_generation
-- No row: the key is used already.
WITH added AS (
    INSERT INTO reprompt.generations
        (id, tenant, idempotency_key, digest, generator, request, reprompt, priority, timings_ms, task)
    VALUES (%(id)s, %(tenant)s, %(key)s, %(digest)s, %(generator)s, %(request)s, %(reprompt)s, %(priority)s,
            %(timings_ms)s, %(task)s)
    ON CONFLICT (tenant, idempotency_key) DO NOTHING
    RETURNING *
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_build_object('status', status) FROM added
)
SELECT {generation} FROM added;

-- name: set_task
UPDATE reprompt.generations SET task = %(task)s WHERE id = %(id)s;

-- name: drop_task
DELETE FROM procrastinate_jobs WHERE id = %(task)s AND (status = 'todo' OR NOT %(waiting)s) RETURNING id;

-- name: generation
SELECT {generation} FROM reprompt.generations
WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s);

-- name: newest_generations
SELECT {generation} FROM reprompt.generations
WHERE tenant = %(tenant)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(before_at)s::timestamptz IS NULL OR (created_at, id) < (%(before_at)s, %(before_id)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s;

-- name: claim_generation
-- A worker takes it, unless it was cancelled, or another has it.
WITH claimed AS (
    UPDATE reprompt.generations
    SET status = 'running', attempts = attempts + 1, tries = tries + 1, progress = 0,
        started_at = clock_timestamp(), kept_at = clock_timestamp()
    WHERE id = %(id)s AND status = 'queued'
    RETURNING *
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_build_object('status', status, 'attempt', attempts) FROM claimed
)
SELECT {generation}, remote FROM claimed;

-- name: keep_alive
-- How far an attempt is; and what it must know: whether it is still the one, and whether to stop.
WITH told AS (
    UPDATE reprompt.generations SET progress = greatest(progress, %(progress)s), kept_at = clock_timestamp()
    WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s
    RETURNING id, progress, cancel
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'progress', jsonb_build_object('progress', round(progress::numeric, 3)) FROM told WHERE %(tell)s
)
SELECT cancel FROM told;

-- name: set_remote
UPDATE reprompt.generations SET remote = %(remote)s
WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s
RETURNING id;

-- name: tell_take
-- The row is locked first, as every other event's is: ids of a generation's events grow in the order of their commits.
WITH current AS (
    SELECT id FROM reprompt.generations
    WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s
    FOR NO KEY UPDATE
)
INSERT INTO reprompt.generation_events (generation, kind, data) SELECT id, 'take', %(take)s FROM current RETURNING id;

-- name: finish_generation
-- What was to be cancelled is cancelled, whatever came of it. Said twice, since the first answer may have been lost with
-- its connection, it is the same the second time.
WITH finished AS (
    UPDATE reprompt.generations
    SET status = CASE WHEN cancel THEN 'cancelled' ELSE %(status)s END,
        takes = CASE WHEN cancel THEN '[]'::jsonb ELSE %(takes)s::jsonb END,
        error = CASE WHEN NOT cancel THEN %(error)s::jsonb END,
        model = %(model)s, model_revision = %(revision)s,
        progress = CASE WHEN %(status)s = 'succeeded' AND NOT cancel THEN 1 ELSE progress END,
        finished_at = clock_timestamp(),
        timings_ms = timings_ms || %(timings_ms)s || jsonb_build_object(
            'queued', round(1000 * extract(epoch FROM started_at - created_at)),
            'running', round(1000 * extract(epoch FROM clock_timestamp() - started_at)))
    WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s
    RETURNING *
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_strip_nulls(jsonb_build_object('status', status, 'error', error)) FROM finished
)
SELECT status FROM finished
UNION ALL
SELECT status FROM reprompt.generations
WHERE id = %(id)s AND attempts = %(attempt)s AND status IN ('succeeded', 'failed', 'cancelled');

-- name: release_generation
-- An attempt ends without a result. It waits for the next one, unless it was to be cancelled or that was the last try.
WITH released AS (
    UPDATE reprompt.generations
    SET status = CASE WHEN cancel THEN 'cancelled' WHEN %(counts)s AND tries >= %(most)s THEN 'failed' ELSE 'queued' END,
        error = CASE WHEN %(counts)s AND tries >= %(most)s AND NOT cancel THEN %(error)s::jsonb END,
        finished_at = CASE WHEN cancel OR (%(counts)s AND tries >= %(most)s) THEN clock_timestamp() END,
        tries = tries - CASE WHEN %(counts)s THEN 0 ELSE 1 END,
        progress = 0
    WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s
    RETURNING *
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_strip_nulls(jsonb_build_object('status', status, 'error', error)) FROM released
)
SELECT status, generator, priority, tries FROM released;

-- name: cancel_generation
-- Waiting: it ends here. Running, or submitted elsewhere by a worker that died: whoever makes it ends it.
WITH changed AS (
    UPDATE reprompt.generations
    SET cancel = true,
        status = CASE WHEN status = 'queued' AND coalesce(remote ->> 'state', 'waiting') = 'waiting' THEN 'cancelled' ELSE status END,
        finished_at = CASE WHEN status = 'queued' AND coalesce(remote ->> 'state', 'waiting') = 'waiting' THEN clock_timestamp() END
    WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND status IN ('queued', 'running')
    RETURNING id, status, task, attempts
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_build_object('status', status) FROM changed WHERE status = 'cancelled'
)
SELECT status, task, attempts FROM changed;

-- name: remove_generation
DELETE FROM reprompt.generations
WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND status IN ('succeeded', 'failed', 'cancelled')
RETURNING id;

-- name: events_after
SELECT id, kind, data, at FROM reprompt.generation_events
WHERE generation = %(id)s AND id > %(after)s ORDER BY id LIMIT 1000;

-- name: lock_sweep
-- One sweep at a time is enough.
SELECT pg_try_advisory_xact_lock(hashtext('reprompt.sweep'));

-- name: lost_generations
-- Those that run with no sign of life, and those that wait but whose task is gone, or was fetched long ago and came to
-- nothing. While the server was down no one could give a sign.
SELECT g.id, g.generator, g.status, g.tries, g.priority, g.cancel, g.task,
       coalesce(g.remote ->> 'state', 'waiting') <> 'waiting'
FROM reprompt.generations g
LEFT JOIN procrastinate_jobs j ON j.id = g.task
WHERE (g.status = 'running'
       AND greatest(g.kept_at, pg_postmaster_start_time()) < now() - make_interval(secs => %(stalled_s)s))
   OR (g.status = 'queued' AND (j.status IS NULL OR j.status <> 'todo')
       AND NOT EXISTS (SELECT FROM procrastinate_events e
                       WHERE e.job_id = j.id AND j.status = 'doing' AND e.type = 'started'
                         AND greatest(e.at, pg_postmaster_start_time()) > now() - make_interval(secs => %(stalled_s)s)))
ORDER BY g.created_at LIMIT 1000
FOR UPDATE OF g SKIP LOCKED;

-- name: requeue_generation
WITH requeued AS (
    UPDATE reprompt.generations SET status = 'queued', progress = 0, task = %(task)s WHERE id = %(id)s
    RETURNING id, status
)
INSERT INTO reprompt.generation_events (generation, kind, data)
SELECT id, 'status', jsonb_build_object('status', status) FROM requeued;

-- name: end_lost_generation
WITH ended AS (
    UPDATE reprompt.generations SET status = %(status)s, error = %(error)s, finished_at = clock_timestamp() WHERE id = %(id)s
    RETURNING *
)
INSERT INTO reprompt.generation_events (generation, kind, data)
SELECT id, 'status', jsonb_strip_nulls(jsonb_build_object('status', status, 'error', error)) FROM ended;

-- name: drop_leftover_tasks
-- Tasks whose generation is final or gone, and whose worker could not say so.
DELETE FROM procrastinate_jobs j
WHERE j.task_name = %(name)s AND j.status <> 'todo'
  AND NOT EXISTS (SELECT FROM reprompt.generations g WHERE g.task = j.id AND g.status IN ('queued', 'running'))
  AND NOT EXISTS (SELECT FROM procrastinate_events e
                  WHERE e.job_id = j.id AND e.at > now() - make_interval(secs => %(stalled_s)s));

-- name: old_generations
SELECT id FROM reprompt.generations
WHERE finished_at < now() - make_interval(days => %(days)s) ORDER BY finished_at LIMIT %(limit)s;

-- name: keep_worker
INSERT INTO reprompt.workers (id, generator, slots, model, model_revision)
VALUES (%(id)s, %(generator)s, %(slots)s, %(model)s, %(revision)s)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), model = excluded.model, model_revision = excluded.model_revision
RETURNING id;

-- name: remove_worker
DELETE FROM reprompt.workers WHERE id = %(id)s RETURNING id;

-- name: forget_workers
DELETE FROM reprompt.workers WHERE seen_at < now() - interval '1 hour' RETURNING id;

-- name: live_workers
SELECT generator, sum(slots)::integer, min(model), min(model_revision) FROM reprompt.workers
WHERE seen_at > now() - make_interval(secs => %(stalled_s)s) GROUP BY generator;

-- name: queue_state
-- How many wait and run at each place, and how long the last ones took.
SELECT p.generator,
       count(*) FILTER (WHERE g.status = 'queued'), count(*) FILTER (WHERE g.status = 'running'),
       (SELECT avg(extract(epoch FROM d.finished_at - d.started_at))::float8
        FROM (SELECT finished_at, started_at FROM reprompt.generations f
              WHERE f.generator = p.generator AND f.status = 'succeeded'
              ORDER BY finished_at DESC LIMIT 20) d)
FROM (VALUES ('preview'), ('musicgen'), ('runpod')) AS p(generator)
LEFT JOIN reprompt.generations g ON g.generator = p.generator AND g.status IN ('queued', 'running')
GROUP BY p.generator;
