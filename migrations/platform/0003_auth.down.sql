DO $$
BEGIN
    IF obj_description(to_regnamespace('auth'), 'pg_namespace') LIKE '%(made by reeve)' THEN
        DROP FUNCTION auth.role(), auth.uid(), auth.jwt();
        DROP SCHEMA auth;
    END IF;
END $$;
