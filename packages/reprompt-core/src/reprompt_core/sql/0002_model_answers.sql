-- Answers of language models that passed all checks, by what they were asked.
CREATE TABLE reprompt.model_answers (
    key     bytea PRIMARY KEY,  -- sha256 of the question
    answers jsonb NOT NULL,     -- the candidates, the chosen one first
    used_at timestamptz NOT NULL DEFAULT now(),
    made_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX model_answers_used ON reprompt.model_answers (used_at);
