-- The schema storage as far as the systems need it: buckets, objects and who may reach them. Where it is there
-- already, as on Supabase, it is another's and nothing is made in it.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'storage') THEN
        RAISE NOTICE 'the schema storage is there already and stays as it is';
        RETURN;
    END IF;
    CREATE SCHEMA storage;
    COMMENT ON SCHEMA storage IS 'files and who may reach them (made by reeve)';
    GRANT USAGE ON SCHEMA storage TO anon, authenticated, service_role, service_account, admin;

    CREATE TABLE storage.buckets (
        id text PRIMARY KEY,
        name text NOT NULL UNIQUE,
        public boolean NOT NULL DEFAULT false,
        file_size_limit bigint CHECK (file_size_limit > 0),
        allowed_mime_types text[],
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE storage.objects (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        bucket_id text NOT NULL REFERENCES storage.buckets (id),
        -- Folders and a file, as one path that stays in its folder: policies go by the first folder.
        name text NOT NULL CHECK (
            length(name) <= 1024
            AND name !~ '(^|/)\.{0,2}(/|$)'
            AND name !~ '[\x01-\x1f\x7f-\x9f\\]'),
        owner uuid,
        metadata jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (bucket_id, name)
    );
    ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
    ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON storage.buckets TO anon, authenticated;
    -- The owner and the times are not for users to say.
    GRANT SELECT, DELETE ON storage.objects TO anon, authenticated;
    GRANT INSERT (id, bucket_id, name, metadata), UPDATE (bucket_id, name, metadata)
        ON storage.objects TO anon, authenticated;
    GRANT SELECT, INSERT, UPDATE, DELETE ON storage.buckets, storage.objects TO service_role, service_account, admin;
    EXECUTE 'CREATE POLICY buckets_are_known ON storage.buckets FOR SELECT USING (true)';
    EXECUTE 'CREATE POLICY buckets_managed ON storage.buckets FOR ALL
        TO service_role, admin USING (true) WITH CHECK (true)';

    EXECUTE $sql$
        CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT
        SET search_path = pg_catalog, pg_temp AS $$
            SELECT (string_to_array(name, '/'))[1 : array_length(string_to_array(name, '/'), 1) - 1]
        $$
    $sql$;
    EXECUTE $sql$
        CREATE FUNCTION storage.filename(name text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
        SET search_path = pg_catalog, pg_temp AS $$
            SELECT (string_to_array(name, '/'))[array_length(string_to_array(name, '/'), 1)]
        $$
    $sql$;
    COMMENT ON FUNCTION storage.foldername(text) IS 'the folders of an object''s name, outermost first';
    COMMENT ON FUNCTION storage.filename(text) IS 'the last part of an object''s name';
END $do$;
