-- Every query about blind comparisons, by name.

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
