-- Every query of the package, by name. Parameters are psycopg's %(name)s.

-- name: lock_migrations
-- One process migrates at a time; the others wait and find the work done.
SELECT pg_advisory_xact_lock(hashtext('reprompt.migrations'));

-- name: create_ledger
CREATE SCHEMA IF NOT EXISTS reprompt;
CREATE TABLE IF NOT EXISTS reprompt.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: has_ledger
SELECT to_regclass('reprompt.migrations') IS NOT NULL;

-- name: applied_migrations
SELECT number FROM reprompt.migrations;

-- name: record_migration
INSERT INTO reprompt.migrations (number, name) VALUES (%(number)s, %(name)s);

-- name: foreign_encoders
-- Corpora whose vectors another encoder made.
SELECT name, encoder FROM reprompt.corpora WHERE encoder <> %(encoder)s ORDER BY name;

-- name: corpus_version
SELECT version FROM reprompt.corpora WHERE name = %(name)s;

-- name: remove_corpus
DELETE FROM reprompt.corpora WHERE name = %(name)s;

-- name: add_corpus
INSERT INTO reprompt.corpora (name, license, encoder, version)
VALUES (%(name)s, %(license)s, %(encoder)s, %(version)s)
RETURNING id;

-- name: copy_captions
COPY reprompt.captions (corpus_id, text, genres, instruments, embedding) FROM STDIN WITH (FORMAT binary);

-- name: count_captions
SELECT k.name, k.license, k.encoder, count(c.id)
FROM reprompt.corpora k LEFT JOIN reprompt.captions c ON c.corpus_id = k.id
GROUP BY k.id ORDER BY k.name;

-- name: caption_texts
-- A batch of captions after an id, for encoding anew.
SELECT id, text FROM reprompt.captions WHERE id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: set_embedding
UPDATE reprompt.captions SET embedding = %(embedding)s WHERE id = %(id)s;

-- name: set_encoder
UPDATE reprompt.corpora SET encoder = %(encoder)s;

-- name: near_captions
-- The captions nearest to a vector and those that share words with a text, fused by reciprocal rank (k = 60).
WITH query AS MATERIALIZED (
    SELECT %(vector)s::halfvec AS vector,
           replace(plainto_tsquery('english', %(text)s)::text, ' & ', ' | ')::tsquery AS words
),
by_vector AS (
    SELECT id, row_number() OVER (ORDER BY distance, id) AS rank
    FROM (
        SELECT c.id, c.embedding <=> q.vector AS distance
        FROM reprompt.captions c, query q
        ORDER BY distance, c.id LIMIT %(limit)s
    ) nearest
),
by_text AS (
    SELECT id, row_number() OVER (ORDER BY relevance DESC, id) AS rank
    FROM (
        SELECT c.id, ts_rank(c.search, q.words) AS relevance
        FROM reprompt.captions c, query q
        WHERE c.search @@ q.words
        ORDER BY relevance DESC, c.id LIMIT %(limit)s
    ) matching
),
fused AS (
    SELECT id, coalesce(1.0 / (60 + v.rank), 0) + coalesce(1.0 / (60 + t.rank), 0) AS score
    FROM by_vector v FULL JOIN by_text t USING (id)
    ORDER BY score DESC, id LIMIT %(limit)s
)
SELECT c.text, k.name, 1 - (c.embedding <=> q.vector), c.genres, c.instruments, c.embedding, f.score::float8
FROM fused f JOIN reprompt.captions c USING (id) JOIN reprompt.corpora k ON k.id = c.corpus_id, query q
ORDER BY f.score DESC, c.id;

-- name: versions
SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector');

-- name: model_answer
-- A kept answer that has not expired; it counts as used now.
UPDATE reprompt.model_answers SET used_at = now()
WHERE key = %(key)s AND made_at > now() - make_interval(days => %(days)s)
RETURNING answers;

-- name: keep_model_answer
-- Keeps an answer, and forgets the expired ones and those least lately used beyond the limit.
WITH kept AS (
    INSERT INTO reprompt.model_answers (key, answers) VALUES (%(key)s, %(answers)s)
    ON CONFLICT (key) DO UPDATE SET answers = excluded.answers, made_at = now(), used_at = now()
    RETURNING key
),
beyond AS (
    SELECT key FROM reprompt.model_answers WHERE key <> %(key)s ORDER BY used_at DESC OFFSET %(limit)s - 1
)
DELETE FROM reprompt.model_answers a USING kept
WHERE a.key <> kept.key
  AND (a.made_at <= now() - make_interval(days => %(days)s) OR a.key IN (SELECT key FROM beyond))
RETURNING a.key;
