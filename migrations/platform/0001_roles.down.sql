-- Drops the roles that were made here, unless another database of the cluster still uses them.
DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT rolname FROM pg_roles
        WHERE rolname IN ('anon', 'authenticated', 'service_role', 'service_account', 'admin')
          AND shobj_description(oid, 'pg_authid') LIKE '%(made by reeve)'
    LOOP
        BEGIN
            EXECUTE format('DROP ROLE %I', made.rolname);
        -- internal_error: a database that uses the role is just being dropped, and the server cannot name it.
        EXCEPTION WHEN dependent_objects_still_exist OR undefined_object OR internal_error THEN
            RAISE NOTICE 'the role % stays, for another database uses it', made.rolname;
        END;
    END LOOP;
END $$;
