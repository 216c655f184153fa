-- Every query about generations, by name. What a worker says of a generation counts for its own attempt alone.

-- name: has_queue
SELECT to_regclass('procrastinate_jobs') IS NOT NULL;

-- name: lock_queue
-- One process makes the queue's tables; the others wait and find them.
SELECT pg_advisory_xact_lock(hashtext('reprompt.queue'));

-- name: generation_by_key
SELECT {generation}, digest FROM reprompt.generations WHERE tenant = %(tenant)s AND idempotency_key = %(key)s;

-- name: count_queued
SELECT count(*) FROM reprompt.generations WHERE status = 'queued';

-- name: add_generation
INSERT INTO reprompt.generations
    (id, tenant, idempotency_key, digest, generator, request, reprompt, priority, timings_ms)
VALUES (%(id)s, %(tenant)s, %(key)s, %(digest)s, %(generator)s, %(request)s, %(reprompt)s, %(priority)s, %(timings_ms)s)
ON CONFLICT (tenant, idempotency_key) DO NOTHING
RETURNING {generation};

-- name: set_task
WITH event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_build_object('status', status) FROM reprompt.generations WHERE id = %(id)s
)
UPDATE reprompt.generations SET task = %(task)s WHERE id = %(id)s;

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
    SET status = 'running', attempts = attempts + 1, progress = 0, takes = '[]', started_at = clock_timestamp()
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
    UPDATE reprompt.generations SET progress = greatest(progress, %(progress)s)
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
INSERT INTO reprompt.generation_events (generation, kind, data)
SELECT id, 'take', %(take)s FROM reprompt.generations
WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s
RETURNING id;

-- name: finish_generation
WITH finished AS (
    UPDATE reprompt.generations
    SET status = %(status)s, takes = %(takes)s, error = %(error)s, model = %(model)s, model_revision = %(revision)s,
        progress = CASE WHEN %(status)s = 'succeeded' THEN 1 ELSE progress END, finished_at = clock_timestamp(),
        timings_ms = timings_ms || %(timings_ms)s || jsonb_build_object(
            'queued', round(1000 * extract(epoch FROM started_at - created_at)),
            'running', round(1000 * extract(epoch FROM clock_timestamp() - started_at)))
    WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s
      AND (NOT cancel OR %(status)s <> 'succeeded')
    RETURNING *
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_strip_nulls(jsonb_build_object('status', status, 'error', error)) FROM finished
)
SELECT id FROM finished;

-- name: release_generation
-- An attempt gives up without a result: the generation waits for the next one.
WITH released AS (
    UPDATE reprompt.generations SET status = 'queued', progress = 0
    WHERE id = %(id)s AND status = 'running' AND attempts = %(attempt)s AND NOT cancel
    RETURNING *
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_build_object('status', status) FROM released
)
SELECT id, generator, priority FROM released;

-- name: cancel_generation
-- Queued: it ends here. Running: its worker is told.
WITH chosen AS (
    SELECT id, status FROM reprompt.generations
    WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND status IN ('queued', 'running')
    FOR UPDATE
),
changed AS (
    UPDATE reprompt.generations g
    SET cancel = true,
        status = CASE WHEN chosen.status = 'queued' THEN 'cancelled' ELSE g.status END,
        finished_at = CASE WHEN chosen.status = 'queued' THEN clock_timestamp() END
    FROM chosen WHERE g.id = chosen.id
    RETURNING g.id, g.status, g.task
),
event AS (
    INSERT INTO reprompt.generation_events (generation, kind, data)
    SELECT id, 'status', jsonb_build_object('status', status) FROM changed WHERE status = 'cancelled'
)
SELECT status, task FROM changed;

-- name: remove_generation
DELETE FROM reprompt.generations
WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND status IN ('succeeded', 'failed', 'cancelled')
RETURNING id;

-- name: events_after
SELECT id, kind, data, at FROM reprompt.generation_events
WHERE generation = %(id)s AND id > %(after)s ORDER BY id LIMIT 1000;

-- name: lost_generations
-- Those that should be made but have no task any more, or one whose worker is gone.
SELECT g.id, g.generator, g.status, g.attempts, g.priority, g.cancel, g.task, j.status::text
FROM reprompt.generations g
LEFT JOIN procrastinate_jobs j ON j.id = g.task
LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE g.status IN ('queued', 'running')
  AND (j.id IS NULL OR j.status NOT IN ('todo', 'doing')
       OR (j.status = 'doing' AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => %(stalled_s)s))))
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

-- name: old_generations
SELECT id FROM reprompt.generations
WHERE finished_at < now() - make_interval(days => %(days)s) ORDER BY finished_at LIMIT 500;

-- name: keep_worker
INSERT INTO reprompt.workers (id, generator, slots, model, model_revision)
VALUES (%(id)s, %(generator)s, %(slots)s, %(model)s, %(revision)s)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp() RETURNING id;

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
              WHERE f.finished_at IS NOT NULL AND f.generator = p.generator AND f.status = 'succeeded'
              ORDER BY finished_at DESC LIMIT 20) d)
FROM (VALUES ('preview'), ('musicgen'), ('runpod')) AS p(generator)
LEFT JOIN reprompt.generations g ON g.generator = p.generator AND g.status IN ('queued', 'running')
GROUP BY p.generator;

-- name: add_comparison
INSERT INTO reprompt.comparisons (id, tenant, words, seconds, seed, generator, raw, rewritten, shown)
VALUES (%(id)s, %(tenant)s, %(words)s, %(seconds)s, %(seed)s, %(generator)s, %(raw)s, %(rewritten)s, %(shown)s)
RETURNING {comparison};

-- name: comparison
SELECT {comparison} FROM reprompt.comparisons WHERE id = %(id)s AND tenant = %(tenant)s;

-- name: vote
-- The first vote counts.
UPDATE reprompt.comparisons SET choice = %(choice)s, voted_at = clock_timestamp()
WHERE id = %(id)s AND tenant = %(tenant)s AND choice IS NULL
RETURNING {comparison};

-- name: voted_comparisons
SELECT {comparison} FROM reprompt.comparisons
WHERE tenant = %(tenant)s AND choice IS NOT NULL AND (voted_at, id) > (%(after_at)s, %(after_id)s)
ORDER BY voted_at, id LIMIT 500;
