-- Extensions that the systems use, in a schema of their own where they are not there yet.
DO $$
DECLARE
    extension text;
BEGIN
    FOREACH extension IN ARRAY ARRAY['uuid-ossp', 'pg_stat_statements'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = extension);
        IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = extension) THEN
            RAISE NOTICE 'the extension % is not available on this server', extension;
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('CREATE EXTENSION %I', extension);
            EXECUTE format('COMMENT ON EXTENSION %I IS %L', extension, 'made by reeve');
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'the extension % needs a superuser to be made', extension;
        END;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA extensions TO anon, authenticated, service_role, service_account, admin;
