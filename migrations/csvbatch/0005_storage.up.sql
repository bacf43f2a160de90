-- The buckets and who may reach their files. Files lie in a folder named for their user. On Supabase the tables of
-- storage are another's: what is not permitted there is left to its dashboard, with a notice.
INSERT INTO storage.buckets (id, name, public)
VALUES ('csv-uploads', 'csv-uploads', false), ('csv-templates', 'csv-templates', true)
ON CONFLICT (id) DO NOTHING;

DO $$
DECLARE
    own text := format('(storage.foldername(name))[1] = (SELECT %I.requesting_user_id())::text', current_schema());
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
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'the policies of storage.objects are not ours to make; add those of the csv buckets by hand';
END $$;
