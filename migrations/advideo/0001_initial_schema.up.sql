-- The checks beside those of the specification keep out what no reader of the tables expects: NaN, which compares as
-- greater than every number, quantities below zero, colours and currencies that are none, and metadata that is no object.
CREATE TABLE users (
    id SERIAL PRIMARY KEY,
    email VARCHAR(255) NOT NULL,
    password_hash VARCHAR(255) NOT NULL,
    full_name VARCHAR(255),

    -- Metadata
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    last_login_at TIMESTAMP WITH TIME ZONE,

    -- Soft delete
    deleted_at TIMESTAMP WITH TIME ZONE,

    -- The specification says UNIQUE twice for it
    CONSTRAINT users_email_unique UNIQUE(email)
);

CREATE INDEX idx_users_email ON users(email) WHERE deleted_at IS NULL;
CREATE INDEX idx_users_created_at ON users(created_at DESC);

-- Custom ENUMs for type safety
CREATE TYPE session_status AS ENUM (
    'created',              -- Session initialized
    'prompting',            -- User entering prompts
    'generating_images',    -- Image generation in progress
    'reviewing_images',     -- User selecting images
    'generating_videos',    -- Video generation in progress
    'reviewing_videos',     -- User selecting video clips
    'composing',            -- Final video composition
    'completed',            -- Final video ready
    'failed',               -- Generation failed
    'cancelled'             -- User cancelled
);

CREATE TYPE product_category AS ENUM (
    'footwear',
    'accessories',
    'electronics',
    'beauty',
    'apparel',
    'home',
    'other'
);

CREATE TABLE sessions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,

    -- Status tracking
    status session_status NOT NULL DEFAULT 'created',
    current_stage VARCHAR(50), -- 'prompt_parsing', 'image_gen', 'video_gen', 'composition'
    progress_percentage INTEGER DEFAULT 0 CHECK (progress_percentage >= 0 AND progress_percentage <= 100),

    -- Product information
    product_category product_category,
    user_product_prompt TEXT,
    user_video_prompt TEXT,

    -- Generation parameters (from Prompt Parser Agent)
    consistency_seed INTEGER,
    style_keywords TEXT[], -- Array of keywords

    -- Asset tracking (references to assets table)
    generated_image_ids UUID[] DEFAULT '{}',
    approved_image_ids UUID[] DEFAULT '{}',
    generated_clip_ids UUID[] DEFAULT '{}',
    approved_clip_ids UUID[] DEFAULT '{}',
    final_video_id UUID,

    -- Text overlay configuration
    product_name VARCHAR(100),
    call_to_action VARCHAR(100),
    text_color VARCHAR(7) CHECK (text_color ~ '^#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})$'), -- Hex color code
    text_font VARCHAR(50),

    -- Audio configuration
    background_music_enabled BOOLEAN DEFAULT FALSE,
    music_genre VARCHAR(50),
    music_url TEXT,

    -- Cost tracking
    total_cost DECIMAL(10, 4) DEFAULT 0.00 CHECK (total_cost < 'NaN'),
    estimated_cost DECIMAL(10, 4) CHECK (estimated_cost >= 0 AND estimated_cost < 'NaN'),

    -- Generation settings
    num_images_requested INTEGER DEFAULT 6 CHECK (num_images_requested >= 0),
    clip_duration_seconds DECIMAL(4, 2) DEFAULT 3.0 CHECK (clip_duration_seconds >= 0 AND clip_duration_seconds < 'NaN'),

    -- Error handling
    error_message TEXT,
    retry_count INTEGER DEFAULT 0 CHECK (retry_count >= 0),

    -- Timestamps
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    completed_at TIMESTAMP WITH TIME ZONE,
    deleted_at TIMESTAMP WITH TIME ZONE,

    -- Metadata (flexible JSONB for future additions)
    metadata JSONB DEFAULT '{}'::jsonb CHECK (jsonb_typeof(metadata) = 'object')
);

-- Indexes for performance
CREATE INDEX idx_sessions_user_id ON sessions(user_id) WHERE deleted_at IS NULL;
CREATE INDEX idx_sessions_status ON sessions(status) WHERE deleted_at IS NULL;
CREATE INDEX idx_sessions_created_at ON sessions(created_at DESC);
CREATE INDEX idx_sessions_updated_at ON sessions(updated_at DESC);
CREATE INDEX idx_sessions_product_category ON sessions(product_category);

-- GIN index for array searches
CREATE INDEX idx_sessions_approved_image_ids ON sessions USING GIN(approved_image_ids);
CREATE INDEX idx_sessions_approved_clip_ids ON sessions USING GIN(approved_clip_ids);
CREATE INDEX idx_sessions_style_keywords ON sessions USING GIN(style_keywords);

-- JSONB index for metadata queries
CREATE INDEX idx_sessions_metadata ON sessions USING GIN(metadata);

CREATE TYPE asset_type AS ENUM (
    'image',           -- Generated product image
    'video_clip',      -- Individual video clip
    'final_video',     -- Composed final video
    'audio'            -- Background music
);

CREATE TYPE asset_source AS ENUM (
    'flux-pro',
    'sdxl',
    'stable-video-diffusion',
    'runway-gen2',
    'musicgen',
    'ffmpeg',
    'user-upload'
);

CREATE TYPE asset_status AS ENUM (
    'generating',      -- API call in progress
    'completed',       -- Successfully generated
    'failed',          -- Generation failed
    'approved',        -- User approved in mood board
    'rejected'         -- User rejected
);

CREATE TABLE assets (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id UUID NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,

    -- Asset classification
    type asset_type NOT NULL,
    source asset_source NOT NULL,
    status asset_status NOT NULL DEFAULT 'generating',

    -- File information
    url TEXT NOT NULL,
    storage_path TEXT, -- Path in S3/R2
    file_size_bytes BIGINT CHECK (file_size_bytes >= 0),
    mime_type VARCHAR(100),

    -- Asset properties
    resolution VARCHAR(20), -- e.g., "1024x1024", "1920x1080"
    duration_seconds DECIMAL(6, 3) CHECK (duration_seconds >= 0 AND duration_seconds < 'NaN'), -- For videos/audio
    fps INTEGER CHECK (fps >= 0), -- For videos

    -- Generation metadata
    generation_cost DECIMAL(10, 4) DEFAULT 0.00 CHECK (generation_cost < 'NaN'),
    generation_time_seconds DECIMAL(8, 2) CHECK (generation_time_seconds >= 0 AND generation_time_seconds < 'NaN'),
    model_version VARCHAR(100),

    -- Image-specific fields
    view_type VARCHAR(50), -- 'front', 'side', 'back', 'detail', 'lifestyle'
    seed INTEGER, -- Consistency seed used
    guidance_scale DECIMAL(4, 2) CHECK (guidance_scale < 'NaN'),

    -- Video-specific fields
    source_image_id UUID REFERENCES assets(id), -- For video clips generated from images
    scene_prompt TEXT,
    camera_movement VARCHAR(50),
    motion_intensity DECIMAL(3, 2) CHECK (motion_intensity < 'NaN'),

    -- Prompt information
    generation_prompt TEXT,
    negative_prompt TEXT,

    -- User interaction
    user_selected BOOLEAN DEFAULT FALSE,
    selection_order INTEGER, -- Order in mood board

    -- Timestamps
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    deleted_at TIMESTAMP WITH TIME ZONE,

    -- Flexible metadata
    metadata JSONB DEFAULT '{}'::jsonb CHECK (jsonb_typeof(metadata) = 'object')
);

-- Indexes
CREATE INDEX idx_assets_session_id ON assets(session_id) WHERE deleted_at IS NULL;
CREATE INDEX idx_assets_type ON assets(type) WHERE deleted_at IS NULL;
CREATE INDEX idx_assets_status ON assets(status);
CREATE INDEX idx_assets_source ON assets(source);
CREATE INDEX idx_assets_user_selected ON assets(user_selected) WHERE user_selected = TRUE;
CREATE INDEX idx_assets_created_at ON assets(created_at DESC);
CREATE INDEX idx_assets_source_image_id ON assets(source_image_id) WHERE source_image_id IS NOT NULL;

-- GIN index for JSONB
CREATE INDEX idx_assets_metadata ON assets USING GIN(metadata);

CREATE TYPE cost_category AS ENUM (
    'llm',              -- Prompt parsing (Llama 3.1)
    'image_generation', -- Flux-Pro, SDXL
    'video_generation', -- Stable Video Diffusion, Runway
    'audio_generation', -- MusicGen
    'composition',      -- FFmpeg processing
    'storage',          -- S3/R2 costs
    'other'
);

CREATE TABLE generation_costs (
    id SERIAL PRIMARY KEY,
    session_id UUID NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    asset_id UUID REFERENCES assets(id) ON DELETE SET NULL,

    -- Cost details
    category cost_category NOT NULL,
    amount DECIMAL(10, 4) NOT NULL CHECK (amount < 'NaN'), -- Below zero: a refund
    currency VARCHAR(3) DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'), -- ISO 4217; totals add amounts as they are

    -- API details
    provider VARCHAR(50), -- 'replicate', 'openai', 'aws'
    model_name VARCHAR(100),
    api_call_id VARCHAR(255), -- External API transaction ID

    -- Usage metrics
    tokens_used INTEGER CHECK (tokens_used >= 0), -- For LLM calls
    seconds_processed DECIMAL(8, 2) CHECK (seconds_processed >= 0 AND seconds_processed < 'NaN'), -- For video/audio
    api_latency_ms INTEGER CHECK (api_latency_ms >= 0),

    -- Status
    success BOOLEAN DEFAULT TRUE,
    error_message TEXT,

    -- Timestamps
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),

    -- Metadata
    metadata JSONB DEFAULT '{}'::jsonb CHECK (jsonb_typeof(metadata) = 'object')
);

-- Indexes
CREATE INDEX idx_generation_costs_session_id ON generation_costs(session_id);
CREATE INDEX idx_generation_costs_asset_id ON generation_costs(asset_id);
CREATE INDEX idx_generation_costs_category ON generation_costs(category);
CREATE INDEX idx_generation_costs_created_at ON generation_costs(created_at DESC);
CREATE INDEX idx_generation_costs_provider ON generation_costs(provider);

CREATE TABLE websocket_connections (
    id SERIAL PRIMARY KEY,
    session_id UUID NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    connection_id VARCHAR(255) UNIQUE NOT NULL, -- WebSocket connection identifier

    -- Connection info
    client_ip VARCHAR(45),
    user_agent TEXT,

    -- Status
    connected_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    last_heartbeat_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    disconnected_at TIMESTAMP WITH TIME ZONE,

    -- Metadata
    metadata JSONB DEFAULT '{}'::jsonb CHECK (jsonb_typeof(metadata) = 'object')
);

-- Indexes
CREATE INDEX idx_websocket_session_id ON websocket_connections(session_id);
CREATE INDEX idx_websocket_connection_id ON websocket_connections(connection_id);
CREATE INDEX idx_websocket_active ON websocket_connections(session_id)
    WHERE disconnected_at IS NULL;
