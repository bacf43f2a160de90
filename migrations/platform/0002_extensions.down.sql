DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT extname FROM pg_extension
        WHERE extname IN ('uuid-ossp', 'pg_stat_statements') AND obj_description(oid, 'pg_extension') = 'made by reeve'
    LOOP
        EXECUTE format('DROP EXTENSION %I', made.extname);
    END LOOP;
END $$;

REVOKE USAGE ON SCHEMA extensions FROM anon, authenticated, service_role, service_account, admin;
