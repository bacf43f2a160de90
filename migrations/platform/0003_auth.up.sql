-- The schema auth as far as the systems need it. Where it is there already, as on Supabase, it is another's and
-- nothing is made in it.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'auth') THEN
        RAISE NOTICE 'the schema auth is there already and stays as it is';
        RETURN;
    END IF;
    CREATE SCHEMA auth;
    COMMENT ON SCHEMA auth IS 'who asks, as the API gateway tells (made by reeve)';
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, service_account, admin;

    EXECUTE $sql$
        CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
            SELECT coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb
        $$
    $sql$;
    EXECUTE $sql$
        CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
            SELECT nullif(auth.jwt() ->> 'sub', '')::uuid
        $$
    $sql$;
    EXECUTE $sql$
        CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
            SELECT coalesce(nullif(auth.jwt() ->> 'role', ''), current_user)
        $$
    $sql$;
    COMMENT ON FUNCTION auth.jwt() IS 'the claims of the verified token, which the API gateway sets';
    COMMENT ON FUNCTION auth.uid() IS 'the user whom the token names';
    COMMENT ON FUNCTION auth.role() IS 'the role that the token names, or else the database''s own';
END $do$;
