CREATE TYPE job_status AS ENUM ('pending', 'processing', 'completed', 'failed', 'cancelled', 'timeout');
CREATE TYPE element_type AS ENUM ('video', 'image', 'audio', 'text', 'overlay');
CREATE TYPE fit_mode AS ENUM ('auto', 'contain', 'cover', 'fill', 'stretch');
CREATE TYPE processing_step AS ENUM
    ('validation', 'download', 'processing', 'composition', 'encoding', 'upload', 'cleanup');
CREATE TYPE storage_operation AS ENUM ('upload', 'download', 'delete', 'access');
CREATE TYPE response_type AS ENUM ('immediate', 'async');

-- Videos to be made: what was asked, by whom, how far it is and where the result lies.
CREATE TABLE jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    status job_status NOT NULL DEFAULT 'pending',
    response_type response_type NOT NULL DEFAULT 'async',
    output_format text NOT NULL CHECK (output_format IN ('mp4', 'mov', 'webm', 'gif', 'mkv', 'avi')),
    width integer NOT NULL CHECK (width BETWEEN 1 AND 7680),
    height integer NOT NULL CHECK (height BETWEEN 1 AND 7680),
    fps numeric(6, 3) NOT NULL DEFAULT 25 CHECK (fps > 0 AND fps <= 240),
    duration_seconds numeric(10, 3) CHECK (duration_seconds > 0 AND duration_seconds <= 86400),
    request_payload jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(request_payload) = 'object'),
    priority integer NOT NULL DEFAULT 0,
    -- Who asked
    client_ip inet,
    user_agent text,
    -- How far it is
    progress_percentage numeric(5, 2) NOT NULL DEFAULT 0 CHECK (progress_percentage BETWEEN 0 AND 100),
    current_step processing_step,
    worker_id text,
    retry_count integer NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    max_retries integer NOT NULL DEFAULT 3 CHECK (max_retries >= 0),
    -- Counts how often it was put in the queue. Its steps tell which time they belong to.
    attempt integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
    -- Kept by the triggers of elements.
    total_elements integer NOT NULL DEFAULT 0,
    completed_elements integer NOT NULL DEFAULT 0 CHECK (completed_elements >= 0),
    failed_elements integer NOT NULL DEFAULT 0 CHECK (failed_elements >= 0),
    error_code text,
    error_message text,
    -- The result, in Amazon S3
    s3_bucket text,
    s3_key text,
    s3_region text,
    output_url text,
    url_expires_at timestamptz,
    file_size_bytes bigint CHECK (file_size_bytes >= 0),
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    completed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (completed_elements + failed_elements <= total_elements),
    CHECK (isfinite(created_at) AND isfinite(started_at) AND isfinite(completed_at) AND isfinite(updated_at)
        AND created_at < '10000-01-01 00:00:00+00')
);

-- What a video is composed of.
CREATE TABLE elements (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    element_type element_type NOT NULL,
    source_url text,
    text_content text,
    -- Where it stands
    track integer NOT NULL DEFAULT 0 CHECK (track >= 0),
    z_index integer NOT NULL DEFAULT 0,
    x numeric(10, 3) NOT NULL DEFAULT 0 CHECK (x <> 'NaN'),
    y numeric(10, 3) NOT NULL DEFAULT 0 CHECK (y <> 'NaN'),
    width numeric(10, 3) CHECK (width > 0 AND width <> 'NaN'),
    height numeric(10, 3) CHECK (height > 0 AND height <> 'NaN'),
    fit_mode fit_mode NOT NULL DEFAULT 'auto',
    rotation numeric(6, 2) NOT NULL DEFAULT 0 CHECK (rotation <> 'NaN'),
    opacity numeric(4, 3) NOT NULL DEFAULT 1 CHECK (opacity BETWEEN 0 AND 1),
    volume numeric(4, 3) CHECK (volume >= 0 AND volume <> 'NaN'),
    -- When it is seen or heard, in seconds of the video
    start_time numeric(10, 3) NOT NULL DEFAULT 0 CHECK (start_time >= 0 AND start_time <> 'NaN'),
    duration numeric(10, 3) CHECK (duration > 0 AND duration <> 'NaN'),
    processing_status job_status NOT NULL DEFAULT 'pending',
    processing_time_ms integer CHECK (processing_time_ms >= 0),
    error_message text,
    properties jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(properties) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE storage_operations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id uuid REFERENCES jobs (id) ON DELETE CASCADE,
    operation storage_operation NOT NULL,
    bucket text NOT NULL,
    object_key text NOT NULL,
    success boolean NOT NULL DEFAULT true,
    file_size_bytes bigint CHECK (file_size_bytes >= 0),
    duration_ms integer CHECK (duration_ms >= 0),
    http_status integer CHECK (http_status BETWEEN 100 AND 599),
    error_message text,
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now() CHECK (created_at < 'infinity')
);

CREATE TABLE processing_timeline (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step processing_step NOT NULL,
    -- The job's attempt that it belongs to; null is set to the present one.
    attempt integer NOT NULL CHECK (attempt > 0),
    -- null: the step has not ended
    success boolean,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
        CHECK (started_at > '-infinity' AND started_at < 'infinity'),
    completed_at timestamptz CHECK (completed_at > '-infinity' AND completed_at < 'infinity'),
    duration_ms bigint CHECK (duration_ms >= 0),
    cpu_percent numeric(6, 2) CHECK (cpu_percent >= 0 AND cpu_percent <> 'NaN'),
    memory_mb numeric(12, 2) CHECK (memory_mb >= 0 AND memory_mb <> 'NaN'),
    disk_mb numeric(12, 2) CHECK (disk_mb >= 0 AND disk_mb <> 'NaN'),
    message text,
    error_message text,
    details jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    CHECK ((success IS NULL) = (completed_at IS NULL))
);

CREATE TABLE url_access_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid REFERENCES jobs (id) ON DELETE CASCADE,
    url text NOT NULL,
    access_type text NOT NULL DEFAULT 'download' CHECK (access_type IN ('download', 'stream', 'preview', 'head')),
    client_ip inet,
    user_agent text,
    referer text,
    country text,
    city text,
    http_status integer CHECK (http_status BETWEEN 100 AND 599),
    bytes_sent bigint CHECK (bytes_sent >= 0),
    response_time_ms integer CHECK (response_time_ms >= 0),
    accessed_at timestamptz NOT NULL DEFAULT now() CHECK (accessed_at < 'infinity')
);

CREATE TABLE system_metrics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    metric_name text NOT NULL,
    metric_value numeric NOT NULL,
    unit text,
    labels jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
    alert_threshold numeric,
    is_alert boolean GENERATED ALWAYS AS (alert_threshold IS NOT NULL AND metric_value >= alert_threshold) STORED,
    recorded_at timestamptz NOT NULL DEFAULT now() CHECK (recorded_at < 'infinity'),
    -- Neither NaN nor, from PostgreSQL 14 on, infinite.
    CHECK (metric_value::text NOT IN ('NaN', 'Infinity', '-Infinity')),
    CHECK (alert_threshold::text NOT IN ('NaN', 'Infinity', '-Infinity'))
);

-- The summaries that dashboards read, kept by triggers. A statement does not change a row of a summary, on which it
-- would wait for others: it appends to the table of changes, and fold_statistics() adds the changes up now and then.
-- What holds is the sum of both.
CREATE TABLE job_statistics (
    -- The hour in which the jobs were made.
    hour timestamptz NOT NULL,
    status job_status NOT NULL,
    jobs bigint NOT NULL,
    -- Of the jobs that were completed and have both times: how many, and the sum of their processing times.
    timed_jobs bigint NOT NULL,
    processing_seconds numeric NOT NULL,
    output_bytes numeric NOT NULL,
    elements bigint NOT NULL,
    PRIMARY KEY (hour, status)
);

-- How long the completed jobs of a day (UTC) took, as a histogram: bucket n counts those of 1.02^n seconds, up to 2 %
-- more.
CREATE TABLE job_durations (
    day date NOT NULL,
    bucket integer NOT NULL,
    jobs bigint NOT NULL,
    PRIMARY KEY (day, bucket)
);

CREATE TABLE job_statistics_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hour timestamptz NOT NULL,
    status job_status NOT NULL,
    bucket integer,
    jobs bigint NOT NULL,
    timed_jobs bigint NOT NULL,
    processing_seconds numeric NOT NULL,
    output_bytes numeric NOT NULL,
    elements bigint NOT NULL
);

-- The accesses to the URLs of a job, also those whose log entries have been removed since.
CREATE TABLE url_access_totals (
    job_id uuid PRIMARY KEY,
    accesses bigint NOT NULL,
    errors bigint NOT NULL,
    total_bytes numeric NOT NULL,
    responses bigint NOT NULL,
    response_time_ms numeric NOT NULL,
    first_access timestamptz NOT NULL,
    last_access timestamptz NOT NULL
);

CREATE TABLE url_access_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL,
    -- The job was removed, and its totals go with it.
    is_removed boolean NOT NULL DEFAULT false,
    accesses bigint NOT NULL DEFAULT 0,
    errors bigint NOT NULL DEFAULT 0,
    total_bytes numeric NOT NULL DEFAULT 0,
    responses bigint NOT NULL DEFAULT 0,
    response_time_ms numeric NOT NULL DEFAULT 0,
    first_access timestamptz,
    last_access timestamptz
);

CREATE INDEX idx_jobs_status ON jobs (status, created_at);
CREATE INDEX idx_jobs_client_ip ON jobs (client_ip, created_at DESC);
CREATE INDEX idx_jobs_created_at ON jobs (created_at DESC);
CREATE INDEX idx_jobs_queue ON jobs (priority DESC, created_at, id) WHERE status = 'pending';
CREATE INDEX idx_jobs_pending ON jobs (created_at) WHERE status = 'pending';
CREATE INDEX idx_jobs_active ON jobs (updated_at) WHERE status IN ('pending', 'processing');
CREATE INDEX idx_jobs_processing ON jobs (updated_at) WHERE status = 'processing';
CREATE INDEX idx_jobs_completed ON jobs (completed_at DESC) WHERE status = 'completed';
CREATE INDEX idx_jobs_failed ON jobs (completed_at DESC) WHERE status IN ('failed', 'timeout');
CREATE INDEX idx_elements_job_id ON elements (job_id, track, z_index);
CREATE INDEX idx_elements_unfinished ON elements (job_id) WHERE processing_status IN ('pending', 'processing');
CREATE INDEX idx_storage_operations_job_id ON storage_operations (job_id, created_at);
CREATE INDEX idx_storage_operations_created_at ON storage_operations (created_at DESC);
CREATE INDEX idx_processing_timeline_job_id ON processing_timeline (job_id, started_at);
CREATE INDEX idx_processing_timeline_started_at ON processing_timeline (started_at DESC);
CREATE INDEX idx_url_access_logs_job_id ON url_access_logs (job_id, accessed_at);
CREATE INDEX idx_url_access_logs_accessed_at ON url_access_logs (accessed_at DESC);
CREATE INDEX idx_system_metrics_name ON system_metrics (metric_name, recorded_at DESC);
CREATE INDEX idx_system_metrics_recorded_at ON system_metrics (recorded_at DESC);
CREATE INDEX idx_system_metrics_security ON system_metrics (coalesce(labels ->> 'client_ip', ''), recorded_at DESC)
    WHERE metric_name = 'security_event';
CREATE INDEX idx_job_statistics_status ON job_statistics (status) WHERE jobs <> 0;
CREATE INDEX idx_job_statistics_empty ON job_statistics (hour) WHERE jobs = 0;
CREATE INDEX idx_job_durations_empty ON job_durations (day) WHERE jobs = 0;
CREATE INDEX idx_url_access_totals_accesses ON url_access_totals (accesses DESC);
CREATE INDEX idx_url_access_totals_last_access ON url_access_totals (last_access DESC);
CREATE INDEX idx_url_access_changes_job_id ON url_access_changes (job_id);
CREATE INDEX idx_system_metrics_alerts ON system_metrics (recorded_at DESC) WHERE is_alert;
