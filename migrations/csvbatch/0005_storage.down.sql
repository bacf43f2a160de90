-- A bucket that holds files stays, and the foreign key says so.
DO $$
DECLARE
    policy text;
BEGIN
    FOR policy IN
        SELECT policyname FROM pg_policies
        WHERE schemaname = 'storage' AND tablename = 'objects' AND policyname ~ '^csv_(uploads|templates|service)'
    LOOP
        EXECUTE format('DROP POLICY %I ON storage.objects', policy);
    END LOOP;
END $$;
DELETE FROM storage.buckets WHERE id IN ('csv-uploads', 'csv-templates');
