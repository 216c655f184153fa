-- One partition of captions for each corpus: loaded apart, indexed by itself, shown and removed in a moment.
ALTER TABLE reprompt.corpora
    ADD COLUMN ready    boolean NOT NULL DEFAULT true,  -- false: being loaded, and not searched
    ADD COLUMN source   text NOT NULL DEFAULT '',     -- name of the file it came from
    ADD COLUMN captions integer NOT NULL DEFAULT 0;   -- how many it has, once it is ready

ALTER TABLE reprompt.captions RENAME TO captions_before;

CREATE SEQUENCE reprompt.caption_ids;

CREATE TABLE reprompt.captions (
    id          bigint NOT NULL DEFAULT nextval('reprompt.caption_ids'),
    corpus_id   integer NOT NULL,
    text        text NOT NULL,
    hash        bytea NOT NULL,               -- of the text, folded: each caption is in a corpus once
    flags       smallint NOT NULL DEFAULT 0,  -- bits of reprompt_core.corpora.flags; 0: may be offered as an example
    genres      text[] NOT NULL DEFAULT '{}',
    instruments text[] NOT NULL DEFAULT '{}',
    embedding   halfvec NOT NULL,             -- unit length; its dimensions are the encoder's
    search      tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED,
    PRIMARY KEY (corpus_id, id)
) PARTITION BY LIST (corpus_id);

-- How many captions of a corpus hold a word, in the form of the full-text search.
CREATE TABLE reprompt.caption_words (
    corpus_id integer NOT NULL REFERENCES reprompt.corpora ON DELETE CASCADE,
    word      text NOT NULL,
    captions  integer NOT NULL,
    PRIMARY KEY (word, corpus_id)
);

-- the shipped captions are loaded anew at the next start; no others could be added before
DROP TABLE reprompt.captions_before;
DELETE FROM reprompt.corpora;
