-- Generations: what was asked for, how far it is, and what came of it. Their tasks are procrastinate's, whose tables the
-- queue makes from the installed version.
CREATE TABLE reprompt.generations (
    id              uuid PRIMARY KEY,
    tenant          text NOT NULL DEFAULT '',
    idempotency_key text,
    digest          text NOT NULL,  -- sha256 of the request: the same key with another request is refused
    status          text NOT NULL DEFAULT 'queued'
                    CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    generator       text NOT NULL CHECK (generator IN ('preview', 'musicgen', 'runpod')),
    request         jsonb NOT NULL,
    reprompt        jsonb NOT NULL,
    priority        integer NOT NULL DEFAULT 0,
    attempts        integer NOT NULL DEFAULT 0,  -- the current one; what an earlier one still says is not heard
    tries           integer NOT NULL DEFAULT 0,  -- those that count: not the ones that a stopping worker gave back
    progress        real NOT NULL DEFAULT 0,
    cancel          boolean NOT NULL DEFAULT false,  -- asked for while it ran
    remote          jsonb,   -- how far the submission to a serverless endpoint is
    model           text,
    model_revision  text,
    takes           jsonb NOT NULL DEFAULT '[]',
    error           jsonb,
    timings_ms      jsonb NOT NULL DEFAULT '{}',
    task            bigint,  -- of procrastinate
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    kept_at         timestamptz,  -- the last sign of life of whoever makes it
    finished_at     timestamptz,
    UNIQUE (tenant, idempotency_key)
);

CREATE INDEX generations_newest ON reprompt.generations (tenant, created_at DESC, id DESC);
CREATE INDEX generations_open ON reprompt.generations (generator, status) WHERE status IN ('queued', 'running');
CREATE INDEX generations_finished ON reprompt.generations (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX generations_lately ON reprompt.generations (generator, finished_at DESC) WHERE status = 'succeeded';

-- The last word on what is final, behind the conditions of every query.
CREATE FUNCTION reprompt.keep_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'generation % is %: that is final', OLD.id, OLD.status;
END $$;

CREATE TRIGGER keep_final BEFORE UPDATE ON reprompt.generations FOR EACH ROW
WHEN (OLD.status IN ('succeeded', 'failed', 'cancelled') AND OLD IS DISTINCT FROM NEW)
EXECUTE FUNCTION reprompt.keep_final();

CREATE TABLE reprompt.generation_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation uuid NOT NULL REFERENCES reprompt.generations ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('status', 'progress', 'take')),
    data       jsonb NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX generation_events_generation ON reprompt.generation_events (generation, id);

CREATE FUNCTION reprompt.tell_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('reprompt_generations', NEW.generation::text);
    RETURN NULL;
END $$;

CREATE TRIGGER tell_event AFTER INSERT ON reprompt.generation_events FOR EACH ROW EXECUTE FUNCTION reprompt.tell_event();

-- Processes that make music, as they last said.
CREATE TABLE reprompt.workers (
    id             uuid PRIMARY KEY,
    generator      text NOT NULL,
    slots          integer NOT NULL,  -- generations at once
    model          text,
    model_revision text,
    started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
