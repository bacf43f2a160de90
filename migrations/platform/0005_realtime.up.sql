-- The publication from which changes are streamed to subscribers. Each system adds its own tables.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_publication WHERE pubname = 'supabase_realtime') THEN
        RAISE NOTICE 'the publication supabase_realtime is there already and stays as it is';
        RETURN;
    END IF;
    CREATE PUBLICATION supabase_realtime;
    COMMENT ON PUBLICATION supabase_realtime IS 'changes that subscribers see (made by reeve)';
END $$;
