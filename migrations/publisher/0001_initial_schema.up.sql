CREATE TABLE posts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    reddit_post_id TEXT UNIQUE NOT NULL,
    title TEXT NOT NULL,
    subreddit TEXT NOT NULL,
    score INTEGER DEFAULT 0,
    num_comments INTEGER DEFAULT 0,
    created_ts TIMESTAMPTZ NOT NULL,

    -- What the analysis found
    summary_ko TEXT,
    tags JSONB,
    pain_points JSONB,
    product_ideas JSONB,

    -- Where it was published
    ghost_url TEXT,
    ghost_post_id TEXT,
    ghost_slug TEXT,

    content_hash TEXT,
    takedown_status TEXT DEFAULT 'active' CHECK (takedown_status IN ('active', 'takedown_pending', 'removed')),
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE media_files (
    id SERIAL PRIMARY KEY,
    post_id UUID REFERENCES posts (id) ON DELETE CASCADE,
    original_url TEXT NOT NULL,
    ghost_url TEXT,
    file_type TEXT,
    file_size INTEGER,
    processed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE processing_logs (
    id SERIAL PRIMARY KEY,
    post_id UUID REFERENCES posts (id) ON DELETE CASCADE,
    service_name TEXT NOT NULL,
    status TEXT NOT NULL,
    error_message TEXT,
    processing_time_ms INTEGER,
    created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE token_usage (
    id SERIAL PRIMARY KEY,
    post_id UUID REFERENCES posts (id) ON DELETE CASCADE,
    service TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER DEFAULT 0,
    output_tokens INTEGER DEFAULT 0,
    cost_usd DECIMAL(10,6),
    created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE UNIQUE INDEX idx_posts_reddit_post_id ON posts (reddit_post_id);
-- The specification writes CREATE UNIQUE CONSTRAINT, which is no SQL.
ALTER TABLE posts ADD CONSTRAINT uq_posts_ghost_post_id UNIQUE (ghost_post_id);

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

CREATE TRIGGER update_posts_updated_at
BEFORE UPDATE ON posts
FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
