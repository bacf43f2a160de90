-- Uploaded files and how far they are.
CREATE TABLE csv_batches (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    filename text NOT NULL,
    original_filename text NOT NULL,
    file_size_bytes bigint CHECK (file_size_bytes >= 0),
    csv_headers text[] NOT NULL DEFAULT '{}',
    storage_path text,
    status text NOT NULL DEFAULT 'uploaded'
        CHECK (status IN ('uploaded', 'queued', 'processing', 'completed', 'failed', 'cancelled')),
    total_rows integer NOT NULL DEFAULT 0,
    processed_rows integer NOT NULL DEFAULT 0,
    successful_rows integer NOT NULL DEFAULT 0 CHECK (successful_rows >= 0),
    failed_rows integer NOT NULL DEFAULT 0 CHECK (failed_rows >= 0),
    -- Rows that are not done: pending, claimed or processing.
    open_rows integer NOT NULL DEFAULT 0 CHECK (open_rows >= 0),
    -- No row with a lower number is pending. Null: no row is. It tells claims where to look, and where not to.
    first_pending_row integer,
    -- How many workers the orchestrator starts for it.
    max_concurrent_jobs integer NOT NULL DEFAULT 5 CHECK (max_concurrent_jobs BETWEEN 1 AND 1000),
    -- Infinity and NaN compare as greater than every number.
    processing_rate_rows_per_minute numeric(12, 2) CHECK (processing_rate_rows_per_minute BETWEEN 0 AND 9999999999.99),
    error_message text,
    metadata jsonb NOT NULL DEFAULT '{}',
    processing_started_at timestamptz,
    processing_completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (processed_rows = successful_rows + failed_rows),
    CHECK (isfinite(processing_started_at) AND isfinite(processing_completed_at) AND isfinite(created_at)),
    -- What is declared is never less than what is there.
    CHECK (total_rows::bigint >= processed_rows::bigint + open_rows),
    CHECK (status <> 'completed' OR open_rows = 0),
    -- An empty batch that waits for nothing is completed, so that progress can be divided by the total.
    CHECK (status NOT IN ('queued', 'processing') OR total_rows > 0)
)
-- The counters change with every row that is done: leave room for the new version on the same page.
WITH (fillfactor = 70);

-- One row of a file, and the work on it.
CREATE TABLE csv_row_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    batch_id uuid NOT NULL REFERENCES csv_batches (id) ON DELETE CASCADE,
    row_number integer NOT NULL CHECK (row_number > 0),
    -- A row that is too large to be read would hold up all workers. What counts is its text: 1e100000 is short in jsonb.
    row_data jsonb NOT NULL CHECK (octet_length(row_data::text) <= 1048576),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'claimed', 'processing', 'completed', 'failed')),
    trigger_text text,
    generated_prompts jsonb,
    generated_images jsonb,
    generated_tags jsonb,
    claimed_by text,
    claimed_at timestamptz,
    -- How often it was claimed. With the row it identifies a claim: a result that carries an old number is refused.
    claim_number integer NOT NULL DEFAULT 0 CHECK (claim_number >= 0),
    started_at timestamptz,
    completed_at timestamptz,
    processing_time_seconds numeric(10, 3) CHECK (processing_time_seconds BETWEEN 0 AND 9999999.999),
    retry_count integer NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    max_retries integer NOT NULL DEFAULT 3 CHECK (max_retries >= 0),
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (batch_id, row_number),
    -- What is held can expire.
    CHECK (status NOT IN ('claimed', 'processing') OR claimed_at IS NOT NULL)
);

-- The processes that work rows off.
CREATE TABLE csv_processing_workers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    instance_id text NOT NULL UNIQUE,
    -- Only this user's batches, or only this batch; null: any. There is no foreign key: a worker of a batch that was
    -- deleted gets nothing, instead of everybody's rows, and deletions do not wait for signs of life.
    user_id uuid,
    batch_id uuid,
    status text NOT NULL DEFAULT 'idle' CHECK (status IN ('idle', 'processing', 'stopped')),
    max_concurrent_jobs integer NOT NULL DEFAULT 1 CHECK (max_concurrent_jobs BETWEEN 1 AND 1000),
    current_job_count integer NOT NULL DEFAULT 0 CHECK (current_job_count >= 0),
    total_jobs_processed integer NOT NULL DEFAULT 0 CHECK (total_jobs_processed >= 0),
    total_jobs_failed integer NOT NULL DEFAULT 0 CHECK (total_jobs_failed >= 0),
    average_processing_seconds numeric(10, 3) CHECK (average_processing_seconds BETWEEN 0 AND 9999999.999),
    last_heartbeat timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz NOT NULL DEFAULT now(),
    stopped_at timestamptz,
    metadata jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE csv_processing_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id uuid REFERENCES csv_batches (id) ON DELETE CASCADE,
    row_job_id uuid REFERENCES csv_row_jobs (id) ON DELETE CASCADE,
    worker_instance_id text,
    log_level text NOT NULL DEFAULT 'INFO' CHECK (log_level IN ('DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL')),
    message text NOT NULL,
    operation text,
    details jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX idx_csv_batches_user_id ON csv_batches (user_id, created_at DESC);
CREATE INDEX idx_csv_batches_active ON csv_batches (created_at DESC) WHERE status IN ('queued', 'processing');
-- Where claims look, oldest first.
CREATE INDEX idx_csv_batches_claimable ON csv_batches (created_at, id)
    WHERE first_pending_row IS NOT NULL AND status IN ('uploaded', 'queued', 'processing');
CREATE INDEX idx_csv_batches_claimable_of_user ON csv_batches (user_id, created_at, id)
    WHERE first_pending_row IS NOT NULL AND status IN ('uploaded', 'queued', 'processing');
CREATE INDEX idx_csv_row_jobs_pending ON csv_row_jobs (batch_id, row_number) WHERE status = 'pending';
CREATE INDEX idx_csv_row_jobs_held ON csv_row_jobs (claimed_at) WHERE status IN ('claimed', 'processing');
CREATE INDEX idx_csv_row_jobs_held_of_batch ON csv_row_jobs (batch_id, claimed_at)
    WHERE status IN ('claimed', 'processing');
CREATE INDEX idx_csv_row_jobs_claimed_by ON csv_row_jobs (claimed_by) WHERE status IN ('claimed', 'processing');
CREATE INDEX idx_csv_row_jobs_failed ON csv_row_jobs (batch_id) WHERE status = 'failed';
CREATE INDEX idx_csv_workers_batch_id ON csv_processing_workers (batch_id);
CREATE INDEX idx_csv_workers_heartbeat ON csv_processing_workers (last_heartbeat) WHERE status <> 'stopped';
CREATE INDEX idx_csv_logs_batch_id ON csv_processing_logs (batch_id, created_at DESC);
CREATE INDEX idx_csv_logs_row_job_id ON csv_processing_logs (row_job_id);
CREATE INDEX idx_csv_logs_level ON csv_processing_logs (created_at DESC) WHERE log_level IN ('ERROR', 'FATAL');
