-- The buckets and who may reach their files. Files lie in a folder named for their user. On Supabase the tables of
-- storage are another's, and may have other columns or none of this: what cannot be made there is left to its
-- dashboard, with a notice.
DO $$
BEGIN
    -- A superuser would run the triggers of whoever made the tables.
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AND EXISTS (
        SELECT FROM pg_roles r WHERE NOT r.rolsuper AND r.oid IN (
            SELECT nspowner FROM pg_namespace WHERE nspname = 'storage'
            UNION ALL
            SELECT relowner FROM pg_class WHERE oid IN (to_regclass('storage.buckets'), to_regclass('storage.objects'))
            UNION ALL
            SELECT p.proowner FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
            WHERE t.tgrelid = to_regclass('storage.buckets')
            UNION ALL
            SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid = to_regclass('storage.buckets') AND a.privilege_type = 'TRIGGER')
        UNION ALL
        SELECT FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = to_regclass('storage.buckets') AND a.privilege_type = 'TRIGGER' AND a.grantee = 0)
    THEN
        RAISE EXCEPTION 'the schema storage belongs to a role that is no superuser'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO storage.buckets (id, name, public)
    SELECT * FROM (VALUES ('csv-uploads', 'csv-uploads', false), ('csv-templates', 'csv-templates', true))
        AS wanted (id, name, public)
    WHERE NOT EXISTS (SELECT FROM storage.buckets b WHERE b.id = wanted.id)
    ON CONFLICT DO NOTHING;
EXCEPTION WHEN insufficient_privilege OR invalid_schema_name OR undefined_table OR undefined_column
    OR undefined_function OR wrong_object_type OR datatype_mismatch OR not_null_violation OR check_violation
    OR object_not_in_prerequisite_state OR raise_exception THEN
    RAISE NOTICE 'the buckets of storage are not ours to make (%): add csv-uploads, and csv-templates as public, by hand',
        sqlerrm;
END $$;

DO $$
DECLARE
    -- Where the names are another's, they may hold '..': the first folder is then not where the file lies.
    own text := format('(storage.foldername(name))[1] = (SELECT %I.requesting_user_id())::text'
        ' AND name !~ ''(^|/)\.{0,2}(/|$)''', current_schema());
BEGIN
    EXECUTE format('CREATE POLICY csv_uploads_read ON storage.objects FOR SELECT TO authenticated
        USING (bucket_id = ''csv-uploads'' AND %s)', own);
    EXECUTE format('CREATE POLICY csv_uploads_add ON storage.objects FOR INSERT TO authenticated
        WITH CHECK (bucket_id = ''csv-uploads'' AND %s)', own);
    EXECUTE format('CREATE POLICY csv_uploads_change ON storage.objects FOR UPDATE TO authenticated
        USING (bucket_id = ''csv-uploads'' AND %1$s) WITH CHECK (bucket_id = ''csv-uploads'' AND %1$s)', own);
    EXECUTE format('CREATE POLICY csv_uploads_remove ON storage.objects FOR DELETE TO authenticated
        USING (bucket_id = ''csv-uploads'' AND %s)', own);
    EXECUTE 'CREATE POLICY csv_templates_read ON storage.objects FOR SELECT
        USING (bucket_id = ''csv-templates'')';
    EXECUTE format('CREATE POLICY csv_templates_add ON storage.objects FOR INSERT TO authenticated
        WITH CHECK (bucket_id = ''csv-templates'' AND %s)', own);
    EXECUTE 'CREATE POLICY csv_service ON storage.objects FOR ALL TO service_role
        USING (bucket_id IN (''csv-uploads'', ''csv-templates''))
        WITH CHECK (bucket_id IN (''csv-uploads'', ''csv-templates''))';
EXCEPTION WHEN insufficient_privilege OR invalid_schema_name OR undefined_table OR undefined_column
    OR undefined_function OR wrong_object_type OR datatype_mismatch OR duplicate_object
    OR object_not_in_prerequisite_state THEN
    RAISE NOTICE 'the policies of storage.objects are not ours to make (%): add those of the csv buckets by hand',
        sqlerrm;
END $$;
