CREATE TABLE posts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    reddit_post_id TEXT UNIQUE NOT NULL CHECK (length(reddit_post_id) BETWEEN 1 AND 200),
    title TEXT NOT NULL,
    subreddit TEXT NOT NULL,
    score INTEGER DEFAULT 0,
    num_comments INTEGER DEFAULT 0 CHECK (num_comments >= 0),
    created_ts TIMESTAMPTZ NOT NULL,

    -- What the analysis found. Drivers write JSON null for none; analyses give lists, and objects with lists in them.
    summary_ko TEXT,
    tags JSONB CHECK (jsonb_typeof(tags) IN ('array', 'null')),
    pain_points JSONB CHECK (jsonb_typeof(pain_points) IN ('array', 'object', 'null')),
    product_ideas JSONB CHECK (jsonb_typeof(product_ideas) IN ('array', 'object', 'null')),

    -- Where it was published
    ghost_url TEXT,
    ghost_post_id TEXT CHECK (length(ghost_post_id) BETWEEN 1 AND 200),
    ghost_slug TEXT,

    content_hash TEXT CHECK (length(content_hash) BETWEEN 1 AND 200),
    takedown_status TEXT NOT NULL DEFAULT 'active' CHECK (takedown_status IN ('active', 'takedown_pending', 'removed')),
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE media_files (
    id SERIAL PRIMARY KEY,
    post_id UUID REFERENCES posts (id) ON DELETE CASCADE,
    original_url TEXT NOT NULL,
    ghost_url TEXT,
    file_type TEXT,
    file_size INTEGER CHECK (file_size >= 0),
    processed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE processing_logs (
    id SERIAL PRIMARY KEY,
    post_id UUID REFERENCES posts (id) ON DELETE CASCADE,
    service_name TEXT NOT NULL,
    status TEXT NOT NULL,
    error_message TEXT,
    processing_time_ms INTEGER CHECK (processing_time_ms >= 0),
    created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE token_usage (
    id SERIAL PRIMARY KEY,
    post_id UUID REFERENCES posts (id) ON DELETE CASCADE,
    service TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER DEFAULT 0 CHECK (input_tokens >= 0),
    output_tokens INTEGER DEFAULT 0 CHECK (output_tokens >= 0),
    -- NaN is greater than every number.
    cost_usd DECIMAL(10,6) CHECK (cost_usd >= 0 AND cost_usd < 'NaN'),
    created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE UNIQUE INDEX idx_posts_reddit_post_id ON posts (reddit_post_id);
-- The specification writes CREATE UNIQUE CONSTRAINT, which is no SQL.
ALTER TABLE posts ADD CONSTRAINT uq_posts_ghost_post_id UNIQUE (ghost_post_id);
-- The same content under another id is a repost: it is not published twice, and what was removed does not come back.
-- Imports say ON CONFLICT DO NOTHING for both keys, and insert in the order of reddit_post_id, so that two of them do
-- not wait for each other in a circle.
ALTER TABLE posts ADD CONSTRAINT uq_posts_content_hash UNIQUE (content_hash);

CREATE INDEX idx_posts_created_ts ON posts (created_ts);
CREATE INDEX idx_posts_subreddit ON posts (subreddit);
CREATE INDEX idx_processing_logs_post_id ON processing_logs (post_id);
CREATE INDEX idx_token_usage_created_at ON token_usage (created_at);

CREATE OR REPLACE FUNCTION update_updated_at_column()
RETURNS TRIGGER SET search_path FROM CURRENT AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$ language 'plpgsql';
REVOKE EXECUTE ON FUNCTION update_updated_at_column() FROM PUBLIC;

CREATE TRIGGER update_posts_updated_at
BEFORE UPDATE ON posts
FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
