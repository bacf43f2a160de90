DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_publication
        WHERE pubname = 'supabase_realtime' AND obj_description(oid, 'pg_publication') LIKE '%(made by reeve)')
    THEN
        DROP PUBLICATION supabase_realtime;
    END IF;
END $$;
