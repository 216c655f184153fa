-- Corpora of music captions and their vectors.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE reprompt.corpora (
    id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text NOT NULL UNIQUE,
    license  text NOT NULL,
    encoder  text NOT NULL,  -- fingerprint of the encoder of its vectors
    version  text NOT NULL,  -- of the shipped knowledge; empty for corpora that a team brings
    added_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE reprompt.captions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    corpus_id   integer NOT NULL REFERENCES reprompt.corpora ON DELETE CASCADE,
    text        text NOT NULL,
    genres      text[] NOT NULL DEFAULT '{}',
    instruments text[] NOT NULL DEFAULT '{}',
    embedding   halfvec NOT NULL,  -- unit length; its dimensions are the encoder's
    search      tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED
);

CREATE INDEX captions_corpus ON reprompt.captions (corpus_id);
CREATE INDEX captions_search ON reprompt.captions USING gin (search);
