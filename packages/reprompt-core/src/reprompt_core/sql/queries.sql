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

-- name: corpus
SELECT id, license, encoder, version, ready, source, added_at FROM reprompt.corpora WHERE name = %(name)s;

-- name: add_corpus
INSERT INTO reprompt.corpora (name, license, encoder, version, source, ready)
VALUES (%(name)s, %(license)s, %(encoder)s, %(version)s, %(source)s, false)
RETURNING id;

-- name: remove_corpus
DELETE FROM reprompt.corpora WHERE name = %(name)s RETURNING id;

-- name: show_corpus
-- The corpus may be searched from now on.
UPDATE reprompt.corpora
SET ready = true, captions = (SELECT count(*) FROM reprompt.captions c WHERE c.corpus_id = %(id)s)
WHERE id = %(id)s;

-- name: shown_corpora
SELECT name, license FROM reprompt.corpora WHERE ready ORDER BY name;

-- name: lock_corpus
-- One process changes a corpus at a time; held until the connection closes.
SELECT pg_try_advisory_lock(hashtext('reprompt.corpus'), hashtext(%(name)s));

-- name: unlock_corpus
SELECT pg_advisory_unlock(hashtext('reprompt.corpus'), hashtext(%(name)s));

-- name: count_words
-- How many captions of a corpus hold each word.
INSERT INTO reprompt.caption_words (corpus_id, word, captions)
SELECT %(id)s, word, ndoc FROM ts_stat(%(captions)s);

-- name: list_corpora
SELECT k.id, k.name, k.license, k.encoder, k.ready, k.source, k.added_at,
       k.captions, (SELECT count(*) FROM reprompt.captions c WHERE c.corpus_id = k.id AND c.flags <> 0)
FROM reprompt.corpora k ORDER BY k.name;

-- name: some_captions
SELECT text, flags, genres, instruments FROM reprompt.captions WHERE corpus_id = %(id)s ORDER BY id LIMIT %(limit)s;

-- name: captions_with_vectors
SELECT text, flags, genres, instruments, embedding FROM reprompt.captions WHERE corpus_id = %(id)s ORDER BY id;

-- name: count_captions
SELECT k.name, k.license, k.encoder, count(c.id)
FROM reprompt.corpora k LEFT JOIN reprompt.captions c ON c.corpus_id = k.id
GROUP BY k.id ORDER BY k.name;

-- name: corpus_ids
SELECT id, ready FROM reprompt.corpora ORDER BY id;

-- name: remove_unfinished
DELETE FROM reprompt.corpora WHERE id = %(id)s AND NOT ready;

-- name: caption_texts
-- A batch of a corpus's captions after an id, for encoding anew.
SELECT id, text FROM reprompt.captions WHERE corpus_id = %(id)s AND id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: set_embedding
UPDATE reprompt.captions SET embedding = %(embedding)s WHERE corpus_id = %(corpus)s AND id = %(id)s;

-- name: set_encoder
UPDATE reprompt.corpora SET encoder = %(encoder)s;

-- name: near_captions
-- The captions nearest to a vector, and those that share words with a text, with both measures for each of them.
-- Of the words the rarest are looked up first, for as long as all captions that hold them are few enough to rank.
-- Corpora are taken one by one, so that one that is not asked for costs nothing.
-- A word counts less in a long caption, as in BM25 (Robertson & Zaragoza 2009) with k1 = 1.2, b = .75, each word once and
-- 25 words as the usual length: 2.2 / (1 + 1.2 * (.25 + .75 * length / 25)).
WITH shown AS MATERIALIZED (
    SELECT id, name, license, captions FROM reprompt.corpora
    WHERE ready AND (%(corpora)s::text[] IS NULL OR name = ANY(%(corpora)s::text[]))
      AND (%(licenses)s::text[] IS NULL OR license = ANY(%(licenses)s::text[]))
),
words AS MATERIALIZED (
    SELECT word, ln(1 + (SELECT sum(captions) FROM shown)::float8 / w.captions) AS weight, w.captions,
           quote_literal(word)::tsquery AS query
    FROM unnest(tsvector_to_array(to_tsvector('english', %(text)s))) AS t(word),
         LATERAL (SELECT sum(n.captions) AS captions FROM reprompt.caption_words n
                  WHERE n.word = t.word AND n.corpus_id IN (SELECT id FROM shown)) w
    WHERE w.captions > 0
),
rarest AS MATERIALIZED (
    SELECT weight, query
    FROM (SELECT weight, query, sum(captions) OVER (ORDER BY captions, word) AS reach FROM words) counted
    WHERE reach <= %(reach)s
),
by_text AS MATERIALIZED (
    SELECT k.id AS corpus_id, c.id
    FROM shown k, LATERAL (
        SELECT c.id, sum(r.weight / (1.3 + 0.036 * length(c.search))) AS weight
        FROM rarest r JOIN reprompt.captions c ON c.search @@ r.query
        WHERE c.corpus_id = k.id AND (c.flags = 0 OR %(flagged)s)
        GROUP BY c.id ORDER BY weight DESC, c.id LIMIT %(limit)s) c
    ORDER BY c.weight DESC, c.id LIMIT %(limit)s
),
by_vector AS MATERIALIZED (
    SELECT k.id AS corpus_id, c.id
    FROM shown k, LATERAL (
        (SELECT c.id, c.embedding::halfvec({dimensions}) <=> %(vector)s::halfvec({dimensions}) AS distance
         FROM reprompt.captions c WHERE c.corpus_id = k.id AND c.flags = 0 ORDER BY distance LIMIT %(limit)s)
        UNION ALL
        (SELECT c.id, c.embedding::halfvec({dimensions}) <=> %(vector)s::halfvec({dimensions}) AS distance
         FROM reprompt.captions c WHERE %(flagged)s AND c.corpus_id = k.id AND c.flags <> 0
         ORDER BY distance LIMIT %(limit)s)) c
    ORDER BY c.distance LIMIT %(limit)s
),
found AS (SELECT * FROM by_text UNION SELECT * FROM by_vector)
SELECT c.text, k.name, k.license, c.genres, c.instruments, c.embedding,
       1 - (c.embedding::halfvec({dimensions}) <=> %(vector)s::halfvec({dimensions})),
       coalesce((SELECT sum(w.weight) FROM words w WHERE c.search @@ w.query) / (SELECT sum(weight) FROM words), 0)
           * 2.2 / (1.3 + 0.036 * length(c.search))
FROM found JOIN reprompt.captions c USING (corpus_id, id) JOIN shown k ON k.id = c.corpus_id;

-- name: own_concepts
-- The concepts that a team brought.
SELECT kind, name, source, data, added_at FROM reprompt.concepts ORDER BY kind, name;

-- name: keep_concept
INSERT INTO reprompt.concepts (kind, name, source, data) VALUES (%(kind)s, %(name)s, %(source)s, %(data)s)
ON CONFLICT (kind, name) DO UPDATE SET source = excluded.source, data = excluded.data, added_at = now();

-- name: remove_concepts
DELETE FROM reprompt.concepts WHERE name = ANY(%(names)s) RETURNING kind, name;

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
