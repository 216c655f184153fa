-- Concepts that a team brings: the dishes of a menu, the places of a brand.
CREATE TABLE reprompt.concepts (
    kind     text NOT NULL,
    name     text NOT NULL,
    source   text NOT NULL,   -- name of the file it came from
    data     jsonb NOT NULL,  -- its cells that are not empty, by column
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);
