-- The roles under which applications speak to the database. Roles belong to the whole cluster: those that are
-- there already (made by another stack, or for another database) are left as they are.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('anon', 'anonymous public access'),
            ('authenticated', 'logged-in users'),
            ('service_role', 'the back end of the applications'),
            ('service_account', 'back-end services'),
            ('admin', 'full access to the applications')) AS roles (name, purpose)
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted.name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.purpose || ' (made by reeve)');
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            -- Another database's migration made it at the same moment.
            NULL;
        END;
    END LOOP;
END $$;
