-- Blind comparisons: the same words with and without rewriting, and what a person preferred.
CREATE TABLE reprompt.comparisons (
    id         uuid PRIMARY KEY,
    tenant     text NOT NULL DEFAULT '',
    words      text NOT NULL,
    seconds    real NOT NULL,
    seed       bigint NOT NULL,
    generator  text NOT NULL,
    -- no foreign keys: a vote outlives the generations, which retention deletes
    raw        uuid NOT NULL,
    rewritten  uuid NOT NULL,
    shown      text NOT NULL CHECK (shown IN ('ab', 'ba')),  -- ab: A is the raw one
    choice     text CHECK (choice IN ('a', 'b', 'none')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    voted_at   timestamptz
);

CREATE INDEX comparisons_newest ON reprompt.comparisons (tenant, created_at DESC);
