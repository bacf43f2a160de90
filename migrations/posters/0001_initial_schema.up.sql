CREATE TYPE job_status AS ENUM ('pending', 'processing', 'completed', 'failed');
CREATE TYPE log_level AS ENUM ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL');

CREATE TABLE generated_posters (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    job_id VARCHAR(100) NOT NULL,
    user_identifier VARCHAR(255),
    username VARCHAR(255),
    display_name VARCHAR(255),
    poster_url VARCHAR(500),
    s3_key VARCHAR(500),
    status job_status NOT NULL DEFAULT 'pending',
    processing_time_ms INTEGER CHECK (processing_time_ms >= 0),
    error_message TEXT,
    metadata JSONB DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);
COMMENT ON COLUMN generated_posters.metadata IS 'what the CSV or the profile API tells of the user: user_id, display_name, profile_pic, bio, fetched_from_api';

-- The counters belong to the application: it also counts items that never became a poster, for instance because the
-- user's profile was not found. So they need not agree with the posters that are there, nor with total_items, which is
-- 0 while it is unknown. finish_poster (0002) counts exactly for workers that use it.
CREATE TABLE batch_jobs (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    job_id VARCHAR(100) UNIQUE NOT NULL,
    campaign_name VARCHAR(255),
    status job_status NOT NULL DEFAULT 'pending',
    total_items INTEGER NOT NULL DEFAULT 0 CHECK (total_items >= 0),
    processed_items INTEGER NOT NULL DEFAULT 0 CHECK (processed_items >= 0),
    success_count INTEGER NOT NULL DEFAULT 0 CHECK (success_count >= 0),
    failure_count INTEGER NOT NULL DEFAULT 0 CHECK (failure_count >= 0),
    template_html TEXT,
    template_url VARCHAR(500),
    poster_size VARCHAR(50),
    model VARCHAR(50),
    user_identifiers TEXT,
    metadata JSONB DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    error_message TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    started_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);

-- A job_id may be of no batch: the application also logs what it does itself.
CREATE TABLE job_logs (
    id SERIAL PRIMARY KEY,
    job_id VARCHAR(100) NOT NULL,
    level log_level DEFAULT 'INFO',
    message TEXT NOT NULL,
    details JSONB DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);

-- A failure goes with its poster, so that a poster can be deleted while a worker records another failure of it.
CREATE TABLE poster_failure_details (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    job_id VARCHAR(100) NOT NULL,
    poster_id UUID REFERENCES generated_posters (id) ON DELETE CASCADE,
    user_identifier VARCHAR(255),
    username VARCHAR(255),
    failure_type VARCHAR(100),
    error_message TEXT,
    error_details JSONB DEFAULT '{}' CHECK (jsonb_typeof(error_details) = 'object'),
    retry_count INTEGER DEFAULT 0 CHECK (retry_count >= 0),
    html_template TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);
COMMENT ON COLUMN poster_failure_details.failure_type IS 'api_error, timeout or validation_error';
COMMENT ON COLUMN poster_failure_details.retry_count IS 'how often the poster was tried again after this failure';
